"""Which output a bundle shows as classes: what the recipe says, never a shape alone."""

from pathlib import Path
from typing import Any

import pytest

from edgeport.contracts import DataSpec, OnnxModel, SamplesFile, TensorSpec
from edgeport.pipeline.output.provenance import class_output

FLOATS = ("batch", 3)


def model(shape: tuple[int | str, ...] = FLOATS, dtype: str = "float32") -> OnnxModel:
    spec = TensorSpec(name="out", dtype=dtype, shape=shape)
    hidden = TensorSpec(name="hidden", dtype="float32", shape=FLOATS)
    other = TensorSpec(name="other", dtype="float32", shape=FLOATS)
    x = TensorSpec(name="x", dtype="float32", shape=FLOATS)
    return OnnxModel(
        path=Path("m.onnx"),
        inputs=(x,),
        outputs=(hidden, spec, other),
        state={"hidden": "x"},
        opset=20,
        digest="0" * 64,
    )


CASES: dict[str, tuple[dict[str, Any], tuple[int | str, ...], str]] = {
    "top1": ({"metric": "top1", "target": "y"}, FLOATS, "out"),
    "top5 of a free axis": ({"metric": "top5", "target": "y"}, ("batch", "classes"), "out"),
    "top1 of another output": ({"metric": "top1", "target": "y", "output": "other"}, FLOATS, "other"),
    "names of all classes": ({"labels": ("a", "b", "c")}, FLOATS, "out"),
    "names of fewer": ({"labels": ("a", "b")}, FLOATS, ""),
    "auc of two": ({"metric": "auc", "target": "y"}, ("batch", 2), "out"),
    "auc of embeddings": ({"metric": "auc", "target": "y"}, FLOATS, ""),
    "agreement": ({"metric": "agreement"}, FLOATS, ""),
    "regression": ({"metric": "mae", "target": "y"}, FLOATS, ""),
    "a sequence": ({"metric": "mae", "labels": ("a", "b", "c")}, ("batch", 4, 3), ""),
    "decoded": ({"metric": "top1", "target": "y", "decode": "m:f"}, FLOATS, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_only_what_the_recipe_says_is_shown_as_classes(name: str) -> None:
    settings, shape, expected = CASES[name]
    data = DataSpec(calibration=None, evaluation=SamplesFile(path=Path("e.npz")), **settings)
    assert class_output(data, model(shape)) == expected


def test_integers_are_no_scores() -> None:
    data = DataSpec(calibration=None, evaluation=SamplesFile(path=Path("e.npz")), metric="top1", target="y")
    assert class_output(data, model(dtype="int64")) == ""
