"""Learned rounding: weights are put on the integers that keep each layer's outputs, layer after layer.

Each layer sees the inputs that the quantized model gives it, behind the rounding of the layers before, and is to give
the outputs of the float model ("asymmetric reconstruction"; see `adaround.py`). What is learned is written into the
float model's weight as exact multiples of its step, so that rounding to nearest, which every writer of a plan does,
gives these integers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeport.calibration.graph import constant_of, is_default_domain
from edgeport.calibration.recovery.adaround import RoundedLayer, learn_rounding, nearest, reconstruction_error
from edgeport.calibration.recovery.context import RecoveryContext
from edgeport.calibration.recovery.im2col_samples import columns_of, grouped, has_columns, ungrouped
from edgeport.calibration.recovery.layers import Layer, find_layers, only_reader
from edgeport.calibration.recovery.layerwise_runner import Stepper, StoredWeight
from edgeport.calibration.recovery.model_edit import RecoveryResult, set_constant
from edgeport.contracts import OnnxModel, Precision, QuantizationPlan
from edgeport.errors import CalibrationError
from edgeport.onnx_files import read_ir, write_ir

__all__ = ["round_weights"]

_MOST_COLUMNS = 16384
_COLUMN_BYTES = 128 << 20
"""Of one layer's inputs; a layer with many inputs gets fewer columns."""
_HELD_OUT = 0.2
"""Part of the columns that nothing is learned from: what does not help there is left at the nearest integers."""


def round_weights(
    model: OnnxModel, plan: QuantizationPlan, bench: RecoveryContext, output: Path, *, steps: int = 500
) -> RecoveryResult:
    """Writes the model with weights on the learned integers; layers that gain nothing keep theirs.

    Left as they are: a ConvTranspose, a convolution that is not of two dimensions or pads by itself, a Gemm with alpha
    or beta, asymmetric weights, and a weight that several nodes read.

    Args:
        model: Float; the plan is for it.
        plan: Static int8.
        bench: Its reference has the model's nodes, by name.
        output: The file.
        steps: Of Adam, per layer.

    Raises:
        CalibrationError: No layer can be rounded.

    """
    ir_model = read_ir(model)
    integer = [name for name, precision in plan.nodes.items() if precision is Precision.INT8]
    layers = find_layers(ir_model.graph, integer)
    able = [layer for layer in layers if _is_able(layer, plan)]
    if not able:
        raise CalibrationError(
            asked=f"learn the rounding of {model.path.name}",
            found=f"{len(layers)} integer layers, none that can be rounded",
            fix="leave rounding out for this model",
        )
    changed = 0
    with bench.side_by_side(model, plan) as (true, quantized):
        for index, layer in enumerate(able):
            stored = quantized.weight_of(layer.name)
            quantized.before(stored.node)
            true.until(layer.name)
            integers = _learned(layer, stored, true, quantized, steps=steps, seed=index)
            if integers is None:
                continue
            changed += 1
            quantized.set_weight(stored, integers)
            weight = integers * stored.scale_for(integers.ndim)
            set_constant(ir_model.graph, layer.node, 1, weight.astype(np.float32), name=f"{layer.name}_rounded")
    return RecoveryResult(
        model=write_ir(ir_model, output),
        said=f"rounding ({changed} of {len(layers)} layers, {steps} steps, {bench.samples} samples)",
    )


def _is_able(layer: Layer, plan: QuantizationPlan) -> bool:
    scheme = plan.weights.get(str(layer.weight.name))
    return has_columns(layer) and scheme is not None and scheme.symmetric and len(layer.weight.uses()) == 1


def _learned(
    layer: Layer, stored: StoredWeight, true: Stepper, quantized: Stepper, *, steps: int, seed: int
) -> NDArray[np.float32] | None:
    """The integers, shaped as the weight; None where they are no better than the nearest ones."""
    weight = np.asarray(constant_of(layer.weight))
    inner = weight.size // layer.channels
    count = min(_MOST_COLUMNS, _COLUMN_BYTES // (4 * inner * max(1, _groups(layer))))
    columns = columns_of(layer, quantized.inputs_of(layer.name), true.outputs_of(layer.name), max(count, 1), seed)
    in_steps = grouped(layer, weight / stored.scale_for(weight.ndim))
    shape = in_steps.shape[:2]
    bias = constant_of(layer.bias) if layer.adding is layer.node else None
    held = max(1, int(_HELD_OUT * columns.inputs.shape[-1]))

    def part(chosen: slice) -> RoundedLayer:
        return RoundedLayer(
            weight=in_steps,
            step=np.broadcast_to(stored.scale, (layer.channels,)).reshape(shape),
            bias=np.zeros(shape, np.float32) if bias is None else bias.reshape(shape),
            inputs=columns.inputs[..., chosen],
            outputs=columns.outputs[..., chosen],
            limit=int(np.abs(stored.integers.astype(np.int32)).max(initial=1)),
            relu=_is_cut(layer),
        )

    seen, unseen = part(slice(held, None)), part(slice(None, held))
    if seen.inputs.shape[-1] == 0:
        return None
    integers = learn_rounding(seen, steps=steps)
    if reconstruction_error(unseen, integers) >= reconstruction_error(unseen, nearest(unseen)):
        return None
    return ungrouped(layer, integers, weight)


def _groups(layer: Layer) -> int:
    return layer.node.attributes.get_int("group", 1) if layer.node.op_type == "Conv" else 1


def _is_cut(layer: Layer) -> bool:
    """Nothing but a Relu reads what the layer gives."""
    after: ir.Node | None = only_reader(layer.node.outputs[0]) if layer.adding is layer.node else None
    return after is not None and after.op_type == "Relu" and is_default_domain(after)
