"""Models whose batch is a constant, through every command that takes one: 10 samples, which no batch of 4 divides."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.contracts import Calibration

COUNT = 10
MODULE = """\
import torch

class Net(torch.nn.Module):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch
        self.register_buffer("weight", torch.linspace(-1, 1, 32).reshape(8, 4))

    def forward(self, images):
        # Fixed inside, too: any other batch raises.
        return torch.relu(images.view(self.batch, 8)) @ self.weight
"""
RECIPE = """\
model.source = "net.onnx"
[data]
calibration = "calibration.npz"
evaluation = "samples.npz"
target = "label"
[[target]]
backend = "onnxruntime"
precisions = ["fp32", "int8"]
[budget]
accuracy_drop = 0.1
[search]
rounds = 6
screening_rounds = 1
duration_s = 0.02
warmup_s = 0.0
"""


@dataclass(frozen=True)
class Fixed:
    batch: int
    folder: Path


BOTH = pytest.mark.parametrize("fixed", [1, 4], ids=["batch-1", "batch-4"], indirect=True)
FOUR = pytest.mark.parametrize("fixed", [4], ids=["batch-4"], indirect=True)


@pytest.fixture
def fixed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fixed:
    batch = request.param
    random = np.random.default_rng(0)
    weight = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["images"], ["positive"], name="relu"),
            helper.make_node("MatMul", ["positive", "weight"], ["output"], name="product"),
        ],
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 4])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "net.onnx"
    )
    images = random.standard_normal((2 * COUNT, 8)).astype(np.float32)
    labels = np.argmax(np.maximum(images, 0) @ weight, axis=1)
    np.savez(tmp_path / "samples.npz", images=images[:COUNT], label=labels[:COUNT])
    np.savez(tmp_path / "calibration.npz", images=images[COUNT:], label=labels[COUNT:])
    (tmp_path / "fixed_batch_net.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return Fixed(batch, tmp_path)


@pytest.fixture
def answer(edgeport: Any) -> Callable[..., dict[str, Any]]:
    def answer(*arguments: object, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        ran = edgeport(*arguments, "--json", "-q")
        assert ran.code in codes, ran.out
        values: dict[str, Any] = json.loads(ran.out)
        return values

    return answer


@BOTH
def test_verify_takes_the_models_batch(fixed: Fixed, answer: Callable[..., dict[str, Any]]) -> None:
    found = answer(
        "verify", "fixed_batch_net:Net", "net.onnx", "--argument", f"batch={fixed.batch}",
        "--samples", "samples.npz", "--target", "label", "--metric", "top1",
    )  # fmt: skip

    assert (found["outcome"], found["samples"], found["batch_sizes"]) == ("pass", COUNT, [fixed.batch])
    assert found["pytorch"] == found["onnx"]


@BOTH
def test_calibrate_quantize_and_bench_take_the_models_batch(
    fixed: Fixed, answer: Callable[..., dict[str, Any]], edgeport: Any
) -> None:
    calibrated = edgeport("calibrate", "net.onnx", "samples.npz", "--target", "label", "-o", "c.safetensors")
    assert calibrated.code == 0, calibrated.err
    calibration = Calibration.load(Path("c.safetensors"))
    artifact = answer("quantize", "net.onnx", "--calibration", "c.safetensors", "-o", "int8")
    timed = [
        answer("bench", what, "--samples", "samples.npz", "--rounds", 2, "--duration", 0.02, codes=(0, 4, 5))
        for what in ("int8", "net.onnx")
    ]

    seen = np.load(fixed.folder / "samples.npz")["images"]
    assert calibration.sample_count == COUNT
    assert calibration.statistics["images"]["extremes"]["maximum"] == seen.max()
    assert calibration.statistics["images"]["extremes"]["count"] == -(-COUNT // fixed.batch) * fixed.batch * 8
    assert ("2 repeats of them were calibrated with" in calibrated.err) == (fixed.batch == 4)
    assert artifact["execution"]["batch"] == fixed.batch
    assert [one["batch"] for one in timed] == [fixed.batch] * 2
    assert all(trace["outputs_match"] for one in timed for trace in one["measurement"]["traces"])


@BOTH
def test_bench_says_how_many_samples_a_call_takes(fixed: Fixed, edgeport: Any) -> None:
    ran = edgeport("bench", "net.onnx", "--rounds", 1, "--duration", 0.02, "-q")

    assert ran.code in (0, 4, 5), ran.err
    assert ("per call, and a call takes 4 samples" in ran.out) == (fixed.batch == 4)


@BOTH
def test_run_judges_and_times_in_the_models_batch(fixed: Fixed, answer: Callable[..., dict[str, Any]]) -> None:
    found = answer("run", "recipe.toml", codes=(0, 4, 5))

    assert [one["execution"]["batch"] for one in found["candidates"]] == [fixed.batch] * 2
    assert all(one["accuracy"]["samples"] == COUNT for one in found["candidates"]), found["candidates"]
    assert all(one["accuracy"]["value"]["estimate"] == 1.0 for one in found["candidates"] if one["precision"] == "fp32")
    measured = json.loads((fixed.folder / "edgeport-out/result.json").read_bytes())["measurements"]
    assert len(measured) == 2
    assert all(trace["outputs_match"] for one in measured.values() for trace in one["traces"])
    assert found["notes"][0].startswith("10 evaluation samples can't prove that top1 drops by 0.1 at most"), found[
        "notes"
    ]
    assert "35 or more are needed" in found["notes"][0]
    about = [note for note in found["notes"] if note.startswith("Every call takes")]
    filled = "latencies are per call. The last call over 10 samples was filled up with 2 repeats"
    assert [filled in note for note in about] == ([True] if fixed.batch == 4 else [])


@FOUR
def test_fewer_samples_than_one_call_takes_are_refused(fixed: Fixed, answer: Callable[..., dict[str, Any]]) -> None:
    images = np.load(fixed.folder / "samples.npz")["images"][:3]
    np.savez(fixed.folder / "samples.npz", images=images, label=np.zeros(3, np.int64))
    verify = ("verify", "fixed_batch_net:Net", "net.onnx", "--samples", "samples.npz", "--target", "label")

    for arguments in (verify, ("run", "recipe.toml")):
        error = answer(*arguments, codes=(1,))["error"]
        assert (error["code"], error["found"]) == ("SAMPLES_INVALID", "3 samples")
        assert "batch is fixed to 4" in error["asked"]
        assert error["fix"].startswith("give 4 samples or more")


@FOUR
@pytest.mark.parametrize("batch", [1, 3])
def test_an_export_keeps_the_batch_that_was_asked(
    fixed: Fixed, answer: Callable[..., dict[str, Any]], batch: int
) -> None:
    found = answer(
        "export", "fixed_batch_net:Net", "--argument", f"batch={batch}", "--input", f"images={batch},8",
        "--fixed-batch", "-o", "fixed.onnx",
    )  # fmt: skip

    assert found["model"]["inputs"][0]["shape"] == [batch, 8]
