"""Raw samples for the commands that do a single step: what a recipe declares is applied first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport import api
from edgeport.contracts import Calibration, EvaluateJob, Limits, ModelSource, Outcome, TensorSpec
from edgeport.errors import SamplesError, UsageError
from edgeport.pipeline.benchmarking.artifact import BenchSettings
from edgeport.pipeline.datasets.raw_files import preparation_for, prepared_file
from edgeport.pipeline.source_model.folding import FoldRequest, fold
from edgeport.preprocessing import apply
from edgeport.recipe import load_recipe

LIMITS = Limits(time_s=120, memory_bytes=4 << 30)
RECIPE = """
[model]
source = "net.onnx"
[inputs.image]
shape = ["batch", 3, 8, 8]
[inputs.image.preprocess]
resize = 10
crop = 8
scale = "1/255"
mean = [0.485, 0.456, 0.406]
FOLD
[data]
evaluation = "raw.npz"
target = "label"
[[target]]
backend = "onnxruntime"
precisions = ["fp32"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["y"], name="relu")],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 8, 8])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "net.onnx"
    )
    np.savez(tmp_path / "raw.npz", image=raw(), label=np.arange(40) % 3)
    for name, line in (("plain", ""), ("folded", "fold = true")):
        (tmp_path / f"{name}.toml").write_text(RECIPE.replace("FOLD", line))
    (tmp_path / "without.toml").write_text(RECIPE.partition("[inputs")[0] + "[data]" + RECIPE.partition("[data]")[2])
    return tmp_path


def raw() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 12, 14, 3), dtype=np.uint8)


def takes(dtype: str) -> list[TensorSpec]:
    return [TensorSpec(name="image", dtype=dtype, shape=("batch", 3, 8, 8))]


@pytest.mark.parametrize(
    ("recipe", "dtype", "fed"),
    [("plain", "float32", "float32"), ("folded", "float32", "float32"), ("folded", "uint8", "uint8")],
    ids=["plain", "not-folded-yet", "folded"],
)
def test_a_model_gets_what_it_takes(folder: Path, recipe: str, dtype: str, fed: str) -> None:
    preparation = preparation_for(folder / f"{recipe}.toml", takes(dtype))
    path = prepared_file(folder / "raw.npz", preparation, folder / "new", LIMITS, target="label", count=33)
    with np.load(path) as file:
        assert (file["image"].dtype, len(file["image"]), len(file["label"])) == (fed, 40, 40)
        image = file["image"]
    declared = preparation_for(folder / "plain.toml", takes("float32")).inputs[0].preprocessing
    if fed == "uint8":
        with np.load(folder / "new" / "unfolded.npz") as file:
            image = file["image"]
    np.testing.assert_array_equal(image, apply(declared, raw()))


def test_ranges_are_those_of_preprocessed_samples(folder: Path) -> None:
    made = api.calibrate(
        folder / "net.onnx",
        folder / "raw.npz",
        output=folder / "c.safetensors",
        options=api.CalibrateOptions(target="label", preprocess=folder / "plain.toml"),
    )
    extremes = Calibration.load(folder / "c.safetensors").statistics["image"]["extremes"]
    wanted = apply(preparation_for(folder / "plain.toml", takes("float32")).inputs[0].preprocessing, raw())
    assert made.sample_count == 40
    assert (float(extremes["minimum"]), float(extremes["maximum"])) == (float(wanted.min()), float(wanted.max()))


def test_raw_samples_without_a_recipe_are_refused_as_before(folder: Path) -> None:
    with pytest.raises(SamplesError, match="feed input 'image'"):
        api.calibrate(
            folder / "net.onnx",
            folder / "raw.npz",
            output=folder / "c.safetensors",
            options=api.CalibrateOptions(target="label"),
        )


def test_a_recipe_that_declares_nothing_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"without.toml declares it; found no .inputs.NAME.preprocess. in it"):
        preparation_for(folder / "without.toml", takes("float32"))


FACTORY = """
import torch
class Net(torch.nn.Module):
    def forward(self, image):
        return {"y": torch.relu(image)}
"""


@pytest.mark.parametrize("recipe", ["plain", "folded"])
def test_pytorch_and_the_file_get_what_each_takes(folder: Path, recipe: str) -> None:
    (folder / "my_net.py").write_text(FACTORY, encoding="utf-8")
    model = folder / "net.onnx"
    if recipe == "folded":
        inputs = load_recipe(folder / "folded.toml").inputs
        (folder / "uint8").mkdir()
        model = fold(FoldRequest(model="", path=model, inputs=inputs), folder / "uint8").path
    source = ModelSource(location="my_net:Net", search_path=folder)
    found = api.verify(
        source,
        model,
        folder / "raw.npz",
        limits=LIMITS,
        options=api.VerifyOptions(target="label", preprocess=folder / f"{recipe}.toml"),
    )
    assert (found.outcome, found.samples) == (Outcome.PASS, 40)
    with pytest.raises(SamplesError, match="feed input 'image'"):
        api.verify(
            source, folder / "net.onnx", folder / "raw.npz", limits=LIMITS, options=api.VerifyOptions(target="label")
        )


class Enough(Exception):
    """The first job was seen."""


@pytest.mark.parametrize(
    ("command", "options"),
    [(api.bench, api.BenchOptions), (api.compare, api.CompareOptions)],
    ids=["bench", "compare"],
)
def test_what_is_timed_gets_preprocessed_samples(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., object],
    options: Callable[..., api.ExecuteOptions],
) -> None:
    fed = []

    def stop(_: object, job: EvaluateJob) -> None:
        with np.load(job.feeds) as file:
            fed.append(file["image"])
        raise Enough

    monkeypatch.setattr("edgeport.devices.local.LocalDevice.run", stop)
    models = [folder / "net.onnx"] * (2 if command is api.compare else 1)
    with pytest.raises(Enough):
        command(
            *models,
            options=options(samples=folder / "raw.npz", preprocess=folder / "plain.toml"),
            limits=LIMITS,
        )
    wanted = apply(preparation_for(folder / "plain.toml", takes("float32")).inputs[0].preprocessing, raw()[:1])
    np.testing.assert_array_equal(fed[0], wanted)
    with pytest.raises(SamplesError, match="feed input 'image'"):
        command(*models, options=options(samples=folder / "raw.npz"), limits=LIMITS)


def test_bench_wants_to_know_which_samples() -> None:
    with pytest.raises(UsageError, match="--preprocess without --samples"):
        BenchSettings(preprocess=Path("recipe.toml"))
