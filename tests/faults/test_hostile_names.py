"""Names of tensors, nodes, files and models that a shell, a terminal, a browser or a parser could take for orders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import Calibration
from edgeport.onnx_files import open_onnx, read_ir

EVIL = (
    "-rf $(touch pwned) `touch pwned` \"q\" 'q' \\ \n\r\t\x1b[31m\x1b]0;t\x07 "
    "</script><img src=x onerror=alert(1)> ../\u202e%s{0}"
)
FILE = "-rf $(touch pwned) `touch pwned` \"q\" 'q' \\ \n\x1b[31m <img src=x> %s{0}.onnx"
"""What a name may hold where it also names a file, which has no slashes."""
RECIPE = """\
model.source = {model}
data.evaluation = "evaluation.npz"
[[target]]
backend = "onnxruntime"
precisions = ["fp32"]
[search]
duration_s = 0.02
screening_rounds = 1
"""


def _dressed(name: str) -> str:
    return f"{EVIL}{name}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose model's every name is hostile, its file's too."""
    folder = tmp_path / "project"
    folder.mkdir()
    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", [_dressed("x"), _dressed("w")], [_dressed("y")], name=_dressed("n"))],
        _dressed("graph"),
        [helper.make_tensor_value_info(_dressed("x"), TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info(_dressed("y"), TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, _dressed("w"))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (folder / FILE).write_bytes(model.SerializeToString())
    samples = np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
    api_npz(folder / "evaluation.npz", {_dressed("x"): samples})
    (folder / "net.toml").write_text(RECIPE.format(model=json.dumps(FILE)), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EDGEPORT_STORE", str(tmp_path / "store"))
    return folder


def api_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    from edgeport.npz import save_npz

    save_npz(path, arrays)


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]):
    """Runs a command and returns what it printed, after a look for what a terminal would obey."""
    from edgeport.cli.app import run

    def call(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run([*words, "-q"]) == code, capsys.readouterr().err
        printed = capsys.readouterr()
        for text in (printed.out, printed.err):
            assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)
        return printed.out

    return call


def _no_harm(folder: Path) -> None:
    assert all(path.name != "pwned" for path in folder.parent.rglob("*"))


def test_names_go_through_the_single_steps_byte_by_byte(folder, shown):
    names = [_dressed("x"), _dressed("y")]
    assert [spec.name for spec in open_onnx(folder / FILE).inputs] == names[:1]

    shown("calibrate", f"./{FILE}", "evaluation.npz", "-o", "made.safetensors")
    assert set(Calibration.load(folder / "made.safetensors").statistics) == set(names)
    shown("quantize", f"./{FILE}", "--calibration", "made.safetensors", "-o", "made")
    artifact = read_ir(folder / "made" / "artifact" / "model.onnx").graph
    assert [value.name for value in (*artifact.inputs, *artifact.outputs)] == names
    told = shown("bench", "made", "--rounds", "1", "--duration", "0.02", "--samples", "evaluation.npz", code=4)
    assert "made (onnxruntime int8)" in told

    json.loads(shown("bench", f"./{FILE}", "--rounds", "1", "--duration", "0.02", "--json", code=4))
    _no_harm(folder)


def test_names_in_errors_are_escaped(folder, shown, capsys):
    from edgeport.cli.app import run

    proto = onnx.load(folder / FILE)
    proto.graph.node[0].input[1] = _dressed("nowhere")
    (folder / FILE).write_bytes(proto.SerializeToString())
    capsys.readouterr()
    assert run(["calibrate", f"./{FILE}", "evaluation.npz", "-q"]) == 1
    told = capsys.readouterr().err
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(told)
    assert "which nothing produces" in " ".join(told.split())


def test_names_go_through_a_run_into_bundle_and_report(folder, shown):
    shown("run", "net.toml", "-o", "out", code=4)
    result = json.loads((folder / "out" / "result.json").read_text(encoding="utf-8"))
    assert [spec["name"] for spec in result["model"]["inputs"]] == [_dressed("x")]
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "</script><img" not in page
    assert not {"\x1b", "\x07", "\u202e"} & set(page)
    _no_harm(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["evaluation.npz", "net.toml", "out", FILE])
