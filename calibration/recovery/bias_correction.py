"""Bias correction: each layer's mean output is brought back to that of the float model, channel by channel.

Rounded weights and clipped activations shift the mean output of a layer. The shift is constant over the samples, so the
bias can take it up. It is measured on samples rather than computed from BatchNorm's parameters: between the float model
and the quantized one, layer after layer, each behind the corrections of those before it. Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2 and appendix D.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.graph import constant_of
from edgeport.calibration.recovery.bench import Workbench
from edgeport.calibration.recovery.layers import Layer, find_layers
from edgeport.calibration.recovery.recovered import Recovered, set_constant
from edgeport.calibration.recovery.stepping import Stepper
from edgeport.contracts import Array, OnnxModel, Precision, QuantizationPlan
from edgeport.errors import CalibrationError
from edgeport.onnx_files import read_ir, write_ir

__all__ = ["correct_biases"]


def correct_biases(model: OnnxModel, plan: QuantizationPlan, bench: Workbench, output: Path) -> Recovered:
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
    integer = [name for name, precision in plan.nodes.items() if precision is Precision.INT8]
    layers = find_layers(ir_model.graph, integer)
    places = {node: index for index, node in enumerate(ir_model.graph)}
    able = sorted((layer for layer in layers if _is_able(layer)), key=lambda layer: places[layer.adding])
    if not able:
        raise CalibrationError(
            asked=f"correct the biases of {model.path.name}",
            found=f"{len(layers)} integer layers, none with a constant bias per channel",
            fix="leave bias-correction out for this model",
        )
    with bench.side_by_side(model, plan) as (true, quantized):
        for layer in able:
            shift = _shift(layer, true, quantized)
            old = constant_of(layer.bias)
            array = shift if old is None else old.astype(np.float64) + shift
            index = layer.bias_index if layer.bias_index is not None else 2
            set_constant(ir_model.graph, layer.adding, index, array.astype(np.float32), name=f"{layer.name}_bias")
    return Recovered(
        model=write_ir(ir_model, output),
        said=f"bias-correction ({len(able)} of {len(layers)} layers, {bench.samples} samples)",
    )


def _is_able(layer: Layer) -> bool:
    if layer.bias_index is None:
        return False
    # Of a shared constant the plan knows one scheme, and a second one would have none.
    return layer.adding is layer.node or layer.bias is None or len(layer.bias.uses()) == 1


def _shift(layer: Layer, true: Stepper, quantized: Stepper) -> NDArray[np.float64]:
    """What the layer's mean output lacks [channels]; the quantized model goes on as if it had it."""
    name, axis = str(layer.adding.name), layer.channel_axis
    true.until(name)
    quantized.until(name)
    shift = _mean(true.outputs_of(name), axis) - _mean(quantized.outputs_of(name), axis)

    def corrected(array: Array) -> Array:
        shape = [1] * array.ndim
        shape[axis] = -1
        changed: Array = array + shift.astype(array.dtype).reshape(shape)
        return changed

    quantized.change(name, corrected)
    return shift


def _mean(arrays: Sequence[Array], axis: int) -> NDArray[np.float64]:
    """Over all samples and places, per channel [channels]."""
    flat = [np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]) for array in arrays]
    total = np.zeros(flat[0].shape[1])
    for array in flat:
        total += array.sum(axis=0, dtype=np.float64)
    return total / sum(len(array) for array in flat)
