"""What people get wrong, command by command: each message says what was asked, what was found and what to do, once."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

FUNCTION = """\
import numpy as np

def bad():
    yield {"images": np.ones((3, 8), np.float32)}
    raise RuntimeError("no disk")
"""
RECIPE = 'model.source = "net.onnx"\ndata.evaluation = "s.npz"\ndata.target = "label"\ndata.calibration = "c.npz"\n'


@dataclass(frozen=True, kw_only=True)
class Mistake:
    line: str
    found: str
    fix: str
    code: str = "SAMPLES_INVALID"
    exit_code: int = 1


def usage(line: str, found: str, fix: str) -> Mistake:
    return Mistake(line=line, found=found, fix=fix, code="USAGE", exit_code=2)


NO_ONNX, OUTPUT = "MODEL_FORMAT", "OUTPUT_REFUSED"

MISTAKES = [
    usage("calibrate nett.onnx s.npz", "'nett.onnx' does not exist", "did you mean 'net.onnx'?"),
    usage("calibrate folder.onnx s.npz", "is a directory", "--help"),
    usage("calibrate net.onnx plain.npz --batchsize 2", "no such option '--batchsize'", "did you mean '--batch-size'?"),
    usage("calibrate net.onnx plain.npz --observers hist", "extremes, histogram", "did you mean 'histogram'?"),
    usage("calibrate net.onnx plain.npz --observers ,", "extremes, histogram", "use one of them"),
    Mistake(line="calibrate text.onnx s.npz", found="no complete ONNX file", fix="export or copy it", code=NO_ONNX),
    Mistake(line="calibrate empty.onnx s.npz", found="an empty file", fix="export or copy it", code=NO_ONNX),
    Mistake(line="calibrate net.onnx none.npz", found="no such file", fix="a .npz or .npy file"),
    Mistake(line="calibrate net.onnx folder", found="no file in it", fix="images"),
    Mistake(line="calibrate net.onnx plain.npz -o folder", found="a folder", fix="another file", code=OUTPUT),
    Mistake(line="calibrate net.onnx plain.npz -o file/x", found="can't be written", fix="may write to", code=OUTPUT),
    Mistake(line="calibrate net.onnx my_samples:bad", found="RuntimeError: no disk (line 5", fix="correct that"),
    Mistake(line="quantize weights.safetensors", found="weights alone", fix="edgeport export", code=NO_ONNX),
    Mistake(line="quantize plain.npz", found="a zip file", fix="edgeport export", code=NO_ONNX),
    Mistake(line="quantize text.onnx", found="no complete ONNX file", fix="export or copy it", code=NO_ONNX),
    usage("quantize net.onnx", "no calibration (--calibration) and no samples", "edgeport calibrate"),
    Mistake(line="quantize quantized.onnx --calibration c.safetensors", found="QuantizeLinear 'q'",
            fix="give the float model", code="ALREADY_QUANTIZED"),
    Mistake(line="quantize quantized.onnx --precision fp32", found="QuantizeLinear 'q'",
            fix="give the float model", code="ALREADY_QUANTIZED"),
    Mistake(line="quantize net.onnx --calibration plain.npz", found="a zip file, such as an .npz of samples",
            fix="edgeport calibrate", code="CONTRACT_INVALID"),
    Mistake(line="quantize net.onnx --calibration weights.safetensors", found="a model's weights",
            fix="edgeport calibrate", code="CONTRACT_INVALID"),
    Mistake(line="quantize net.onnx --calibration text.onnx", found="a damaged file", fix="edgeport calibrate",
            code="CONTRACT_INVALID"),
    Mistake(line="quantize net.onnx --precision fp32 -o file", found="something there", fix="or empty", code=OUTPUT),
    Mistake(line="quantize net.onnx --precision fp32 -o file/x", found="can't be written", fix="may", code=OUTPUT),
    Mistake(line="quantize net.onnx --precision fp32 --method guess", found="no such method", fix="one of minmax",
            code="CALIBRATION_FAILED"),
    Mistake(line="quantize net.onnx --precision fp32 --backend my_samples:bad2", found="has no attribute 'bad2'",
            fix="pkg.mod:factory", code="DEPENDENCY_MISSING"),
    Mistake(line="quantize net.onnx --precision fp32 --backend my_backend:make", found="RuntimeError: no licence",
            fix="what its package needs", code="DEPENDENCY_MISSING"),
    Mistake(line="verify net:N net.onnx --samples s.npz", found="all of which are there", fix="--target label"),
    Mistake(line="verify net:N net.onnx --samples s.npz --target lable", found="no array 'lable'", fix="name the"),
    Mistake(line="verify net:N net.onnx --samples shape.npz", found="shape [20, 5]", fix="preprocess"),
    Mistake(line="verify net:N net.onnx --samples objects.npz", found="Python objects", fix="store numbers only"),
    Mistake(line="verify net:N net.onnx --samples none_in.npz", found="no arrays", fix="store one array per input"),
    usage("verify net:N net.onnx --samples plain.npz --metric top1", "no name of the labels' array", "--target"),
    usage("verify net:N net.onnx --samples s.npz --target label --metric top2", "top1, top5", "did you mean 'top5'?"),
    usage("bench nett.onnx", "'nett.onnx' does not exist", "did you mean 'net.onnx'?"),
    usage("bench folder", "no artifact.json", "edgeport quantize"),
    usage("bench folder.onnx", "a folder", "name an .onnx file"),
    usage("bench plain.npz", "a file that is no .onnx", "edgeport quantize"),
    usage("bench net.onnx --backend onxruntime", "onnxruntime, openvino", "did you mean 'onnxruntime'?"),
    Mistake(line="bench net.onnx --samples shape.npz", found="shape [1, 5]", fix="preprocess"),
    Mistake(line="bench net.onnx --samples text.npz", found="no .npz file", fix="numpy.savez"),
    Mistake(line="export net:N --example text.npz", found="no .npz file", fix="numpy.savez"),
    Mistake(line="export net:N --input images=2,8 -o file/x", found="can't be written", fix="may write", code=OUTPUT),
    usage("bench net.onnx --soak 1s --rounds 6", "is not judged", "leave out --rounds"),
    usage("prune net:N --samples plain.npz --amount 0.5 --processes 2", "no training", "leave out --processes"),
    usage("prune net:N --samples plain.npz --amount 0.5 --epochs 0 --rate 0.1", "no training", "give --epochs"),
    usage("bundle verfy folder", "no such command 'verfy'", "did you mean 'verify'?"),
    Mistake(line="run net.onnx", found="not UTF-8", fix="[model] source", code="RECIPE_INVALID", exit_code=2),
    Mistake(line="run folder-source.toml", found="is a folder", fix='did you mean "net.onnx"?',
            code="RECIPE_INVALID", exit_code=2),
    Mistake(line="run list.toml", found="[1] should be a valid table", fix="[budget]", code="RECIPE_INVALID",
            exit_code=2),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    write_models(folder)
    samples = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    for name, arrays in {
        "plain": {"images": samples},
        "s": {"images": samples, "label": np.zeros(20, np.int64)},
        "c": {"images": samples + 1},
        "shape": {"images": samples[:, :5]},
        "objects": {"images": np.array([{}, []], object)},
        "none_in": {},
    }.items():
        np.savez(folder / f"{name}.npz", **arrays)
    for name in ("text.onnx", "text.npz", "file"):
        (folder / name).write_text("nothing of the kind\n", encoding="utf-8")
    (folder / "empty.onnx").write_bytes(b"")
    for name in ("folder", "folder.onnx"):
        (folder / name).mkdir()
    from safetensors.numpy import save_file

    save_file({"weight": samples}, folder / "weights.safetensors")
    (folder / "my_samples.py").write_text(FUNCTION, encoding="utf-8")
    (folder / "my_backend.py").write_text("def make():\n    raise RuntimeError('no licence')\n", encoding="utf-8")
    (folder / "list.toml").write_text(f"{RECIPE}budget = [1]\n", encoding="utf-8")
    (folder / "folder-source.toml").write_text(RECIPE.replace("net.onnx", "folder.onnx"), encoding="utf-8")
    for name, model in (("folder-source", "folder.onnx"),):
        (folder / f"{name}.toml").write_text(RECIPE.replace("net.onnx", model), encoding="utf-8")
    from edgeport import api

    api.calibrate(folder / "net.onnx", folder / "plain.npz", output=folder / "c.safetensors")
    return folder


def write_models(folder: Path) -> None:
    pair = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["float"], name="d"),
    ]
    constants = {"weight": np.ones((8, 4), np.float32), "scale": np.float32(0.1), "zero": np.uint8(128)}
    for name, before, fed in (("net", [], "images"), ("quantized", pair, "float")):
        graph = helper.make_graph(
            [*before, helper.make_node("MatMul", [fed, "weight"], ["scores"], name="product")],
            name,
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 8])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4])],
            [
                onnx.numpy_helper.from_array(np.asarray(value), key)
                for key, value in constants.items()
                if before or key == "weight"
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, folder / f"{name}.onnx")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.line)
def test_a_mistake_has_three_parts(
    mistake: Mistake, folder: Path, edgeport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    before = sorted(path.name for path in folder.iterdir() if path.name not in ("__pycache__", "edgeport-out"))

    ran = edgeport(*mistake.line.split(), "--json", "-q")

    error = json.loads(ran.out)["error"]
    assert (ran.code, error["code"]) == (mistake.exit_code, mistake.code), error
    assert mistake.found in error["found"]
    assert mistake.fix in error["fix"]
    assert "asked" not in error["found"]
    assert "child process" not in error["asked"]
    assert "Traceback" not in ran.out
    assert ran.err == ""
    after = sorted(path.name for path in folder.iterdir() if path.name not in ("__pycache__", "edgeport-out"))
    assert after == before
