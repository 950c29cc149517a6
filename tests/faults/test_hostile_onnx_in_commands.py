"""Hostile ONNX files through the command line: one readable error, nothing written, and this process goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport import api
from edgeport.contracts import AS_GIVEN, Limits, Outcome
from edgeport.errors import ChildTimeout
from edgeport.onnx_files import quantization_evidence, read_ir

RECIPE = """\
model.source = "net.onnx"
data.evaluation = "evaluation.npz"
[[target]]
backend = "onnxruntime"
precisions = ["fp32"]
[search]
time_limit_s = {time_s}
memory_limit = "2 GiB"
duration_s = 0.02
screening_rounds = 1
"""
STEPS = (
    "calibrate net.onnx evaluation.npz -o made.safetensors",
    "quantize net.onnx --precision fp32 -o made",
    "quantize net.onnx --precision fp32 --backend openvino -o made",
    "bench net.onnx --rounds 1 --duration 0.02",
    "compare net.onnx net.onnx --rounds 1 --duration 0.02",
    "init net.onnx -o made.toml --backend onnxruntime",
)
RUN = "run net.toml -o made"


def network(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """x float32 [batch, 8] to y float32 [batch, 4] by way of `m` = x @ w and the nodes given."""
    arrays = {"w": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32), **constants}
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"], name="product"), *nodes],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.acme", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def endless() -> onnx.ModelProto:
    """A Loop without a trip count whose condition stays true; the ONNX checker has nothing against it."""
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Relu", ["v"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            condition,
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["", "true", "m"], ["y"], name="forever", body=body)
    return network(loop, true=np.ones((), bool))


def enormous() -> onnx.ModelProto:
    """256 GiB from a shape that only the sample decides to be filled."""
    return network(
        helper.make_node("ReduceMax", ["m"], ["top"], keepdims=0, name="top"),
        helper.make_node("Expand", ["top", "shape"], ["huge"], name="huge"),
        helper.make_node("ReduceMax", ["huge"], ["bias"], keepdims=0, name="bias"),
        helper.make_node("Add", ["m", "bias"], ["y"], name="sum"),
        shape=np.array([1 << 12, 1 << 12, 1 << 12], np.int64),
    )


def divided_by_zero() -> onnx.ModelProto:
    return network(
        helper.make_node("Cast", ["m"], ["whole"], to=TensorProto.INT32, name="whole"),
        helper.make_node("Div", ["whole", "zero"], ["none"], name="division"),
        helper.make_node("Cast", ["none"], ["y"], to=TensorProto.FLOAT, name="float"),
        zero=np.array(0, np.int32),
    )


def zero_stride() -> onnx.ModelProto:
    return network(
        helper.make_node("Unsqueeze", ["m", "one"], ["row"], name="row"),
        helper.make_node("MaxPool", ["row"], ["pooled"], kernel_shape=[1], strides=[0], name="pool"),
        helper.make_node("Squeeze", ["pooled", "one"], ["y"], name="back"),
        one=np.array([1], np.int64),
    )


def custom_operator() -> onnx.ModelProto:
    return network(helper.make_node("Secret", ["m"], ["y"], domain="com.acme", name="secret"))


def plain() -> onnx.ModelProto:
    return network(helper.make_node("Relu", ["m"], ["y"], name="relu"))


def external(place: Callable[[Path, Path], str], **entries: str) -> Callable[[Path], onnx.ModelProto]:
    """A model whose weight lies where `place(folder, file outside of it)` says."""

    def make(folder: Path) -> onnx.ModelProto:
        outside = folder.parent / "outside.bin"
        outside.write_bytes(b"\1" * 128)
        model = plain()
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": place(folder, outside), **entries}.items():
            weight.external_data.add(key=key, value=value)
        return model

    return make


def _linked(link: Callable[[Path, Path], None]) -> Callable[[Path, Path], str]:
    def place(folder: Path, outside: Path) -> str:
        link(outside, folder / "w.bin")
        return "w.bin"

    return place


def _beside(folder: Path, _outside: Path) -> str:
    (folder / "w.bin").write_bytes(b"\1" * 128)
    return "w.bin"


def _changed(change: Callable[[onnx.GraphProto], object]) -> Callable[[Path], onnx.ModelProto]:
    def make(_folder: Path) -> onnx.ModelProto:
        model = plain()
        change(model.graph)
        return model

    return make


@dataclass(frozen=True, kw_only=True)
class Hostile:
    name: str
    make: Callable[[Path], onnx.ModelProto]
    code: str
    found: str


UNSAFE = [
    Hostile(name="dots", make=external(lambda *_: "../outside.bin"), code="UNSAFE_FILE", found="leaves the model's"),
    Hostile(name="absolute", make=external(lambda _, outside: str(outside)), code="UNSAFE_FILE", found="no plain rel"),
    Hostile(name="symbolic link", make=external(_linked(os.symlink)), code="UNSAFE_FILE", found="symbolic link"),
    Hostile(name="hard link", make=external(_linked(os.link)), code="UNSAFE_FILE", found="hard link"),
    Hostile(name="offset", make=external(_beside, offset="9223372036854775807"), code="UNSAFE_FILE", found="128"),
    Hostile(name="overflow", make=_changed(lambda graph: graph.initializer[0].dims.__setitem__(0, 1 << 62)),
            code="MODEL_LIMIT", found="'w'"),
    Hostile(name="cycle", make=_changed(lambda graph: graph.node[0].input.__setitem__(0, "y")),
            code="MODEL_FORMAT", found="'product' waits for 'y'"),
    Hostile(name="dangling", make=_changed(lambda graph: graph.node[1].input.__setitem__(0, "nowhere")),
            code="MODEL_FORMAT", found="'nowhere'"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    samples = np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
    np.savez(folder / "evaluation.npz", x=samples)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EDGEPORT_STORE", str(tmp_path / "store"))
    return folder


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    """Runs a command line that must fail; returns its error, after a look at what it left behind."""
    from edgeport.cli.app import run

    def call(line: str, model: onnx.ModelProto, *, time_s: float = 60) -> dict:
        (folder / "net.onnx").write_bytes(model.SerializeToString())
        (folder / "net.toml").write_text(RECIPE.format(time_s=time_s), encoding="utf-8")
        before = _files(folder.parent)
        capsys.readouterr()
        code = run([*line.split(), "--json", "-q"])
        printed = capsys.readouterr()
        error = json.loads(printed.out)["error"]
        assert code == 1, error
        assert printed.err == ""
        assert all(error[part] for part in ("asked", "found", "fix")), error
        assert "Traceback" not in printed.out.replace('\\"traceback\\"', "").split('"details"')[0]
        assert "edgeport.pipeline" not in error["asked"]
        assert _files(folder.parent) == before
        return error

    return call


def _files(root: Path) -> list[str]:
    """Every file but the store's, which keeps its own lock files."""
    return sorted(str(path) for path in root.rglob("*") if path.is_file() and "store" not in path.parts)


@pytest.mark.parametrize("line", STEPS, ids=lambda line: " ".join(line.split()[:1] + line.split()[4:6]))
@pytest.mark.parametrize("hostile", UNSAFE, ids=lambda hostile: hostile.name)
def test_single_steps_refuse_a_file_before_any_runtime_sees_it(hostile, line, folder, refused, monkeypatch):
    monkeypatch.setattr("edgeport.isolation.parent._start", _no_child)
    error = refused(line, hostile.make(folder))
    assert (error["code"], hostile.found in error["found"]) == (hostile.code, True), error


def _no_child(*_arguments: object) -> None:
    pytest.fail("a child process was started")


@pytest.mark.parametrize("hostile", [UNSAFE[0], UNSAFE[3], UNSAFE[6]], ids=lambda hostile: hostile.name)
def test_a_run_refuses_a_file_before_any_runtime_sees_it(hostile, folder, refused):
    error = refused(RUN, hostile.make(folder))
    assert (error["code"], hostile.found in error["found"]) == (hostile.code, True), error


def test_a_run_with_an_endless_loop_ends_in_time(refused):
    started = time.monotonic()
    error = refused(RUN, endless(), time_s=7)
    assert error["code"] == "TIMEOUT"
    assert error["asked"] == "run net.onnx on the evaluation samples within 7 s"
    assert "time_limit_s" in error["fix"]
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_an_endless_loop_ends_in_time_in_single_steps(folder, tmp_path):
    (folder / "net.onnx").write_bytes(endless().SerializeToString())
    limits = Limits(time_s=7)
    with pytest.raises(ChildTimeout, match=r"calibrate net\.onnx within 7 s"):
        api.calibrate(folder / "net.onnx", folder / "evaluation.npz", output=tmp_path / "made", limits=limits)
    with pytest.raises(ChildTimeout, match="within 7 s"):
        api.bench(folder / "net.onnx", limits=limits, options=api.BenchOptions(rounds=1, duration_s=0.02))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("line", [RUN, STEPS[0], STEPS[3]], ids=["run", "calibrate", "bench"])
def test_a_tensor_of_256_gibibytes_is_a_limit_with_the_peak(line, refused):
    error = refused(line, enormous())
    assert error["code"] == "RESOURCE_LIMIT", error
    assert "at its peak it held" in error["found"]
    assert 0 < error["details"]["peak_memory_bytes"] < 2 << 30
    assert "memory_limit" in error["fix"]


@pytest.mark.parametrize(
    ("line", "make"),
    [(RUN, divided_by_zero), (STEPS[0], divided_by_zero), (STEPS[3], zero_stride)],
    ids=["run-divisor", "calibrate-divisor", "bench-stride"],
)
def test_a_zero_divisor_or_stride_is_an_error_of_the_runtime(line, make, refused):
    error = refused(line, make())
    assert error["code"] == "BACKEND_FAILED", error


@pytest.mark.parametrize(
    "line", [RUN, STEPS[0], *STEPS[2:4]], ids=lambda line: " ".join(line.split()[:1] + line.split()[4:6])
)
def test_a_custom_operator_is_refused_by_name(line, refused):
    if "openvino" in line:
        pytest.importorskip("openvino", reason="the openvino extra is not installed")
    error = refused(line, custom_operator())
    assert error["code"] == "BACKEND_UNSUPPORTED", error
    assert "com.acme.Secret" in error["found"]
    assert "'secret'" in error["found"]
    assert "net.onnx" in error["asked"]
    assert "operators" in error["fix"]


def quantized() -> onnx.ModelProto:
    """Q/DQ pairs around a product whose weight is int8 in the file."""
    scales = {"scale": np.float32(0.05), "middle": np.uint8(128), "zero": np.int8(0)}
    weight = np.random.default_rng(2).integers(-100, 100, (4, 4), np.int8)
    return network(
        helper.make_node("QuantizeLinear", ["m", "scale", "middle"], ["q"], name="to_integers"),
        helper.make_node("DequantizeLinear", ["q", "scale", "middle"], ["d"], name="back"),
        helper.make_node("DequantizeLinear", ["v", "scale", "zero"], ["v_d"], name="weight"),
        helper.make_node("MatMul", ["d", "v_d"], ["y"], name="second"),
        v=weight,
        **scales,
    )


def test_a_quantized_model_passes_through_a_run_to_validation_and_is_not_quantized_again(folder):
    (folder / "net.onnx").write_bytes(quantized().SerializeToString())
    recipe = RECIPE.format(time_s=60).replace('["fp32"]', '["fp32", "int8", "int8-dynamic"]')
    np.savez(folder / "calibration.npz", x=np.random.default_rng(3).standard_normal((20, 8)).astype(np.float32))
    (folder / "net.toml").write_text(f'data.calibration = "calibration.npz"\n{recipe}', encoding="utf-8")

    result = api.run(folder / "net.toml", output=folder / "made")

    (candidate,) = result.candidates
    assert (candidate.name, candidate.variant) == ("onnxruntime as given", AS_GIVEN)
    assert candidate.accuracy is not None
    assert candidate.accuracy.outcome is Outcome.PASS
    assert candidate.latency is not None
    assert any("quantized already (QuantizeLinear 'to_integers' and 2 more)" in note for note in result.notes)
    given = quantization_evidence(read_ir(folder / "net.onnx"))
    assert quantization_evidence(read_ir(candidate.artifact.folder / candidate.artifact.entry)) == given
