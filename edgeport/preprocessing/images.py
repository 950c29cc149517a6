# SPDX-License-Identifier: Apache-2.0
"""Raw images to arrays; the same code prepares the samples that are calibrated and judged with, and a bundle's images.

Python 3.8, numpy, nothing else of Edgeport: a bundle carries this file as `preprocess.py`. The settings are those of
`edgeport.contracts.Preprocessing`, as its manifest has them.

Images of uint8 are resized in integers, as Pillow does it (src/libImaging/Resample.c: the width first, then the height,
weights of 22 bits, each step rounded to uint8), so they come out the same, bit for bit, on every machine. The sums are
carried in float64, which holds every one of these integers exactly and is fast.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

__all__ = ["affine", "prepare_image", "prepare_images"]

_BITS = 22  # of the fraction in the weights of images of uint8
_AT_ONCE = 1 << 22  # numbers of an image that are held as float64; a larger one is converted row by row


def prepare_images(images: Any, settings: dict[str, Any], dtype: str) -> Any:
    """A batch of raw images as one array.

    Args:
        images: uint8 or float [N, H, W, C] or [N, H, W], or a sequence of N images [H, W, C] or [H, W].
        settings: The fields of a `Preprocessing` by name, or some of them.
        dtype: Of the result.

    Returns:
        [N, C, H, W], or [N, H, W, C] where the layout says so.

    Raises:
        ValueError: An image can't be prepared, or they come out in different sizes.

    """
    prepared = [prepare_image(image, settings, dtype) for image in images]
    if not prepared:
        raise ValueError("there are no images")
    for index, one in enumerate(prepared):
        if one.shape != prepared[0].shape:
            raise ValueError(
                f"image {index} comes out as {list(one.shape)}, image 0 as {list(prepared[0].shape)}; add a crop, or "
                "resize to a height and a width"
            )
    return np.stack(prepared)


def prepare_image(image: Any, settings: dict[str, Any], dtype: str) -> Any:
    """One raw image [H, W, C] or [H, W] (uint8, or floats) as [C, H, W] or [H, W, C]; raises ValueError."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.dtype.kind not in "uf" or (image.dtype.kind == "u" and image.dtype != np.uint8):
        raise ValueError(f"a raw image is uint8 or float [H, W, C]; this is {image.dtype} {list(image.shape)}")
    if 0 in image.shape:
        raise ValueError(f"an image of shape {list(image.shape)} has no pixels")
    if settings.get("resize") is not None:
        image = resized(image, settings["resize"], settings.get("interpolation", "bilinear"))
    if settings.get("crop") is not None:
        image = cropped(image, settings["crop"])
    if settings.get("color", "RGB") == "BGR":
        image = image[:, :, ::-1]
    factor, offset = affine(settings)
    if factor is not None or offset is not None:
        image = image.astype(np.float32)
        _require_channels(image, factor, offset)
        image = image if factor is None else image * factor
        image = image if offset is None else image + offset
    elif image.dtype.kind == "f" and np.dtype(dtype).kind != "f":
        raise ValueError(f"an image of floats ({image.dtype}) can't be fed as {dtype}; give uint8")
    if settings.get("layout", "NCHW") == "NCHW":
        image = image.transpose(2, 0, 1)
    return np.ascontiguousarray(image, dtype=dtype)


def affine(settings: dict[str, Any]) -> tuple[Any, Any]:
    """`(x * scale - mean) / std` as `x * factor + offset`: float32 [1] or [C], None where it changes nothing."""
    scale = float(settings.get("scale", 1.0))
    mean = np.asarray(settings.get("mean") or (0.0,), np.float64)
    std = np.asarray(settings.get("std") or (1.0,), np.float64)
    factor, offset = (scale / std).astype(np.float32), (-mean / std).astype(np.float32)
    return (None if (factor == 1).all() else factor), (None if (offset == 0).all() else offset)


def resized(image: Any, size: Any, interpolation: str) -> Any:
    """An image [H, W, C] in another size: the shorter side in pixels, or height and width."""
    high, wide = image.shape[:2]
    if isinstance(size, int):
        # The longer side is rounded down, as torchvision's Resize does it.
        short = min(high, wide)
        size = (
            size if high == short else int(size * high / short),
            size if wide == short else int(size * wide / short),
        )
    height, width = size
    if interpolation == "nearest":
        return image[_nearest(high, height)][:, _nearest(wide, width)]
    # Rows are what is summed over: the image lies on its side while its width is changed.
    if width != wide:
        image = _resampled(image.transpose(1, 0, 2), width, interpolation).transpose(1, 0, 2)
    if height != high:
        image = _resampled(image, height, interpolation)
    return image


def cropped(image: Any, size: Any) -> Any:
    """The middle of an image [H, W, C], as torchvision's CenterCrop finds it."""
    (high, wide), (height, width) = image.shape[:2], size
    if height > high or width > wide:
        raise ValueError(
            f"an image of {high} x {wide} pixels has no piece of {height} x {width} (height x width); resize it first"
        )
    top, left = round((high - height) / 2), round((wide - width) / 2)
    return image[top : top + height, left : left + width]


def _require_channels(image: Any, factor: Any, offset: Any) -> None:
    for values in (factor, offset):
        if values is not None and len(values) not in (1, image.shape[2]):
            raise ValueError(
                f"{len(values)} numbers in mean or std, and an image of shape {list(image.shape)}, whose last axis is "
                "the channels"
            )


def _nearest(size: int, wanted: int) -> Any:
    steps = np.full(wanted, size / wanted)
    steps[0] /= 2
    return np.minimum(np.add.accumulate(steps).astype(np.int64), size - 1)


def _resampled(image: Any, wanted: int, interpolation: str) -> Any:
    """`wanted` weighted sums of the rows of an image [H, W, C]."""
    rows = np.ascontiguousarray(image).reshape(len(image), -1)
    whole = image.dtype == np.uint8
    if rows.size <= _AT_ONCE:
        rows = rows.astype(np.float64)
    result = np.empty((wanted, rows.shape[1]), np.float64)
    for index, (start, weights) in enumerate(_weights(len(rows), wanted, interpolation, whole)):
        block = rows[start : start + len(weights)]
        np.dot(weights, block.astype(np.float64, copy=False), out=result[index])
    if whole:
        result += 1 << (_BITS - 1)
        result *= 1.0 / (1 << _BITS)
        result = np.clip(np.floor(result, out=result), 0, 255, out=result)
    return result.astype(image.dtype).reshape(wanted, *image.shape[1:])


@functools.lru_cache(maxsize=64)
def _weights(size: int, wanted: int, interpolation: str, whole: bool) -> list[tuple[int, Any]]:
    """Per new row: the first old row that counts, and the weights [n] from there on; their sum is 1, or 2**22."""
    shape, reach = (_triangle, 1.0) if interpolation == "bilinear" else (_cubic, 2.0)
    step = size / wanted
    stretch = max(step, 1.0)  # shrinking: each old row counts, so that nothing is skipped (antialias)
    found = []
    for index in range(wanted):
        center = (index + 0.5) * step
        start = max(int(center - reach * stretch + 0.5), 0)
        stop = min(int(center + reach * stretch + 0.5), size)
        weights = shape((np.arange(start, stop) - center + 0.5) / stretch)
        weights = weights / sum(weights.tolist())  # in order, whatever the machine
        if whole:
            weights = np.trunc(weights * (1 << _BITS) + np.copysign(0.5, weights))
        found.append((start, weights))
    return found


def _triangle(x: Any) -> Any:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: Any) -> Any:
    """Keys' cubic convolution (IEEE Transactions on Acoustics, Speech, and Signal Processing 29, 1981), a = -0.5."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, inner, np.where(x < 2.0, outer, 0.0))
