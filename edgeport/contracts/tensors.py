"""What goes into a model and comes out of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edgeport.errors import ContractError

__all__ = [
    "COLORS",
    "DTYPES",
    "INTERPOLATIONS",
    "LAYOUTS",
    "AxisRange",
    "Preprocessing",
    "PreprocessingFunction",
    "TensorSpec",
]

DTYPES = frozenset(
    {"float16", "bfloat16", "float32", "float64", "bool", "string"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)

LAYOUTS = ("NCHW", "NHWC")
COLORS = ("RGB", "BGR")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_MOST_PIXELS = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a raw image becomes the tensor: resize, crop, scale, normalise, lay out.

    A raw image is [H, W, C], channels last, or [H, W]; its numbers are 0..255 (uint8) or floats. What is computed is
    `(image * scale - mean) / std`, in this order of steps: resize, crop, colour order, numbers, layout.

    Attributes:
        resize: Pixels of the shorter side, which keeps the proportions; or height and width; or None.
        crop: Height and width of the piece that is cut from the middle, or None.
        scale: Multiplied first (1/255 brings uint8 to 0..1).
        mean: Subtracted per channel, in the unit of the input after `scale`; one number serves all channels.
        std: Divided by per channel; one number serves all channels.
        layout: "NCHW" or "NHWC", of the tensor that the model takes.
        color: "RGB" or "BGR", of the tensor that the model takes; raw images are RGB.
        interpolation: "nearest", "bilinear" or "bicubic"; the latter two smooth where they shrink (antialias).
        fold: "" where all of it is done before the model; "NHWC" or "NCHW" where scale, mean, std and the change of
            layout are to become nodes of the graph, which then takes uint8 in this layout. Resize, crop and colour
            stay outside (`outside_of`).
        raw: Name of the raw array in the samples; empty where it is the input's own.

    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str = "NCHW"
    color: str = "RGB"
    interpolation: str = "bilinear"
    fold: str = ""
    raw: str = ""

    def __post_init__(self) -> None:
        _one_of("layout", self.layout, LAYOUTS)
        _one_of("color", self.color, COLORS)
        _one_of("interpolation", self.interpolation, INTERPOLATIONS)
        _one_of("fold", self.fold, ("", *LAYOUTS))
        for name, size in (("resize", self.resize), ("crop", self.crop)):
            if any(not 1 <= pixels <= _MOST_PIXELS for pixels in _sides(size)):
                raise _unfit(f"{name} {_spelled(size)}", f"give 1 to {_MOST_PIXELS} pixels")
        if not math.isfinite(self.scale) or self.scale == 0:
            raise _unfit(
                f"scale {self.scale:g}", "give a finite number that is not 0, such as 1/255 = 0.00392156862745098"
            )
        if any(not math.isfinite(value) for value in self.mean):
            raise _unfit(f"mean {_spelled(self.mean)}", "give finite numbers, one per channel")
        if any(not math.isfinite(value) or value <= 0 for value in self.std):
            raise _unfit(f"std {_spelled(self.std)}", "give positive numbers, one per channel")
        if len({len(values) for values in (self.mean, self.std) if len(values) > 1}) > 1:
            raise _unfit(
                f"mean {_spelled(self.mean)} and std {_spelled(self.std)}",
                "give as many numbers in one as in the other",
            )
        resized = _sides(self.resize) if isinstance(self.resize, tuple) else _sides(self.resize) * 2
        if self.crop is not None and resized and any(c > r for c, r in zip(self.crop, resized, strict=True)):
            raise _unfit(
                f"crop {_spelled(self.crop)} of images resized to {_spelled(self.resize)}",
                "resize to at least the size of the crop",
            )

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of what comes out, where they do not depend on the image."""
        return self.crop if self.crop is not None else self.resize if isinstance(self.resize, tuple) else None

    @property
    def changes_numbers(self) -> bool:
        """Scale, mean or std do something."""
        return self.scale != 1.0 or any(self.mean) or any(value != 1.0 for value in self.std)


@dataclass(frozen=True, kw_only=True)
class PreprocessingFunction:
    """The user's own way from raw items to tensors: a tokenizer, a spectrogram.

    The function is given the raw items of one batch (a list, or an array [N, ...]) and returns the array for this input
    ([N, ...]), or a mapping of arrays by input name where it fills several (input_ids and attention_mask).

    Attributes:
        function: `pkg.mod:fn`.
        raw: Name of the raw array in the samples; empty where it is the input's own.
        ship: Its module's file goes into the bundle, so that `run.py` can take raw items.

    """

    function: str
    raw: str = ""
    ship: bool = False

    def __post_init__(self) -> None:
        if not _FUNCTION.fullmatch(self.function):
            raise _unfit(f"function {self.function!r}", 'name a module and a function in it: "tokens:encode"')
        if self.ship and "." in self.function.partition(":")[0]:
            raise _unfit(
                f"ship = true with function {self.function!r}, whose module lies in a package",
                "put the function into a module of its own beside the recipe; a bundle takes one file",
            )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise _unfit(f"{name} {value!r}", f"use one of {', '.join(repr(one) for one in known if one)}")


def _sides(size: int | tuple[int, int] | None) -> tuple[int, ...]:
    return () if size is None else size if isinstance(size, tuple) else (size,)


def _spelled(size: object) -> str:
    return str(list(size)) if isinstance(size, tuple) else str(size)


def _unfit(found: str, fix: str) -> ContractError:
    return ContractError(asked="preprocess raw samples", found=found, fix=fix)


@dataclass(frozen=True, kw_only=True)
class AxisRange:
    """How large a free axis may be.

    Attributes:
        minimum, maximum: Sizes that must work, both included.
        timed: Size that latencies are told for; None for the median of the samples.

    """

    minimum: int = 1
    maximum: int
    timed: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.minimum < self.maximum:
            raise ContractError(
                asked="leave an axis free",
                found=f"the range [{self.minimum}, {self.maximum}]",
                fix="give the smaller size first, 1 or more; an axis of one size is a number in the shape",
            )
        if self.timed is not None and not self.minimum <= self.timed <= self.maximum:
            raise ContractError(
                asked=f"time an axis of {self.timed}",
                found=f"that its range is [{self.minimum}, {self.maximum}]",
                fix="time a size of the range",
            )


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: As the ONNX graph has it.
        dtype: Its numpy name ("float32"; also "bfloat16" and "string").
        shape: Sizes; a string names a symbolic axis (`("batch", 3, 224, 224)`).
        value_range: Smallest and largest value that occurs, where it is known.
        preprocessing: How raw data becomes this tensor, where it is declared.

    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    value_range: tuple[float, float] | None = None
    # The one with a field that must be there comes first: a reader of JSON tries them in this order.
    preprocessing: PreprocessingFunction | Preprocessing | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ContractError(asked="describe a tensor", found="an empty name", fix="name it")
        if self.dtype not in DTYPES:
            raise ContractError(
                asked=f"describe tensor {self.name!r}",
                found=f"dtype {self.dtype!r}",
                fix=f"use one of {', '.join(sorted(DTYPES))}",
            )
        for size in self.shape:
            if (isinstance(size, int) and size < 0) or size == "":
                raise ContractError(
                    asked=f"describe tensor {self.name!r}",
                    found=f"axis {size!r} in shape {self.shape}",
                    fix="give sizes of 0 or more, or name the axis",
                )
        if self.value_range is not None and not self.value_range[0] <= self.value_range[1]:
            raise ContractError(
                asked=f"describe tensor {self.name!r}",
                found=f"value range {self.value_range}",
                fix="give the smaller value first",
            )
        if isinstance(self.preprocessing, Preprocessing):
            self._check_image(self.preprocessing)

    def _check_image(self, preprocessing: Preprocessing) -> None:
        """What preprocessing makes must be what this tensor takes."""
        layout, size = preprocessing.layout, preprocessing.size
        if len(self.shape) != len(layout):
            found = f"shape {_spelled(self.shape)}, which is no batch of images"
            raise self._misfit(found, f"give four axes as {layout} names them, or preprocess by function")
        axes = dict(zip(layout, self.shape, strict=True))
        for side, pixels in zip("HW", size or (), strict=False):
            if isinstance(axes[side], int) and axes[side] != pixels:
                raise self._misfit(
                    f"images of {_spelled(size)} pixels for shape {_spelled(self.shape)} in {layout}",
                    f"make the {'crop' if preprocessing.crop else 'size'} that of the input, or correct layout, shape",
                )
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            if len(values) > 1 and isinstance(axes["C"], int) and len(values) != axes["C"]:
                raise self._misfit(
                    f"{len(values)} numbers in {name}, {axes['C']} channels in shape {_spelled(self.shape)} ({layout})",
                    "give one number per channel, or correct layout or shape",
                )
        if preprocessing.color == "BGR" and isinstance(axes["C"], int) and axes["C"] != 3:
            raise self._misfit(
                f"color BGR with {axes['C']} channels", "leave color out: only three channels have an order"
            )
        if preprocessing.changes_numbers and not self.dtype.startswith("float"):
            raise self._misfit(
                f"scale, mean or std for dtype {self.dtype}", "leave them out, or give the dtype that the model takes"
            )

    def _misfit(self, found: str, fix: str) -> ContractError:
        return ContractError(asked=f"preprocess to tensor {self.name!r}", found=found, fix=fix)

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """Index and name of each symbolic axis."""
        return {index: size for index, size in enumerate(self.shape) if isinstance(size, str)}
