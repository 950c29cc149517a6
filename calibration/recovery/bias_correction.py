"""Bias correction: each layer's mean output is brought back to that of the float model, channel by channel.

Rounded weights and clipped activations shift the mean output of a layer. The shift is constant over the samples, so the
bias can take it up. It is measured on samples rather than computed from BatchNorm's parameters: between the float model
and the quantized one, layer after layer, each behind the corrections of those before it. Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2 and appendix D.

Where a Relu or Clip follows, behind the sum with a residual too, only what it lets through counts. Errors often grow
with the values; their mean over all is then mostly that of the many negative ones, which nobody sees, and to correct it
shifts the few that are seen. So the bias is the one of least squared error behind the activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeport.calibration.graph import constant_of, is_default_domain
from edgeport.calibration.recovery.context import RecoveryContext
from edgeport.calibration.recovery.layers import Layer, find_layers, only_reader
from edgeport.calibration.recovery.layerwise_runner import Stepper
from edgeport.calibration.recovery.model_edit import RecoveryResult, set_constant
from edgeport.contracts import Array, OnnxModel, Precision, QuantizationPlan
from edgeport.errors import CalibrationError
from edgeport.onnx_files import infer_types, read_ir, write_ir

__all__ = ["correct_biases"]

_ROUNDS = 3
"""Of Gauss and Newton: what a Relu lets through depends on the bias."""


def correct_biases(model: OnnxModel, plan: QuantizationPlan, bench: RecoveryContext, output: Path) -> RecoveryResult:
    """Writes the model with biases that suit the plan; a convolution without a bias gets one.

    Left as they are: a MatMul without an Add of a constant [N] behind it, a Gemm with beta, and a constant that several
    Adds share.

    Args:
        model: Float; the plan is for it.
        plan: Static int8.
        bench: Its reference has the model's nodes, by name.
        output: The file.

    Raises:
        CalibrationError: No layer has a bias to correct.

    """
    ir_model = read_ir(model)
    infer_types(ir_model)
    integer = [name for name, precision in plan.nodes.items() if precision is Precision.INT8]
    layers = find_layers(ir_model.graph, integer)
    able = _seen(ir_model.graph, [layer for layer in layers if _is_able(layer)])
    if not able:
        raise CalibrationError(
            asked=f"correct the biases of {model.path.name}",
            found=f"{len(layers)} integer layers, none with a constant bias per channel",
            fix="leave bias-correction out for this model",
        )
    with bench.side_by_side(model, plan) as (true, quantized):
        for seen in able:
            layer, shift = seen.layer, _shift(seen, true, quantized)
            old = constant_of(layer.bias)
            array = shift if old is None else old.astype(np.float64) + shift
            index = layer.bias_index if layer.bias_index is not None else 2
            set_constant(ir_model.graph, layer.adding, index, array.astype(np.float32), name=f"{layer.name}_bias")
    return RecoveryResult(
        model=write_ir(ir_model, output),
        said=f"bias-correction ({len(able)} of {len(layers)} layers, {bench.samples} samples)",
    )


def _is_able(layer: Layer) -> bool:
    if layer.bias_index is None:
        return False
    # Of a shared constant the plan knows one scheme, and a second one would have none.
    return layer.adding is layer.node or layer.bias is None or len(layer.bias.uses()) == 1


@dataclass(frozen=True, kw_only=True)
class _CorrectedLayer:
    """A layer, and where its error is looked at.

    Attributes:
        layer: Whose bias is corrected.
        at: The node behind whose output only `low`..`high` is let through: the one that adds the bias, or the sum with
            a residual.
        low, high: Without limit where no activation follows.

    """

    layer: Layer
    at: ir.Node
    low: float = -np.inf
    high: float = np.inf


def _seen(graph: ir.Graph, layers: Sequence[Layer]) -> list[_CorrectedLayer]:
    """In the order in which they are looked at."""
    places = {node: index for index, node in enumerate(graph)}
    taken: set[ir.Node] = set()
    found: list[_CorrectedLayer] = []
    for layer in sorted(layers, key=lambda layer: places[layer.adding], reverse=True):
        after = only_reader(layer.adding.outputs[0])
        limits = _limits(after)
        if limits is None and after is not None and _is_sum(after) and after not in taken:
            limits = _limits(only_reader(after.outputs[0]))
            if limits is not None:
                taken.add(after)
                found.append(_CorrectedLayer(layer=layer, at=after, low=limits[0], high=limits[1]))
                continue
        low, high = limits or (-np.inf, np.inf)
        found.append(_CorrectedLayer(layer=layer, at=layer.adding, low=low, high=high))
    return sorted(found, key=lambda seen: places[seen.at])


def _is_sum(node: ir.Node) -> bool:
    """Of two activations of one shape."""
    shapes = [value.shape if value is not None else None for value in node.inputs]
    return node.op_type == "Add" and is_default_domain(node) and shapes[0] is not None and shapes[0] == shapes[1]


def _limits(node: ir.Node | None) -> tuple[float, float] | None:
    """What a Relu or Clip by constants lets through; None for all else."""
    if node is None or not is_default_domain(node) or node.op_type not in ("Relu", "Clip"):
        return None
    if node.op_type == "Relu":
        return 0.0, np.inf
    ends = [-np.inf, np.inf]
    for index, value in enumerate(node.inputs[1:3]):
        array = constant_of(value)
        if value is not None and (array is None or array.size != 1):
            return None
        if array is not None:
            ends[index] = float(array.reshape(()))
    return ends[0], ends[1]


def _shift(seen: _CorrectedLayer, true: Stepper, quantized: Stepper) -> NDArray[np.float64]:
    """What the layer's output lacks [channels]; the quantized model goes on as if it had it."""
    name, axis = str(seen.at.name), seen.layer.channel_axis
    true.until(name)
    quantized.until(name)
    shift = np.zeros(seen.layer.channels)
    for _ in range(_ROUNDS if np.isfinite(seen.low) or np.isfinite(seen.high) else 1):
        lacks, counted = np.zeros_like(shift), np.zeros_like(shift)
        for wanted, given in zip(true.outputs_of(name), quantized.outputs_of(name), strict=True):
            rows, others = _rows(given, axis) + shift.astype(np.float32), _rows(wanted, axis)
            difference = np.clip(others, seen.low, seen.high) - np.clip(rows, seen.low, seen.high)
            lacks += difference.sum(axis=0, dtype=np.float64)
            counted += ((rows > seen.low) & (rows < seen.high)).sum(axis=0)
        shift += np.divide(lacks, counted, out=np.zeros_like(shift), where=counted > 0)

    def corrected(array: Array) -> Array:
        shape = [1] * array.ndim
        shape[axis] = -1
        changed: Array = array + shift.astype(array.dtype).reshape(shape)
        return changed

    quantized.change(name, corrected)
    return shift


def _rows(array: Array, axis: int) -> Array:
    """Every place of every sample [N, channels]."""
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
