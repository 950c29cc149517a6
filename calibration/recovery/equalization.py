"""Cross-layer equalization: channels of consecutive layers are scaled until their weights are equally large.

A channel with small weights wastes the integers of a tensor that has one scale for all channels. Where the nodes
between two layers let positive factors through, channel i of the first can be divided by s_i and the second multiply by
s_i what it takes from it; with s_i = sqrt(r1_i / r2_i), r the largest absolute weights, both have the range
sqrt(r1_i * r2_i). Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019),
section 4.1; the pairs of a chain are gone through again until nothing changes. Here one limit is added: no bias becomes
larger than the layer's largest one was, for a channel that is dead but for its bias would stretch the activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeport.calibration.graph import constant_of
from edgeport.calibration.recovery.layer_pairs import Pair, find_pairs
from edgeport.calibration.recovery.model_edit import RecoveryResult
from edgeport.calibration.recovery.scaling import input_magnitudes, output_magnitudes, scale_inputs, scale_outputs
from edgeport.contracts import OnnxModel
from edgeport.errors import CalibrationError
from edgeport.onnx_files import infer_types, read_ir, refuse_quantized, write_ir

__all__ = ["equalize"]

_ROUNDS = 100
_SMALL_STEP = 1e-3
"""Factors closer to 1 than this change no integer of eight bits."""

Floats = NDArray[np.float64]


def equalize(model: OnnxModel, output: Path, *, replace_relu6: bool = False) -> RecoveryResult:
    """Writes the model with equalized weights; its outputs stay what they were, but for float32's rounding.

    Args:
        model: A float model.
        output: The file.
        replace_relu6: Take a Clip from 0 to an upper limit for a Relu, where that lets a pair be equalized. Then
            outputs change where a value lies above the limit; Nagel et al. 2019, section 5.1.1, do so.

    Raises:
        AlreadyQuantizedError: The model is not float.
        CalibrationError: No pair of layers can be equalized.

    """
    ir_model = read_ir(model)
    refuse_quantized(ir_model, f"equalize {model.path.name}")
    infer_types(ir_model)
    every = find_pairs(ir_model.graph)
    pairs = [pair for pair in every if replace_relu6 or not pair.clips]
    if not pairs:
        clipped = f"{len(every)} pairs of layers, each with a Clip between" if every else "no two layers in a chain"
        raise CalibrationError(
            asked=f"equalize {model.path.name}",
            found=clipped,
            fix='ask for "equalization:relu6", which takes Clip for Relu' if every else "leave equalization out",
        )
    _equalize(pairs)
    replaced = 0
    for node in dict.fromkeys(clip for pair in pairs for clip in pair.clips):
        _become_relu(node)
        replaced += 1
    left = f", {len(every) - len(pairs)} with a Clip left" if len(pairs) < len(every) else ""
    changed = f", {replaced} Clip taken for Relu" if replaced else ""
    return RecoveryResult(model=write_ir(ir_model, output), said=f"equalization ({len(pairs)} pairs{left}{changed})")


def _equalize(pairs: Sequence[Pair]) -> None:
    """Changes the constants of the pairs, in place."""
    held = {
        value: np.asarray(constant_of(value), dtype=np.float64)
        for pair in pairs
        for value in (pair.first.weight, pair.second.weight, pair.first.bias, pair.second.bias)
        if value is not None
    }
    largest = {pair.first.bias: _largest(held[pair.first.bias]) for pair in pairs if pair.first.bias is not None}
    for _ in range(_ROUNDS):
        moved = 0.0
        for pair in pairs:
            first, second = pair.first, pair.second
            least: Floats | float = 0.0
            if first.bias is not None and largest[first.bias] > 0.0:
                least = np.abs(held[first.bias]) / largest[first.bias]
            ranges = output_magnitudes(first, held[first.weight]), input_magnitudes(second, held[second.weight])
            factors = _factors(*ranges, least)
            held[first.weight] = scale_outputs(first, held[first.weight], 1.0 / factors)
            held[second.weight] = scale_inputs(second, held[second.weight], factors)
            if first.bias is not None:
                held[first.bias] = held[first.bias] / factors
            moved = max(moved, float(np.abs(np.log(factors)).max(initial=0.0)))
        if moved < _SMALL_STEP:
            break
    for value, array in held.items():
        _replace(value, array)


def _factors(first: Floats, second: Floats, least: Floats | float) -> Floats:
    """The s [channels]; 1 where one of the two is nothing but zeros."""
    alive = (first > 0.0) & (second > 0.0)
    ratio = np.divide(first, second, out=np.ones_like(first), where=alive)
    return np.where(alive, np.maximum(np.sqrt(ratio), least), 1.0)


def _largest(array: Floats) -> float:
    return float(np.abs(array).max(initial=0.0))


def _replace(value: ir.Value, array: Floats) -> None:
    if value.is_initializer():
        value.const_value = ir.tensor(np.ascontiguousarray(array, dtype=np.float32), name=value.name)
        return
    node = value.producer()  # a Constant node
    if node is not None:
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(array.astype(np.float32)))


def _become_relu(clip: ir.Node) -> None:
    graph = clip.graph
    relu = ir.Node(
        "", "Relu", [clip.inputs[0]], num_outputs=1, name=clip.name, metadata_props=dict(clip.metadata_props)
    )
    old, new = clip.outputs[0], relu.outputs[0]
    new.name, new.type, new.shape = old.name, old.type, old.shape
    if graph is not None:
        graph.insert_before(clip, relu)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(clip, safe=True)
