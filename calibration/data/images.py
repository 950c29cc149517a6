"""Image files to arrays, by Pillow; each file is looked at before its pixels are unpacked."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from edgeport.contracts import Array
from edgeport.errors import DependencyError, EdgeportError, SamplesError

__all__ = ["MOST_PIXELS", "read_image"]

MOST_PIXELS = 50_000_000
"""Of one image, 150 MB as RGB: a few kilobytes of PNG can claim to be a thousand times as large."""

_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that start other programs (EPS) or that nobody trains with are out."""

_DEEP = ("I", "F")
"""Beginnings of Pillow's names for 16 and 32 bits per channel."""


def read_image(path: Path, name: str, channels: int | None = None) -> Array:
    """The pixels of a file, as they are stored: nothing is turned by what EXIF says, as in torchvision's folders.

    Args:
        path: The file.
        name: For messages.
        channels: 1 for grey; RGB otherwise. An alpha channel is dropped.

    Returns:
        uint8 [H, W, channels], 0..255.

    Raises:
        SamplesError: No image of a known format, damaged, too large, with more than 8 bits per channel, or animated.
        DependencyError: Pillow is not installed.

    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise DependencyError(
            asked=f"read the image {name!r}",
            found="no package pillow, which decodes images",
            fix="pip install 'edgeport[images]'",
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        try:
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise _wrong(
                        name,
                        f"{image.width} x {image.height} pixels; at most {MOST_PIXELS} are unpacked",
                        "make the image smaller",
                        problem="size",
                    )
                if image.mode.startswith(_DEEP):
                    raise _wrong(
                        name, f"more than 8 bits per channel (mode {image.mode})", "convert it to 8 bits per channel"
                    )
                # MPO is what telephones write as .jpg: the photograph, and a small one behind it.
                if image.format != "MPO" and getattr(image, "is_animated", False):
                    raise _wrong(name, "several pictures in one file", "store the one that is meant")
                pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except Image.DecompressionBombError as error:
            raise _wrong(name, str(error), "make the image smaller", problem="size") from error
        except UnidentifiedImageError as error:
            raise _wrong(name, "no image of a known format", f"give one of {', '.join(_FORMATS)}") from error
        except (MemoryError, EdgeportError):
            raise
        except Exception as error:  # Pillow's decoders may raise anything on damaged files
            raise _wrong(name, f"a damaged image ({error})", "replace the file, or remove it") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _wrong(name: str, found: str, fix: str, problem: str = "image") -> SamplesError:
    return SamplesError(asked=f"read the image {name!r}", found=found, fix=fix, details={"problem": problem})
