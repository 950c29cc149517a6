"""Precision per node and ranges per tensor for one target; the dialect of a backend writes it into the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeport.errors import ContractError, PlanError
from edgeport.options.precision import Precision, QuantizedDtype, integer_limits

__all__ = [
    "ActivationQuantization",
    "OperatorRule",
    "Precision",
    "QuantizationPlan",
    "QuantizationRules",
    "QuantizedDtype",
    "RecurrentRule",
    "WeightQuantization",
    "integer_limits",
]

_BY_RANK = (
    Precision.INT16,
    Precision.INT8,
    Precision.FP8,
    Precision.INT8_DYNAMIC,
    # Before int8 weights, which stand in where blocks don't fit.
    *(one for one in Precision if one.weight_form is not None and one is not Precision.INT8_WEIGHTS),
    Precision.INT8_WEIGHTS,
)
"""Integer precisions, the most integer first; a plan that mixes them is named after the first that it has."""


def _require_zero(dtype: QuantizedDtype, symmetric: bool) -> None:
    if dtype == "float8e4m3fn" and not symmetric:
        raise ContractError(
            asked=f"quantize to {dtype} with a zero point", found="a float, whose zero is zero", fix="make it symmetric"
        )


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
        _require_zero(self.dtype, self.symmetric)


@dataclass(frozen=True, kw_only=True)
class WeightQuantization:
    """Scheme of one weight; its range is read from the weight itself.

    Attributes:
        dtype: Integer type that it is stored in.
        axis: Axis with one scale per index, or None for one scale in all; with `block_size`, the axis that the blocks
            lie along.
        block_size: So many neighbours along `axis` share a scale; the last block may be shorter. None for none.
        symmetric: Zero point 0.
        reduce_range: One bit less, where the hardware's 16-bit sums of u8*s8 pairs would saturate.
        power_of_two: Scales are rounded up to powers of two.

    """

    dtype: QuantizedDtype = "int8"
    axis: int | None = None
    symmetric: bool = True
    reduce_range: bool = False
    power_of_two: bool = False
    block_size: int | None = None

    def __post_init__(self) -> None:
        if self.block_size is not None and (self.block_size < 1 or self.axis is None):
            raise ContractError(
                asked=f"store a weight in blocks of {self.block_size}",
                found="no axis that they lie along" if self.axis is None else "fewer than one value in a block",
                fix="name the axis, and blocks of one value or more",
            )
        _require_zero(self.dtype, self.symmetric)


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
        """The plan's own name in tables: the first integer precision in it by `_BY_RANK`, else its default."""
        used = set(self.nodes.values())
        return next((precision for precision in _BY_RANK if precision in used), self.default)


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
        float_before: Operator types that need floats; a node whose output one of them reads stays float.

    """

    inputs: tuple[int, ...] = (0,)
    weight: int | None = None
    weight_axis: int | None = None
    bias: int | None = None
    outputs: tuple[int, ...] = (0,)
    same_scale: bool = False
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    float_before: tuple[str, ...] = ()

    def fits(self, attributes: Mapping[str, object]) -> bool:
        """A node with these attributes (name to value) is one that the rule is for."""
        return all(str(attributes[name]) in values for name, values in self.only.items() if name in attributes)


@dataclass(frozen=True, kw_only=True)
class RecurrentRule:
    """How a runtime runs a recurrent layer with integers.

    Attributes:
        weights: Indices of the inputs that are constant weights, [directions, gates * hidden, values] each.
        absent: Indices of inputs that must not be there.
        only: As in `OperatorRule`; no value at all where the attribute must not be there.
        within_one: Input and state are rounded to fixed steps from -1 to 1, so the input must lie there; else to
            steps over the range that they have in the call.

    """

    weights: tuple[int, ...]
    absent: tuple[int, ...] = ()
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within_one: bool = False

    def fits(self, attributes: Mapping[str, object], inputs: Sequence[object]) -> bool:
        """A node with these attributes (name to value) and inputs (None where one is left out) is one of them."""
        given = [index for index, value in enumerate(inputs) if value is not None]
        named = all(str(attributes[name]) in values for name, values in self.only.items() if name in attributes)
        return named and not set(given) & set(self.absent)


@dataclass(frozen=True, kw_only=True)
class QuantizationRules:
    """What a runtime on some hardware wants of a plan; data, so that the planner needs no runtime.

    Attributes:
        dialect: Its name.
        activation_dtype, activation_symmetric: Scheme of activations.
        weight_dtype, weight_per_channel, weight_reduce_range: Scheme of weights.
        operators: Operator type to how it is quantized; what is missing here stays float.
        fused: Operator type to the activations that the runtime folds into it; no Q/DQ stands between. "Swish"
            stands for `x * sigmoid(x)`, which ONNX writes as two nodes, "Bias" for an Add of a constant vector.
        dynamic_operators: Operator types that can run with ranges found while running.
        recurrent_operators: Operator types that run with integer weights, and round what goes round in them while they
            run; in static plans too, for that has no range of its own.
        weight_operators: Operator types whose weights alone can be integers, with the index of that input.
        block_operators: Those of them whose weights can be 4 bits wide, in blocks; the others get 8 bits.
        whole_blocks: A weight whose summed axis is no multiple of the block gets 8 bits, one scale per channel.
        quantize_bias: Biases are written as int32 behind a DequantizeLinear; else they stay float.
        float_weights: Operator type to why its weights can't be integers alone, as a sentence; for refusals.
        mixed_floats: Float nodes may have floats of their own, beside the plan's default; else all have that one.
        float8_operators: Operator types that multiply floats of 8 bits (`Precision.FP8`).

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
    recurrent_operators: Mapping[str, RecurrentRule] = field(default_factory=dict)
    weight_operators: Mapping[str, int] = field(default_factory=dict)
    block_operators: tuple[str, ...] = ()
    whole_blocks: bool = False
    quantize_bias: bool = False
    float_weights: Mapping[str, str] = field(default_factory=dict)
    mixed_floats: bool = False
    float8_operators: tuple[str, ...] = ()

    def in_float8(self) -> QuantizationRules:
        """The dialect's rules for `Precision.FP8`: what its `float8_operators` read is narrow, and nothing else is."""
        read = {name: replace(self.operators[name], outputs=(), bias=None) for name in self.float8_operators}
        return replace(
            self,
            activation_dtype="float8e4m3fn",
            activation_symmetric=True,
            weight_dtype="float8e4m3fn",
            weight_reduce_range=False,
            operators=read,
            fused={},
            recurrent_operators={},
        )
