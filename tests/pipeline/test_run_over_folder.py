"""A whole run over folders of images, from the recipe's text to the bundle's sample."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.contracts import Limits, Outcome
from edgeport.pipeline import run_recipe
from edgeport.recipe import load_recipe

SIDE = 16
COLOURS = ("red", "green", "blue")  # as the model counts them; folders are listed blue, green, red

RECIPE = """
[model]
source = "colours.onnx"

[data]
calibration = "calibration"
evaluation = "evaluation"
labels = ["red", "green", "blue"]

[[target]]
backend = "onnxruntime"
precisions = ["fp32"]

[search]
rounds = 6
duration_s = 0.02
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that tells images [N, 16, 16, 3] by their mean colour, and two folders of such, a folder per class."""
    folder = tmp_path_factory.mktemp("colours")
    _write_model(folder, ["batch", SIDE, SIDE, 3], [1, 2])
    random = np.random.default_rng(0)
    _draw(folder / "calibration", 4, random)
    _draw(folder / "evaluation", 20, random)
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder


def _write_model(folder, shape, axes):
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["images", "axes"], ["scores"], keepdims=0, name="mean")],
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [onnx.numpy_helper.from_array(np.array(axes, np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "colours.onnx")


def _draw(folder, count, random, bluer=0):
    """Images of one size; or, with so much more of blue in all of them, of many sizes."""
    from PIL import Image

    for index, colour in enumerate(COLOURS):
        (folder / colour).mkdir(parents=True)
        for number in range(count):
            height, width = random.integers(SIDE, 2 * SIDE, 2) if bluer else (SIDE, SIDE)
            pixels = random.integers(0, 50, (height, width, 3), np.uint8)
            pixels[..., index] += 80
            pixels[..., 2] += bluer
            Image.fromarray(pixels).save(folder / colour / f"{number}.png")


def test_class_folders_are_judged_by_the_order_of_the_labels(folder, tmp_path):
    result = _run(folder, tmp_path)

    found = result.candidate("onnxruntime fp32").accuracy
    assert (found.metric, found.samples, found.value.estimate) == ("top1", 60, 1.0)
    assert (found.outcome, result.chosen) == (Outcome.PASS, "onnxruntime fp32")
    manifest = json.loads((result.bundle / "manifest.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in manifest["inputs"]] == ["images"]


def _run(folder, tmp_path):
    return run_recipe(
        load_recipe(folder / "recipe.toml"),
        output=tmp_path / "out",
        store=tmp_path / "store",
        limits=Limits(time_s=60.0, memory_bytes=4 << 30),
    )


PREPROCESS = """
[inputs.images]
shape = ["batch", 3, 16, 16]

[inputs.images.preprocess]
resize = [16, 16]
scale = 0.00392156862745098
mean = [0.0, 0.0, 0.392]
std = [0.25, 0.25, 0.25]
layout = "NCHW"
"""


@pytest.mark.slow  # 20 seconds more
def test_images_of_any_size_go_through_the_declared_preprocessing(tmp_path):
    _write_model(tmp_path, ["batch", 3, SIDE, SIDE], [2, 3])
    random = np.random.default_rng(1)
    _draw(tmp_path / "calibration", 4, random, bluer=100)
    _draw(tmp_path / "evaluation", 20, random, bluer=100)
    (tmp_path / "recipe.toml").write_text(RECIPE + PREPROCESS, encoding="utf-8")

    result = _run(tmp_path, tmp_path)

    found = result.candidate("onnxruntime fp32").accuracy
    assert (found.samples, found.value.estimate) == (60, 1.0)  # without the mean all of them would be blue
