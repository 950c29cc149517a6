"""`edgeport qat` on a small PyTorch model: what is refused, what a child learns, and the whole way."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeport import api
from edgeport.contracts import Precision, QuantizationPlan, load_json, to_jsonable
from edgeport.errors import OutputError, UsageError
from edgeport.exporter.loaders.model_source import load_module
from edgeport.exporter.onnx_export import export_onnx
from edgeport.exporter.options import ExportOptions
from edgeport.exporter.qat.options import QatOptions, QatResult
from edgeport.exporter.train import TrainingSettings
from edgeport.npz import load_npz
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.compression.qat import BOUND, qat_recipe
from edgeport.pipeline.compression.qat_worker import learn_in_child
from edgeport.recipe import load_recipe

NET = """
    import torch


    def create():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))


    def loss(outputs, labels):
        return torch.nn.functional.cross_entropy(outputs["output"], labels)
"""
RECIPE = """
    model.source = "qat_net:create"
    data = { calibration = "training.npz", evaluation = "evaluation.npz", target = "label", metric = "top1" }
    target = [{ backend = "onnxruntime", precisions = ["fp32", "int8"] }]
    search = { rounds = 6, duration_s = 0.05 }
    budget.accuracy_drop = 0.2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delitem(sys.modules, "qat_net", raising=False)  # of another test, from another folder
    (tmp_path / "qat_net.py").write_text(textwrap.dedent(NET), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(textwrap.dedent(RECIPE), encoding="utf-8")
    random = np.random.default_rng(0)
    for name, count in (("training", 160), ("evaluation", 300)):
        values = random.standard_normal((count, 12)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", input=values, label=values[:, :3].argmax(axis=1))
    return tmp_path


@pytest.mark.parametrize(
    "processes",
    [1, pytest.param(2, marks=pytest.mark.slow)],  # each process imports PyTorch and Fabric
)
def test_a_child_trains_and_leaves_what_is_compiled(folder: Path, processes: int) -> None:
    if processes > 1:
        pytest.importorskip("lightning_fabric")
    recipe = load_recipe(folder / "recipe.toml")
    feeds = {"input": np.load(folder / "training.npz")["input"]}
    model = export_onnx(load_module(recipe.source), {"input": feeds["input"][:2]}, output=folder / "net.onnx").model
    np.savez(folder / "feeds.npz", **feeds)
    (folder / "made").mkdir()
    options = QatOptions(training=TrainingSettings(epochs=4, batch_size=16), rate=3e-3, loss="qat_net:loss")
    options = replace(options, processes=processes)

    learn_in_child(
        {
            "source": to_jsonable(recipe.source),
            "model": to_jsonable(model),
            "export": to_jsonable(ExportOptions()),
            "backend": "onnxruntime",
            "precision": "int4-weights-32",
            "calibration": None,
            "method": "minmax",
            "samples": to_jsonable(recipe.data.calibration),
            "target": "label",
            "options": to_jsonable(options),
            "search_path": str(folder),
            "feeds": str(folder / "feeds.npz"),
            "work": str(folder / "work"),
            "folder": str(folder / "made"),
            "threads": 1,
        }
    )

    result = load_json(QatResult, (folder / "made" / "result.json").read_bytes())
    plan = load_json(QuantizationPlan, (folder / "made" / "plan.json").read_bytes())
    assert result.loss == "qat_net:loss, 0.5 of it the float model's outputs"
    assert result.after["loss"] < result.before["loss"]
    assert plan.precision is Precision.INT4_WEIGHTS_32
    assert plan.model_digest == open_onnx(folder / "made" / "model.onnx").digest
    assert load_npz(folder / "made" / "outputs.npz")["output"].shape == (160, 3)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        pytest.param({}, {"precision": Precision.INT8_DYNAMIC}, "without fixed integers", id="dynamic"),
        pytest.param({}, {"backend": "openvino"}, "targets onnxruntime", id="backend"),
        pytest.param({"source": "net.onnx"}, {}, "whose graph is fixed", id="onnx"),
        pytest.param({"state": {"a": "b"}}, {}, "with a state", id="state"),
        pytest.param({"calibration": None}, {"precision": Precision.INT8_WEIGHTS}, "no samples", id="no-samples"),
    ],
)
def test_what_can_not_be_trained_is_refused_before_any_work(
    folder: Path, change: dict[str, object], options: dict[str, object], says: str
) -> None:
    recipe = load_recipe(folder / "recipe.toml")
    if "source" in change:
        recipe = replace(recipe, source=replace(recipe.source, location="net.onnx"))
    if "state" in change:
        recipe = replace(recipe, state=change["state"])
    if "calibration" in change:
        target = replace(recipe.targets[0], precisions=(Precision.FP32,))
        recipe = replace(recipe, targets=(target,), data=replace(recipe.data, calibration=None))

    with pytest.raises(UsageError, match=says):
        qat_recipe(recipe, output=folder / "out", store=folder / "store", **options)
    assert not (folder / "out").exists()


def test_wrong_settings_and_foreign_folders_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="the loss 'hinge'"):
        api.qat(folder / "recipe.toml", store=folder / "store", options=api.QatOptions(loss="hinge"))
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="something there already"):
        api.qat(folder / "recipe.toml", output=folder / "out", store=folder / "store")


@pytest.mark.slow  # the whole way, twice
@pytest.mark.alone
def test_the_whole_way_and_again_from_the_store(folder: Path) -> None:
    options = api.QatOptions(epochs=6, batch_size=16, rate=1e-3)
    asked = {"options": options, "store": folder / "store", "output": folder / "out"}

    first = api.qat(folder / "recipe.toml", **asked)
    second = api.qat(folder / "recipe.toml", **asked)

    assert first.difference is not None
    assert first.difference < BOUND
    assert first.learned == replace(second.learned, model=first.learned.model)
    assert first.chosen in {one.name for one in first.candidates}
    assert first.trained == "onnxruntime int8 trained"
    written = {path.name for path in (folder / "out").iterdir()} - {"tensorboard"}
    assert written == {"best", "metrics.jsonl", "model.onnx", "plan.json"}
    record = json.loads((folder / "out" / "best" / "artifact.json").read_text(encoding="utf-8"))
    assert record["precision"] == "int8"
    assert not list((folder / "store" / "training").iterdir())
