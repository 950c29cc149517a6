"""The names of what a node can run in, and what a name says of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

__all__ = ["Precision", "QuantizedDtype", "WeightForm", "integer_limits"]

QuantizedDtype = Literal["uint8", "int8", "uint16", "int16", "int4", "uint4", "float8e4m3fn"]

_LIMITS: dict[str, tuple[int, int]] = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "float8e4m3fn": (-448, 448),
}


class Precision(StrEnum):
    """In what arithmetic a node runs, or how its weights are stored."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"
    """Static: activation ranges are in the plan."""
    FP8 = "fp8"
    """Static, in floats of 8 bits (E4M3) instead of integers: what multiplies reads them, and gives wider floats."""
    INT8_DYNAMIC = "int8-dynamic"
    """Activation ranges are found while it runs."""
    INT8_WEIGHTS = "int8-weights"
    """Weights alone are integers, one scale per output channel; no ranges, so no samples."""
    INT4_WEIGHTS_32 = "int4-weights-32"
    """The same in 4 bits, one scale for every 32 values that are summed; the others so for 64 and 128."""
    INT4_WEIGHTS_64 = "int4-weights-64"
    INT4_WEIGHTS_128 = "int4-weights-128"
    UINT4_WEIGHTS_32 = "uint4-weights-32"
    """Each block has a zero point beside its scale."""
    UINT4_WEIGHTS_64 = "uint4-weights-64"
    UINT4_WEIGHTS_128 = "uint4-weights-128"
    INT16 = "int16"
    """Static, activations in 16 bits. No runtime here computes so; its name exists to be refused with the reason."""

    @property
    def is_float(self) -> bool:
        """A node in this precision needs no ranges and no weights that were quantized."""
        return self in (Precision.FP32, Precision.BF16, Precision.FP16)

    @property
    def needs_ranges(self) -> bool:
        """A plan needs the ranges of activations, which come from calibration samples."""
        return self in (Precision.INT8, Precision.FP8, Precision.INT16)

    @property
    def has_fixed_integers(self) -> bool:
        """Its integers are known before it runs: of ranges, or of weights alone."""
        return (self.needs_ranges and self is not Precision.FP8) or self.weight_form is not None

    @property
    def weight_form(self) -> WeightForm | None:
        """How weights are stored where they alone are integers; None for every other precision."""
        dtype, weights, block = self.value.partition("-weights")
        if not weights:
            return None
        forms: dict[str, QuantizedDtype] = {"int8": "int8", "int4": "int4", "uint4": "uint4"}
        return WeightForm(dtype=forms[dtype], block_size=int(block[1:]) if block else None)


@dataclass(frozen=True, kw_only=True)
class WeightForm:
    """How weights that alone are integers are stored.

    Attributes:
        dtype: Signed types have zero point 0, unsigned ones a zero point per scale.
        block_size: So many values that are summed share a scale; None for one scale per output channel.

    """

    dtype: QuantizedDtype
    block_size: int | None = None

    @property
    def symmetric(self) -> bool:
        """Zero point 0."""
        return not self.dtype.startswith("u")

    @property
    def stored(self) -> str:
        """Width of what is stored, as placements name it: "int8" or "int4"."""
        return self.dtype.removeprefix("u")


def integer_limits(dtype: QuantizedDtype) -> tuple[int, int]:
    """Smallest and largest number of a quantized type."""
    return _LIMITS[dtype]
