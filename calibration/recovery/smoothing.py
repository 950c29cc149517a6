"""Smoothing: what is hard to quantize in the activations goes over to the weights, channel by channel.

Transformers have a few channels whose activations are a hundred times larger than those of the others; one scale for
all leaves the others hardly any integers. Weights have no such channels. So each channel j of a product's input is
divided by s_j = max|X_j|**strength / max|W_j|**(1 - strength), and the weight's row j multiplied by it. Xiao et al.,
"SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models" (2022), section 4.

The division is folded into what gives the input, where nothing else reads it: the scale and bias of a
LayerNormalization, a Mul (and Add) by constants, or another product whose output comes without anything between that
would not let a factor through. Elsewhere a Mul of its own is put in front of the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeport.calibration.exclusions import KEEP_FLOAT
from edgeport.calibration.graph import activations, constant_of, is_default_domain
from edgeport.calibration.recovery.channel_maxima import channel_maxima
from edgeport.calibration.recovery.layer_pairs import Pair, find_pairs
from edgeport.calibration.recovery.layers import Layer, find_layers, only_reader
from edgeport.calibration.recovery.model_edit import RecoveryResult, set_constant
from edgeport.calibration.recovery.scaling import input_magnitudes, scale_inputs, scale_outputs
from edgeport.contracts import Array, OnnxModel, OpenModel, SampleSet
from edgeport.errors import CalibrationError
from edgeport.onnx_files import infer_types, read_ir, refuse_quantized, write_ir

__all__ = ["smooth"]

_SMALLEST = 1e-5
"""Of a maximum: what is smaller says nothing (the original implementation has the same limit)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Input:
    """A tensor that products by constant weights read.

    Attributes:
        value: [..., channels].
        readers: The products.
        all_read: Nothing else reads it.

    """

    value: ir.Value
    readers: tuple[Layer, ...]
    all_read: bool


def smooth(
    model: OnnxModel, samples: SampleSet, open_model: OpenModel, output: Path, *, strength: float = 0.5
) -> RecoveryResult:
    """Writes the model with smoothed inputs of its products; its outputs stay what they were, but for rounding.

    Args:
        model: A float model.
        samples: That show how large the activations are.
        open_model: Opens an ONNX file with some runtime.
        output: The file.
        strength: How much goes over to the weights, 0..1: 0 looks at the weights alone, 1 at the activations alone.

    Raises:
        AlreadyQuantizedError: The model is not float.
        CalibrationError: No product by a constant weight reads an activation; no samples; a model with a state.

    """
    ir_model = read_ir(model)
    refuse_quantized(ir_model, f"smooth {model.path.name}")
    infer_types(ir_model)
    graph = ir_model.graph
    inputs = _inputs(graph)
    if not inputs:
        raise CalibrationError(
            asked=f"smooth {model.path.name}",
            found="no MatMul or Gemm of an activation and a constant weight",
            fix="leave smoothing out for this model",
        )
    maxima = channel_maxima(model, [str(one.value.name) for one in inputs], samples, open_model)
    pairs = {pair.second.node: pair for pair in find_pairs(graph) if not pair.clips}
    folded = 0
    for one in inputs:
        factors = _factors(one, maxima[str(one.value.name)], strength)
        for layer in one.readers:
            weight = scale_inputs(layer, _array(layer.node.inputs[1]), factors)
            set_constant(graph, layer.node, 1, weight.astype(np.float32), name=f"{layer.name}_smoothed")
        if _fold(graph, one, 1.0 / factors, pairs):
            folded += 1
        else:
            _insert(graph, one, 1.0 / factors)
    own = f", {len(inputs) - folded} by a Mul of their own" if folded < len(inputs) else ""
    said = f"smoothing {strength:g} ({len(inputs)} inputs of products, {folded} folded{own})"
    return RecoveryResult(model=write_ir(ir_model, output), said=said)


def _inputs(graph: ir.Graph) -> list[_Input]:
    """In the order in which the products read them."""
    moving = set(activations(graph))
    groups: dict[ir.Value, list[Layer]] = {}
    for layer in find_layers(graph):
        value = layer.node.inputs[0]
        plain = layer.node.op_type == "MatMul" or (
            layer.node.op_type == "Gemm" and layer.node.attributes.get_int("transA", 0) == 0
        )
        if plain and value in moving and value is not None and value.dtype == ir.DataType.FLOAT:
            groups.setdefault(value, []).append(layer)
    return [
        _Input(
            value=value,
            readers=tuple(layers),
            all_read=len(value.uses()) == len(layers) and not value.is_graph_output(),
        )
        for value, layers in groups.items()
    ]


def _factors(one: _Input, largest: Floats, strength: float) -> Floats:
    """The s [channels]."""
    weights = np.max([input_magnitudes(layer, _array(layer.node.inputs[1])) for layer in one.readers], axis=0)
    factors: Floats = np.maximum(largest, _SMALLEST) ** strength / np.maximum(weights, _SMALLEST) ** (1.0 - strength)
    return factors


def _fold(graph: ir.Graph, one: _Input, factors: Floats, pairs: dict[ir.Node, Pair]) -> bool:
    """Lets what gives the input give it times `factors`; False where that can't be."""
    node = one.value.producer()
    if node is None or not one.all_read or not is_default_domain(node):
        return False
    if node.op_type == "LayerNormalization":
        last = node.attributes.get_int("axis", -1) in (-1, len(one.value.shape or ()) - 1)
        return last and _scale(graph, node, range(1, len(node.inputs)), factors)
    if node.op_type == "Mul":
        index = _constant_input(node, len(factors))
        return index is not None and _scale_exactly(graph, node, index, factors)
    if node.op_type == "Add":
        return _fold_affine(graph, node, factors) or _fold_layer(graph, one, factors, pairs)
    return _fold_layer(graph, one, factors, pairs)


def _fold_affine(graph: ir.Graph, add: ir.Node, factors: Floats) -> bool:
    """A Mul and an Add by constants, as a normalization that is written out ends."""
    index = _constant_input(add, len(factors))
    before = add.inputs[1 - index] if index is not None else None
    mul = before.producer() if before is not None else None
    if mul is None or mul.op_type != "Mul" or not is_default_domain(mul) or only_reader(mul.outputs[0]) is not add:
        return False
    factor = _constant_input(mul, len(factors))
    if index is None or factor is None:
        return False
    return _scale_exactly(graph, add, index, factors) and _scale_exactly(graph, mul, factor, factors)


def _fold_layer(graph: ir.Graph, one: _Input, factors: Floats, pairs: dict[ir.Node, Pair]) -> bool:
    pair = pairs.get(one.readers[0].node) if len(one.readers) == 1 else None
    if pair is None:
        return False
    first = pair.first
    weight = scale_outputs(first, _array(first.node.inputs[1]), factors)
    set_constant(graph, first.node, 1, weight.astype(np.float32), name=f"{first.name}_smoothed")
    if first.bias_index is not None and first.bias is not None:
        return _scale(graph, first.adding, [first.bias_index], factors)
    return True


def _insert(graph: ir.Graph, one: _Input, factors: Floats) -> None:
    """A Mul in front of the products."""
    name = f"{one.value.name}_smoothed"
    node = ir.Node(
        "", "Mul", [one.value, one.value], num_outputs=1, name=name, metadata_props={KEEP_FLOAT: "smoothing"}
    )
    node.outputs[0].name = name
    node.outputs[0].type, node.outputs[0].shape = one.value.type, one.value.shape
    graph.insert_before(min((layer.node for layer in one.readers), key=list(graph).index), node)
    set_constant(graph, node, 1, factors.astype(np.float32), name=f"{name}_factors")
    for layer in one.readers:
        layer.node.replace_input_with(0, node.outputs[0])


def _scale_exactly(graph: ir.Graph, node: ir.Node, index: int, factors: Floats) -> bool:
    """As `_scale`; the node stays float, since its constant as integers would have one scale for all channels."""
    node.metadata_props[KEEP_FLOAT] = "smoothing"
    return _scale(graph, node, [index], factors)


def _scale(graph: ir.Graph, node: ir.Node, indices: Sequence[int], factors: Floats) -> bool:
    """Multiplies constants [channels] of a node; False, and nothing is changed, where one is not constant."""
    arrays = [(index, constant_of(node.inputs[index])) for index in indices if node.inputs[index] is not None]
    if any(array is None or array.shape not in ((len(factors),), ()) for _, array in arrays):
        return False
    for index, array in arrays:
        if array is not None:
            scaled = (array * factors).astype(array.dtype)
            set_constant(graph, node, index, scaled, name=f"{node.name}_smoothed")
    return True


def _constant_input(node: ir.Node, channels: int) -> int | None:
    """Which of the two inputs is a constant: one number per channel, or one for all."""
    for index, value in enumerate(node.inputs):
        array = constant_of(value)
        if array is not None and array.shape in ((channels,), ()):
            return index
    return None


def _array(value: ir.Value | None) -> Array:
    return np.asarray(constant_of(value), dtype=np.float64)
