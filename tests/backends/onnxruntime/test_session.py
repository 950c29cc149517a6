from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeport.backends.onnxruntime.execution_options import places_of, provider_settings
from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.onnxruntime.session import open_session
from edgeport.backends.onnxruntime.session_support.providers import known_providers, unusable_plug_ins
from edgeport.backends.onnxruntime.session_support.runtime_session import session_options
from edgeport.contracts import ExecutionConfig
from edgeport.errors import BackendError, SamplesError, UnsupportedByBackend


@pytest.fixture
def path(small_onnx, save_onnx):
    return save_onnx(small_onnx)


@pytest.fixture
def session(path):
    session = open_session(path, {"threads": 1})
    yield session
    session.close()


def feeds(rows: int = 2) -> dict[str, np.ndarray]:
    return {"x": np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)}


def expected(rows: int = 2) -> np.ndarray:
    return np.maximum(feeds(rows)["x"] @ np.arange(12, dtype=np.float32).reshape(3, 4), 0)


def test_a_call_runs_on_what_was_bound(session):
    given = feeds()
    call = session.bind(given)
    given["x"][:] = 0  # the caller may use his array again
    call.run()
    np.testing.assert_allclose(call.outputs()["y"], expected())


def test_calls_of_one_session_do_not_disturb_each_other(session):
    first, second = session.bind(feeds(2)), session.bind(feeds(5))
    first.run()
    second.run()
    np.testing.assert_allclose(first.outputs()["y"], expected(2))
    np.testing.assert_allclose(second.outputs()["y"], expected(5))


@pytest.mark.parametrize(
    ("settings", "sessions"),
    [
        pytest.param({"threads": 1}, 1, id="one thread each share the weights"),
        pytest.param({"threads": 2}, 3, id="several threads each"),
        pytest.param({"threads": 2, "cores": [[0], [0], [0]]}, 3, id="pinned"),
    ],
)
def test_streams_give_what_one_gives(path, settings, sessions):
    opened = open_session(path, {**settings, "streams": 3})
    assert len(opened._sessions) == sessions
    calls = [opened.bind(feeds(rows)) for rows in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda call: call.run(), calls))
    for rows, call in enumerate(calls, 1):
        np.testing.assert_allclose(call.outputs()["y"], expected(rows))
    found = list(opened.stream(feeds(rows) for rows in range(1, 20)))
    assert [len(one["y"]) for one in found] == list(range(1, 20))
    opened.close()
    with pytest.raises(RuntimeError, match="closed"):
        opened.bind(feeds())


def test_a_pinned_stream_keeps_the_thread_that_runs_it(path):
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("no affinity here")
    core = max(os.sched_getaffinity(0))
    opened = open_session(path, {"streams": 1, "cores": [[core]]})

    def run() -> set[int]:
        opened.bind(feeds()).run()
        return os.sched_getaffinity(0)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result() == {core}
    opened.close()


def test_arrays_of_any_layout_are_taken(session):
    call = session.bind({"x": np.asfortranarray(feeds()["x"])})
    call.run()
    np.testing.assert_allclose(call.outputs()["y"], expected())


def test_outputs_before_a_run(session):
    with pytest.raises(RuntimeError, match="call run"):
        session.bind(feeds()).outputs()


def test_names_what_does_not_fit(session):
    with pytest.raises(ValueError, match=r"asked to feed 'x' as float64; found that it takes float32"):
        session.bind({"x": feeds()["x"].astype(np.float64)})
    with pytest.raises(ValueError, match=r"asked to feed 'x' in shape \[2, 2\]; found that it takes \['batch', 3\]"):
        session.bind({"x": feeds()["x"][:, :2]})


def test_settings_reach_the_runtime():
    options = session_options({"threads": 3, "spinning": False, "optimization": "basic", "config": {"a.b": 1}})
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("a.b") == "1"
    assert "BASIC" in str(options.graph_optimization_level)


@pytest.mark.parametrize("settings", [{"thread": 1}, {"optimization": "most"}], ids=["unknown", "level"])
def test_settings_that_there_are_not(settings, path):
    with pytest.raises(ValueError, match="asked to open a session"):
        open_session(path, settings)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_affinity_holds_for_the_process_that_opens(path):
    # In a process of its own: it would bind the tests too.
    code = f"""
import os
from edgeport.backends.onnxruntime.session import open_session
from edgeport.backends.onnxruntime.session_support.runtime_session import session_options
cpu = min(os.sched_getaffinity(0))
assert session_options({{"affinity": [cpu]}}).intra_op_num_threads == 1
open_session({str(path)!r}, {{"affinity": [cpu]}})
assert os.sched_getaffinity(0) == {{cpu}}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reference_runs_and_refuses(path):
    with open_reference(path) as run:
        np.testing.assert_allclose(run(feeds())["y"], expected())
        with pytest.raises(SamplesError, match="float64"):
            run({"x": feeds()["x"].astype(np.float64)})


def test_reference_says_what_the_runtime_refused(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(BackendError, match=r"broken\.onnx"), open_reference(tmp_path / "broken.onnx"):
        pass


def test_a_provider_is_found_by_its_short_name_and_given_its_options():
    known = ("AzureExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider", "ggml")
    assert provider_settings("", known) == provider_settings("cpu", known) == {}
    assert provider_settings("CUDA:device_id=1,use_tf32=0", known) == {
        "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        "provider_options": {"device_id": "1", "use_tf32": "0"},
    }
    assert provider_settings("GGML", known) == {"providers": ["ggml", "CPUExecutionProvider"]}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        pytest.param("ROCM", "found providers CPUExecutionProvider; install the package that has it", id="unknown"),
        pytest.param("CPU:fast", "found 'fast', which is no option of CPUExecutionProvider", id="no option"),
    ],
)
def test_a_provider_that_is_not_there_is_refused(asked, said):
    with pytest.raises(UnsupportedByBackend, match=re.escape(said)):
        provider_settings(asked, ["CPUExecutionProvider"])


def test_a_provider_that_the_runtime_leaves_out_is_an_error(path, monkeypatch):
    """As onnxruntime-gpu does where CUDA's libraries are missing: it opens the model on the CPU, and prints a line."""
    monkeypatch.setattr(
        "onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        "onnxruntime.InferenceSession",
        lambda *given, **named: real(*given, **{**named, "providers": ["CPUExecutionProvider"]}),
    )
    with pytest.raises(RuntimeError, match="run on CUDAExecutionProvider; found that ONNX Runtime left it out"):
        open_session(path, {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]})


class TestPlugIns:
    """Providers of libraries beside the runtime; the runtime's calls that load them are stood in for."""

    @pytest.fixture
    def loaded(self, monkeypatch):
        loaded = {}
        devices = [SimpleNamespace(ep_name="CPUExecutionProvider"), SimpleNamespace(ep_name="Mine")]
        monkeypatch.setattr("onnxruntime.register_execution_provider_library", loaded.__setitem__)
        monkeypatch.setattr(
            "onnxruntime.get_ep_devices",
            lambda: [one for one in devices if one.ep_name in {"CPUExecutionProvider", *loaded}],
        )
        monkeypatch.setattr("edgeport.backends.onnxruntime.session_support.providers._registered", {})
        return loaded

    def test_named_by_the_environment(self, loaded, monkeypatch):
        monkeypatch.setenv("EDGEPORT_ORT_LIBRARIES", os.pathsep.join(("Mine=/lib/mine.so", "Blind=/lib/blind.so")))
        known = known_providers()
        assert "Mine" in known
        assert "Blind" not in known
        assert loaded == {"Mine": "/lib/mine.so", "Blind": "/lib/blind.so"}

    def test_in_a_package(self, loaded, monkeypatch, tmp_path, path):
        (tmp_path / "onnxruntime_ep_mine.py").write_text(
            "def get_library_path():\n    return '/lib/ep.so'\ndef get_ep_names():\n    return ['Mine']\n"
        )
        (tmp_path / "onnxruntime_ep_broken.py").write_text("raise OSError('no library')\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert "Mine" in known_providers()
        assert loaded == {"Mine": "/lib/ep.so"}
        said = "that the package does not import: OSError: no library"
        assert unusable_plug_ins() == {"onnxruntime_ep_broken": said}
        with pytest.raises(RuntimeError, match=f"found providers .*Mine, and of onnxruntime_ep_broken {said}; "):
            open_session(path, {"providers": ["Broken"]})

    def test_one_that_sees_no_device_says_so(self, loaded, monkeypatch, path):
        monkeypatch.setenv("EDGEPORT_ORT_LIBRARIES", "Blind=/lib/blind.so")
        with pytest.raises(RuntimeError, match=r"found no device here that its library \(blind.so\) takes"):
            open_session(path, {"providers": ["Blind"]})

    def test_one_whose_library_does_not_load_says_so(self, loaded, monkeypatch, path):
        def fail(name, library):
            raise RuntimeError(f"cannot open {library}")

        monkeypatch.setattr("onnxruntime.register_execution_provider_library", fail)
        monkeypatch.setenv("EDGEPORT_ORT_LIBRARIES", "Mine=/lib/mine.so")
        assert "Mine" not in known_providers()
        said = r"its library \(/lib/mine.so\) does not load: cannot open"
        with pytest.raises(RuntimeError, match=said):
            open_session(path, {"providers": ["Mine"]})
        with pytest.raises(UnsupportedByBackend, match=said):
            places_of(ExecutionConfig(runtime_device="Mine"))

    def test_one_that_is_not_there(self, loaded, path):
        with pytest.raises(RuntimeError, match=r"run on Mine; found providers .*; install the package that has it"):
            open_session(path, {"providers": ["Mine"]})
        assert not loaded


@pytest.fixture
def text_path(save_onnx):
    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        net (string[batch] x, float[batch] w) => (string[batch] y, float[batch] z)
        { y = StringConcat(x, x) z = Neg(w) }
    """
    return save_onnx(onnx.parser.parse_model(text))


@pytest.mark.parametrize(
    "settings",
    [pytest.param({"threads": 1}, id="session"), pytest.param({"streams": 2, "threads": 1}, id="streams")],
)
def test_text_is_fed_and_given_as_files_hold_it(text_path, settings):
    session = open_session(text_path, settings)
    for words in (np.array(["a", "bcd"]), np.array(["é", ""], object)):
        call = session.bind({"x": words, "w": np.ones(2, np.float32)})
        call.run()
        outputs = call.outputs()
        assert outputs["y"].dtype.kind == "U"
        assert outputs["y"].tolist() == [word + word for word in words.tolist()]
        np.testing.assert_array_equal(outputs["z"], -np.ones(2, np.float32))
    with pytest.raises(ValueError, match=re.escape("asked to feed 'x' as int64; found that it takes tensor(string)")):
        session.bind({"x": np.array([1, 2]), "w": np.ones(2, np.float32)})
    session.close()


def test_reference_runs_text(text_path):
    with open_reference(text_path) as run:
        outputs = run({"x": np.array(["a", "b"]), "w": np.ones(2, np.float32)})
    np.testing.assert_array_equal(outputs["y"], np.array(["aa", "bb"]))
