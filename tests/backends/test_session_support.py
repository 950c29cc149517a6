"""Session modules as the one file that ships, and what they share."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import numpy as np
import pytest

from edgeport.backends.session_support.affinity import keep_to
from edgeport.module_files import module_file, standalone_source

SESSIONS = [f"edgeport.backends.{name}.session" for name in ("onnxruntime", "openvino", "tensorrt")]
RUNTIMES = {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx_bindings", "tensorrt_rtx_libs"}
RUN = """import importlib.util, sys
class Nothing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "edgeport":
            raise AssertionError(name)
sys.meta_path.insert(0, Nothing())
spec = importlib.util.spec_from_file_location("shipped", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import numpy as np
session = module.open_session(sys.argv[2], eval(sys.argv[3]))
call = session.bind({"x": np.ones((1, 3), np.float32)})
call.run()
print(call.outputs()["y"].tolist())
session.close()
"""


def source_of(session: str) -> bytes:
    file = module_file(session)
    assert file is not None
    return standalone_source(file)


@pytest.mark.parametrize("session", SESSIONS)
def test_one_file_of_python_3_8_that_imports_the_runtime_and_nothing_of_ours(session):
    tree = ast.parse(source_of(session), feature_version=(3, 8))
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"numpy", "__future__", *RUNTIMES, *sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in imports} <= allowed


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"threads": 1}, id="one stream"),
        pytest.param({"threads": 1, "streams": 2, "huge_pages": True}, id="streams"),
        pytest.param({"stages": [{"entry": "model.onnx"}], "outputs": ["y"]}, id="pipeline"),
        pytest.param({"stages": [{"entry": "model.onnx"}], "outputs": ["y"], "processes": True}, id="processes"),
    ],
)
def test_it_runs_where_nothing_of_ours_is_installed(settings, small_onnx, save_onnx, tmp_path):
    pytest.importorskip("onnxruntime")
    file = tmp_path / "session.py"
    file.write_bytes(source_of(SESSIONS[0]))
    path = save_onnx(small_onnx)
    words = [sys.executable, "-c", RUN, str(file), str(path), repr(settings)]
    told = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    from edgeport.backends.onnxruntime.session import open_session

    session = open_session(path, {"threads": 1})
    call = session.bind({"x": np.ones((1, 3), np.float32)})
    call.run()
    np.testing.assert_allclose(np.array(eval(told.stdout)), call.outputs()["y"], rtol=1e-6)
    session.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
@pytest.mark.parametrize("absent", [-1, 1000, 1 << 40])
def test_processors_that_are_not_here_are_said(absent):
    here = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError, match=rf"asked to run on processors .*; found that {absent} can't be had here"):
        keep_to([min(here), absent])
    assert os.sched_getaffinity(0) == here
