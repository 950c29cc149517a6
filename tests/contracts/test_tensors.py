"""What preprocessing can be declared, and for which tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from edgeport.contracts import Preprocessing, PreprocessingFunction, TensorSpec, dump_json, load_json
from edgeport.errors import ContractError

IMAGENET = Preprocessing(
    resize=256, crop=(224, 224), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), fold="NHWC"
)


@dataclass(frozen=True, kw_only=True)
class Wrong:
    id: str
    says: str
    declared: dict[str, object] = field(default_factory=dict)
    shape: tuple[int | str, ...] = ("batch", 3, 224, 224)
    dtype: str = "float32"


WRONG = [
    Wrong(id="layout", declared={"layout": "CHW"}, says="layout 'CHW'.*use one of 'NCHW', 'NHWC'"),
    Wrong(id="color", declared={"color": "GRB"}, says="color 'GRB'.*use one of 'RGB', 'BGR'"),
    Wrong(
        id="interpolation", declared={"interpolation": "lanczos"}, says="use one of 'bilinear', 'bicubic', 'nearest'"
    ),
    Wrong(id="fold", declared={"fold": "HWC"}, says="fold 'HWC'"),
    Wrong(id="zero-size", declared={"resize": 0}, says="resize 0.*1 to 16384 pixels"),
    Wrong(id="huge-size", declared={"resize": (224, 1 << 20)}, says=r"resize \[224, 1048576\]"),
    Wrong(id="zero-scale", declared={"scale": 0.0}, says="scale 0"),
    Wrong(id="infinite-mean", declared={"mean": (float("inf"),)}, says="mean .*finite"),
    Wrong(id="zero-std", declared={"std": (1.0, 0.0, 1.0)}, says="std .*positive"),
    Wrong(id="unequal", declared={"mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0)}, says="as many numbers"),
    Wrong(id="crop-larger", declared={"resize": 200, "crop": (224, 224)}, says=r"crop \[224, 224\] of images resized"),
    Wrong(id="channels", declared={"mean": (0.1, 0.2)}, says="2 numbers in mean, 3 channels"),
    Wrong(id="channels-last", declared={"mean": (0.1,) * 3, "layout": "NHWC"}, says="3 numbers in mean, 224 channels"),
    Wrong(id="size", declared={"resize": (192, 224)}, says=r"images of \[192, 224\] pixels for shape"),
    Wrong(id="three-axes", shape=("batch", 3, 224), says="which is no batch of images"),
    Wrong(id="bgr-of-one", shape=("batch", 1, 8, 8), declared={"color": "BGR"}, says="BGR with 1 channels"),
    Wrong(id="integers", dtype="uint8", declared={"scale": 0.5}, says="scale, mean or std for dtype uint8"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.id)
def test_what_cannot_be_is_refused(case):
    with pytest.raises(ContractError, match=f"(?s){case.says}"):
        TensorSpec(name="image", dtype=case.dtype, shape=case.shape, preprocessing=Preprocessing(**case.declared))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"function": "tokens.py:encode"}, None),
        ({"function": "encode"}, "name a module and a function"),
        ({"function": "my.tokens:encode", "ship": True}, "lies in a package"),
    ],
    ids=["module-of-that-name", "no-module", "package"],
)
def test_functions(values, says):
    if says is None:
        PreprocessingFunction(**values)
        return
    with pytest.raises(ContractError, match=says):
        PreprocessingFunction(**values)


@pytest.mark.parametrize(
    "declared", [IMAGENET, PreprocessingFunction(function="a:b"), None], ids=["image", "fn", "none"]
)
def test_specs_come_back_from_json(declared):
    spec = TensorSpec(name="image", dtype="float32", shape=("batch", 3, 224, 224), preprocessing=declared)
    assert load_json(TensorSpec, dump_json(spec)) == spec


def test_a_symbolic_size_fits_every_crop():
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3, "height", "width"), preprocessing=IMAGENET)
    assert spec.preprocessing.size == (224, 224)
