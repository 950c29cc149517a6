"""Raw images to arrays, compared with Pillow and torchvision."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import edgeport.preprocessing.images as ours
from edgeport.contracts import Preprocessing
from edgeport.errors import SamplesError
from edgeport.preprocessing import apply, value_range

SIZES = [
    ((64, 64), (56, 56)),
    ((37, 51), (64, 80)),
    ((120, 160), (9, 56)),
    ((50, 50), (50, 25)),
    ((33, 77), (32, 76)),
    ((1, 1), (3, 5)),
]


def image(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Noise with a black and a white bar: the edges make bicubic overshoot."""
    raw = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    raw[: height // 4] = 255
    raw[height // 4 : height // 2] = 0
    return raw


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "wanted"), SIZES, ids=lambda size: "x".join(map(str, size)))
def test_sizes_are_changed_as_pillow_does(size, wanted, channels, interpolation):
    from PIL import Image

    raw = image(*size, channels)
    pillow = Image.fromarray(raw if channels == 3 else raw[:, :, 0])
    its = np.asarray(pillow.resize(wanted[::-1], getattr(Image.Resampling, interpolation.upper())))
    np.testing.assert_array_equal(ours.resized(raw, wanted, interpolation), its.reshape(*wanted, channels))


@pytest.mark.parametrize("size", [(41, 60), (60, 41), (40, 40)], ids=["wide", "high", "square"])
def test_all_of_it_is_what_torchvision_does(size):
    from PIL import Image
    from torchvision import transforms

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs = transforms.Compose(
        [transforms.Resize(36), transforms.CenterCrop((31, 32)), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    raw = image(*size)
    mine = apply(Preprocessing(resize=36, crop=(31, 32), scale=1 / 255, mean=mean, std=std), [raw])
    assert mine.dtype == np.float32
    np.testing.assert_allclose(mine[0], theirs(Image.fromarray(raw)).numpy(), rtol=0, atol=2e-6)


def test_large_images_are_resized_in_the_same_way(monkeypatch):
    raw = image(40, 30)
    at_once = ours.resized(raw, (17, 12), "bicubic")
    monkeypatch.setattr(ours, "_AT_ONCE", 8)
    np.testing.assert_array_equal(ours.resized(raw, (17, 12), "bicubic"), at_once)


def test_floats_are_resized_without_rounding():
    raw = image(40, 30)
    of_floats = ours.resized(raw.astype(np.float32), (17, 12), "bilinear")
    assert of_floats.dtype == np.float32
    assert np.abs(of_floats - ours.resized(raw, (17, 12), "bilinear")).max() < 1.01
    assert (of_floats != np.round(of_floats)).any()


def test_layout_and_color():
    raw = image(4, 5)
    np.testing.assert_array_equal(apply(Preprocessing(), raw[None])[0], raw.transpose(2, 0, 1))
    np.testing.assert_array_equal(apply(Preprocessing(layout="NHWC", color="BGR"), [raw])[0], raw[:, :, ::-1])
    kept = apply(Preprocessing(layout="NHWC"), [raw], dtype="uint8")
    assert kept.dtype == np.uint8
    assert kept.flags.c_contiguous


def test_grey_images_have_one_channel():
    raw = image(4, 5, 1)[:, :, 0]
    np.testing.assert_array_equal(apply(Preprocessing(), [raw]), raw[None, None])


@pytest.mark.parametrize(
    ("preprocessing", "images", "says"),
    [
        (Preprocessing(), [image(4, 5), image(5, 4)], "image 1 comes out as.*add a crop"),
        (Preprocessing(crop=(8, 8)), [image(4, 9)], "no piece of 8 x 8"),
        (Preprocessing(mean=(1.0, 2.0)), [image(4, 4)], "2 numbers in mean or std"),
        (Preprocessing(), [np.zeros((2, 2, 3), np.int64)], "uint8 or float.*int64"),
        (Preprocessing(), [np.zeros((2, 2, 2, 2), np.uint8)], "uint8 or float"),
        (Preprocessing(), [np.zeros((0, 2, 3), np.uint8)], "no pixels"),
        (Preprocessing(), [], "no images"),
    ],
    ids=["sizes", "crop", "channels", "integers", "axes", "empty-image", "no-image"],
)
def test_what_cannot_be_prepared_is_named(preprocessing, images, says):
    with pytest.raises(SamplesError, match=f"(?s){says}.*preprocessed = true") as caught:
        apply(preprocessing, images)
    assert caught.value.details["problem"] == "preprocess"


def test_floats_are_no_uint8():
    with pytest.raises(SamplesError, match=r"floats .float32. can't be fed as uint8"):
        apply(Preprocessing(), [np.zeros((2, 2, 3), np.float32)], dtype="uint8")


@pytest.mark.parametrize("scale", [1 / 255, -0.5], ids=["positive", "negative"])
def test_no_uint8_image_leaves_the_range(scale):
    declared = Preprocessing(scale=scale, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    every = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :, None], 3, axis=3)
    prepared = apply(declared, every)
    assert (float(prepared.min()), float(prepared.max())) == value_range(declared)


def test_the_file_that_bundles_carry_needs_numpy_alone():
    tree = ast.parse(Path(ours.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"__future__", "functools", "numpy", "typing"}
