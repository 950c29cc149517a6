"""Precision per node and ranges per tensor for one target; the dialect of a backend writes it into the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from edgeport.errors import ContractError, PlanError

__all__ = [
    "ActivationQuantization",
    "OperatorRule",
    "Precision",
    "QuantizationPlan",
    "QuantizationRules",
    "QuantizedDtype",
    "WeightQuantization",
    "integer_limits",
]

QuantizedDtype = Literal["uint8", "int8", "uint16", "int16", "int4", "uint4"]

_LIMITS: dict[str, tuple[int, int]] = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "int4": (-8, 7),
    "uint4": (0, 15),
}


class Precision(StrEnum):
    """In what arithmetic a node runs."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"
    """Static: activation ranges are in the plan."""
    INT8_DYNAMIC = "int8-dynamic"
    """Activation ranges are found while it runs."""

    @property
    def is_float(self) -> bool:
        """A node in this precision needs no ranges and no integer weights."""
        return self in (Precision.FP32, Precision.BF16, Precision.FP16)


@dataclass(frozen=True, kw_only=True)
class ActivationQuantization:
    """Scheme and range of one activation tensor.

    Attributes:
        dtype: Integer type that it is stored in.
        minimum, maximum: The range that maps to the integers; the dialect widens it to hold zero.
        symmetric: The zero point is the middle of the integer type.

    """

    dtype: QuantizedDtype
    minimum: float
    maximum: float
    symmetric: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.minimum) and math.isfinite(self.maximum) and self.minimum <= self.maximum):
            raise ContractError(
                asked="quantize an activation",
                found=f"range {self.minimum}..{self.maximum}",
                fix="calibrate with samples that give finite activations",
            )


@dataclass(frozen=True, kw_only=True)
class WeightQuantization:
    """Scheme of one weight; its range is read from the weight itself.

    Attributes:
        dtype: Integer type that it is stored in.
        axis: Axis with one scale per index, or None for one scale in all.
        symmetric: Zero point 0.
        reduce_range: One bit less, where the hardware's 16-bit sums of u8*s8 pairs would saturate.
        power_of_two: Scales are rounded up to powers of two.

    """

    dtype: QuantizedDtype = "int8"
    axis: int | None = None
    symmetric: bool = True
    reduce_range: bool = False
    power_of_two: bool = False


@dataclass(frozen=True, kw_only=True)
class QuantizationPlan:
    """One target's precisions and ranges.

    Attributes:
        dialect: Name of the rules it was made for ("onnxruntime-x86").
        model_digest: Of the model it fits.
        default: Precision of every node that `nodes` does not name.
        nodes: Node name to precision.
        activations: Tensor name to scheme and range.
        weights: Initializer name to scheme.
        found_by: How it was found, for people ("percentile 99.99, 128 samples").
        data_free: Its ranges rest on synthesised samples.
        recovered_by: What was done to the model that it fits, before it was quantized, in order
            ("bias-correction (20 of 21 layers, 128 samples)").

    """

    dialect: str
    model_digest: str
    default: Precision = Precision.FP32
    nodes: Mapping[str, Precision] = field(default_factory=dict)
    activations: Mapping[str, ActivationQuantization] = field(default_factory=dict)
    weights: Mapping[str, WeightQuantization] = field(default_factory=dict)
    found_by: str = ""
    data_free: bool = False
    recovered_by: tuple[str, ...] = ()
    schema_version: int = 1

    def __post_init__(self) -> None:
        if not self.default.is_float:
            raise PlanError(
                asked=f"run every node in {self.default}",
                found="a default that needs ranges per tensor",
                fix="make the default a float precision and name the integer nodes",
            )

    @property
    def precision(self) -> Precision:
        """The plan's own name in tables: its lowest integer precision, else its default."""
        used = set(self.nodes.values())
        for precision in (Precision.INT8, Precision.INT8_DYNAMIC):
            if precision in used:
                return precision
        return self.default


@dataclass(frozen=True, kw_only=True)
class OperatorRule:
    """How a runtime quantizes one operator.

    Attributes:
        inputs: Indices of the inputs that are activations; -1 for all of them.
        weight: Index of the input that is a constant weight, if it has one.
        weight_axis: Axis of the weight with one scale per index (output channels), or None.
        bias: Index of the float bias, if it has one.
        outputs: Indices of the outputs that are quantized; none where the runtime leaves them float.
        same_scale: Input and output share scale and zero point (Reshape, MaxPool, Transpose).
        only: Attribute name to the values, as text, with which the runtime has an integer kernel; a node without
            the attribute fits, so ONNX's default has to be among them.

    """

    inputs: tuple[int, ...] = (0,)
    weight: int | None = None
    weight_axis: int | None = None
    bias: int | None = None
    outputs: tuple[int, ...] = (0,)
    same_scale: bool = False
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def fits(self, attributes: Mapping[str, object]) -> bool:
        """A node with these attributes (name to value) is one that the rule is for."""
        return all(str(attributes[name]) in values for name, values in self.only.items() if name in attributes)


@dataclass(frozen=True, kw_only=True)
class QuantizationRules:
    """What a runtime on some hardware wants of a plan; data, so that the planner needs no runtime.

    Attributes:
        dialect: Its name.
        activation_dtype, activation_symmetric: Scheme of activations.
        weight_dtype, weight_per_channel, weight_reduce_range: Scheme of weights.
        operators: Operator type to how it is quantized; what is missing here stays float.
        fused: Operator type to the activations that the runtime folds into it; no Q/DQ stands between. "Swish"
            stands for `x * sigmoid(x)`, which ONNX writes as two nodes.
        dynamic_operators: Operator types that can run with ranges found while running.
        quantize_bias: Biases are written as int32 behind a DequantizeLinear; else they stay float.

    """

    dialect: str
    activation_dtype: QuantizedDtype
    activation_symmetric: bool
    weight_dtype: QuantizedDtype = "int8"
    weight_per_channel: bool = True
    weight_reduce_range: bool = False
    operators: Mapping[str, OperatorRule] = field(default_factory=dict)
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dynamic_operators: tuple[str, ...] = ()
    quantize_bias: bool = False


def integer_limits(dtype: QuantizedDtype) -> tuple[int, int]:
    """Smallest and largest integer of a quantized type."""
    return _LIMITS[dtype]
