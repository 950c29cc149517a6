"""What goes into a model and comes out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeport.errors import ContractError

__all__ = ["DTYPES", "Preprocessing", "TensorSpec"]

DTYPES = frozenset(
    {"float16", "bfloat16", "float32", "float64", "bool", "string"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How raw data becomes the tensor: resize, scale, subtract, divide, lay out.

    Attributes:
        resize: Height and width in pixels, or None.
        mean: Subtracted per channel, in the unit of the input after `scale`.
        std: Divided by per channel.
        scale: Multiplied first (1/255 brings uint8 to 0..1).
        layout: "NCHW" or "NHWC", of the tensor that the model takes.

    """

    resize: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float = 1.0
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        if self.layout not in ("NCHW", "NHWC"):
            raise ContractError(
                asked=f"preprocess to layout {self.layout!r}", found="neither NCHW nor NHWC", fix="use one of them"
            )
        if any(not math.isfinite(x) or x == 0 for x in self.std):
            raise ContractError(
                asked=f"divide by std {self.std}", found="a zero or non-finite value", fix="give positive numbers"
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
    preprocessing: Preprocessing | None = None

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

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """Index and name of each symbolic axis."""
        return {index: size for index, size in enumerate(self.shape) if isinstance(size, str)}
