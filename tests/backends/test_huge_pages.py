"""Memory in huge pages: what the sessions of both runtimes move, when, and what they leave alone."""

from __future__ import annotations

import ctypes
import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.backends.onnxruntime import session as onnxruntime
from edgeport.backends.onnxruntime.session_support.runtime_session import _MovingSession
from edgeport.backends.openvino import create_backend
from edgeport.backends.openvino import session as openvino
from edgeport.backends.openvino.execution_options import execution_settings
from edgeport.backends.session_support import huge_pages
from edgeport.contracts import ExecutionConfig
from edgeport.devices.agent.probing import probe_device

NO_OPENVINO = pytest.mark.skipif(not create_backend().capabilities().can_run, reason="OpenVINO does not run here")
GIVEN = probe_device()["huge_pages"]
needs_huge_pages = pytest.mark.skipif(
    GIVEN != "madvise", reason=f"huge pages are given {GIVEN or 'never at once'}, not when asked"
)
INNER, OUTER = 2560, 4096
WEIGHT_BYTES = 4 * INNER * OUTER


@pytest.fixture(params=[onnxruntime, pytest.param(openvino, marks=NO_OPENVINO)], ids=["onnxruntime", "openvino"])
def module(request):
    """A session module."""
    return request.param


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """y = x @ w, with 42 MB of weights."""
    weight = np.random.default_rng(0).standard_normal((INNER, OUTER), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", INNER])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", OUTER])],
        [numpy_helper.from_array(weight, "w")],
    )
    file = tmp_path_factory.mktemp("huge") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    return file


def feeds(rows: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.linspace(-1, 1, rows * INNER, dtype=np.float32).reshape(rows, INNER)}


def ran(call) -> np.ndarray:
    call.run()
    return call.outputs()["y"]


@pytest.fixture
def moved(monkeypatch) -> Mock:
    """Stands for what moves the memory."""
    stand_in = Mock()
    monkeypatch.setattr(huge_pages, "into_huge_pages", stand_in)
    return stand_in


@needs_huge_pages
def test_weights_lie_in_huge_pages_from_the_second_run_on(module, path):
    plain = module.open_session(str(path), {"threads": 1})
    expected = ran(plain.bind(feeds()))
    plain.close()
    session = module.open_session(str(path), {"threads": 1, "huge_pages": True})
    call = session.bind(feeds())
    first, before = ran(call), huge_pages.bytes_in_huge_pages()
    second, after = ran(call), huge_pages.bytes_in_huge_pages()
    assert after - before > WEIGHT_BYTES / 2
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    session.close()


@pytest.mark.parametrize("settings", [{}, {"streams": 2}], ids=["one stream", "two streams"])
def test_it_happens_once_for_each_model_and_calls_of_several_threads_give_the_same(module, path, settings, moved):
    session = module.open_session(str(path), {"threads": 1, "huge_pages": True, **settings})
    calls = [session.bind(feeds()) for _ in range(4)]
    expected = ran(calls[0])
    moved.assert_not_called()  # the first takes what it takes without
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found in pool.map(ran, calls):
                np.testing.assert_allclose(found, expected, rtol=1e-5)
    moved.assert_called_once_with()
    session.close()


def test_nothing_moves_unless_it_is_asked_for(module, path, moved):
    session = module.open_session(str(path), {"threads": 1})
    call = session.bind(feeds())
    for _ in range(3):
        call.run()
    moved.assert_not_called()
    session.close()


def test_once_it_is_moved_nothing_stands_between_a_call_and_the_runtime(monkeypatch):
    monkeypatch.setattr(huge_pages, "into_huge_pages", Mock())
    session = Mock()
    moving = _MovingSession(session)
    moving.run(["y"], {})
    assert moving.run != session.run
    moving.run_with_iobinding("binding")
    assert moving.run is session.run
    assert moving.run_with_iobinding is session.run_with_iobinding
    session.run.assert_called_once_with(["y"], {})
    session.run_with_iobinding.assert_called_once_with("binding")


def test_a_run_that_fails_is_not_the_first(monkeypatch):
    stand_in = Mock()
    monkeypatch.setattr(huge_pages, "into_huge_pages", stand_in)
    moving = _MovingSession(Mock(run=Mock(side_effect=[RuntimeError, "found", "found"])))
    with pytest.raises(RuntimeError):
        moving.run()
    moving.run()
    stand_in.assert_not_called()
    moving.run()
    stand_in.assert_called_once_with()


@NO_OPENVINO
def test_each_size_of_batch_is_a_model_of_its_own_to_openvino(path, monkeypatch):
    stand_in = Mock()
    monkeypatch.setattr(huge_pages, "into_huge_pages", stand_in)
    session = openvino.open_session(str(path), {"threads": 1, "huge_pages": True})
    for rows in (1, 2):
        call = session.bind(feeds(rows))
        for _ in range(3):
            call.run()
    assert stand_in.call_count == 2
    session.close()


def test_each_stage_of_a_pipeline_moves_its_own(small_onnx, save_onnx, monkeypatch):
    stand_in = Mock()
    monkeypatch.setattr(huge_pages, "into_huge_pages", stand_in)
    file = save_onnx(small_onnx)
    settings = {"stages": [{"entry": file.name, "huge_pages": True}], "outputs": ["y"]}
    pipeline = onnxruntime.open_session(file, settings)
    call = pipeline.bind({"x": np.ones((1, 3), np.float32)})
    for _ in range(3):
        call.run()
    stand_in.assert_called_once_with()
    pipeline.close()


@needs_huge_pages
def test_only_what_is_in_use_and_private_moves(tmp_path):
    """Of an anonymous mapping those parts that are half full; a file's mapping never."""
    file = tmp_path / "weights"
    file.write_bytes(bytes(16 << 20))
    size = 64 << 20
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with file.open("r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE)
        mapped[:] = bytes([1]) * len(mapped)  # pages of its own
        memory = mmap.mmap(-1, size, flags=flags)
        memory[:: 1 << 20] = bytes([1]) * (size >> 20)
        huge_pages.into_huge_pages()  # what else there is
        before = huge_pages.bytes_in_huge_pages()
        huge_pages.into_huge_pages()
        sparse = huge_pages.bytes_in_huge_pages() - before
        memory[:] = bytes([1]) * size
        huge_pages.into_huge_pages()
        full = huge_pages.bytes_in_huge_pages() - before
        starts = set(huge_pages._page_starts(2 << 20))
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    assert abs(sparse) <= 8 << 20
    assert full > size / 2
    assert starts.isdisjoint(range(-(-address // (2 << 20)) * (2 << 20), address + len(mapped), 2 << 20))


MAPS = """\
00200000-00600000 rw-p 00000000 00:00 0
00a00000-00e00000 rw-p 00000000 00:00 0                                  [heap]
013ff000-01a01000 rw-p 00000000 00:00 0                                  [anon:arena]
02001000-023ff000 rw-p 00000000 00:00 0
04000000-04400000 r--p 00000000 00:00 0
05000000-05400000 rw-s 00000000 00:00 0
06000000-06400000 rw-p 00000000 08:01 131                                /opt/weights of a net
07000000-07400000 rw-p 00000000 00:00 0                                  [stack]
"""


def test_blocks_are_whole_pages_of_private_memory_without_a_file(monkeypatch, tmp_path):
    (tmp_path / "maps").write_text(MAPS)
    monkeypatch.setattr(huge_pages, "open", lambda _, **words: (tmp_path / "maps").open(**words), raising=False)
    plain, heap, named = [0x200000, 0x400000], [0xA00000, 0xC00000], [0x1400000, 0x1600000, 0x1800000]
    assert list(huge_pages._page_starts(2 << 20)) == [*plain, *heap, *named]


@pytest.mark.parametrize(
    "enabled", [pytest.param("always madvise [never]", id="never"), pytest.param(None, id="another system")]
)
def test_where_the_system_has_none_nothing_happens(enabled, monkeypatch, tmp_path):
    loaded = Mock()
    monkeypatch.setattr(ctypes, "CDLL", loaded)
    monkeypatch.setattr(huge_pages, "_THP", f"{tmp_path}/")
    if enabled is not None:
        (tmp_path / "enabled").write_text(enabled)
        (tmp_path / "hpage_pmd_size").write_text("2097152\n")
    huge_pages.into_huge_pages()
    loaded.assert_not_called()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system tells no process what memory it has")
def test_a_kernel_that_refuses_is_no_error(module, path, monkeypatch, tmp_path):
    """It was asked, for whole pages that are in use; what is computed stays the same."""
    (tmp_path / "enabled").write_text("always [madvise] never")
    (tmp_path / "hpage_pmd_size").write_text(f"{2 << 20}\n")

    def in_use(where: ctypes.c_void_p, length: ctypes.c_size_t, told: ctypes.c_void_p) -> int:
        del where
        ctypes.memset(told, 1, length.value // mmap.PAGESIZE)
        return 0

    libc = Mock(mincore=Mock(side_effect=in_use), madvise=Mock(return_value=-1))
    session = module.open_session(str(path), {"threads": 1, "huge_pages": True})
    call = session.bind(feeds())
    first = ran(call)
    monkeypatch.setattr(huge_pages, "_THP", f"{tmp_path}/")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    np.testing.assert_array_equal(ran(call), first)
    session.close()
    asked = [
        (where.value % (2 << 20), length.value, advice) for (where, length, advice), _ in libc.madvise.call_args_list
    ]
    assert len(asked) > WEIGHT_BYTES // (4 << 20)
    assert set(asked) == {(0, 2 << 20, 25)}  # MADV_COLLAPSE


def test_the_setting_reaches_openvino_and_its_absence_changes_nothing():
    assert execution_settings(ExecutionConfig(huge_pages=True))["huge_pages"] is True
    assert "huge_pages" not in execution_settings(ExecutionConfig())
