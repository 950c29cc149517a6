"""Four bits for every weight of a convolutional network, one scale per output channel, as Q/DQ of opset 21.

No runtime computes so; the file is a size, and a hard case for training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeport.contracts import Array, OnnxModel, Precision, QuantizationPlan, QuantizationRules, WeightQuantization
from edgeport.onnx_files import open_onnx, read_ir

_LIMIT = 7
_OPSET = 21


def four_bit_plan(model: OnnxModel, rules: QuantizationRules) -> QuantizationPlan:
    """Of all convolutions and products with a constant weight; no plan of a backend holds this."""
    nodes: dict[str, Precision] = {}
    weights: dict[str, WeightQuantization] = {}
    for node in read_ir(model).graph:
        if node.op_type in ("Conv", "Gemm") and node.inputs[1] is not None:
            nodes[str(node.name)] = Precision.INT4_WEIGHTS_32  # the name of four bits; the scheme says the rest
            weights[str(node.inputs[1].name)] = WeightQuantization(dtype="int4", axis=0)
    return QuantizationPlan(
        dialect=rules.dialect, model_digest=model.digest, nodes=nodes, weights=weights, found_by="four bits"
    )


def clipped(weight: Array) -> Array:
    """The weight [C, ...] cut, channel by channel, to the range that rounds it with the least squared error."""
    rows = weight.reshape(len(weight), -1)
    best, least = rows.copy(), np.full(len(rows), np.inf)
    for part in np.arange(1.0, 0.3, -0.02):
        reach = np.abs(rows).max(axis=1, keepdims=True) * part
        cut = np.clip(rows, -reach, reach)
        step = np.where(reach > 0, reach, 1) / _LIMIT
        error = np.square(np.rint(cut / step) * step - rows).sum(axis=1)
        best[error < least], least = cut[error < least], np.minimum(error, least)
    found: Array = best.reshape(weight.shape)
    return found


def write_four_bits(model: OnnxModel, output: Path, *, clip: bool = False) -> OnnxModel:
    """Puts int4 and a DequantizeLinear in the place of each such weight, rounded to nearest."""
    graph_model = read_ir(model)
    graph = graph_model.graph
    for node in list(graph):
        value = node.inputs[1] if node.op_type in ("Conv", "Gemm") else None
        if value is None or value.const_value is None:
            continue
        weight = np.asarray(value.const_value.numpy(), np.float32)
        weight = clipped(weight) if clip else weight
        reach = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
        scale = (np.where(reach > 0, reach, _LIMIT) / _LIMIT).astype(np.float32)
        integers = np.clip(np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))), -_LIMIT, _LIMIT)
        constants = []
        for name, array in (("quantized", integers.astype(ir.DataType.INT4.numpy())), ("scale", scale)):
            tensor = ir.tensor(array, name=f"{value.name}_{name}")
            constant = ir.Value(
                name=tensor.name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            graph.register_initializer(constant)
            constants.append(constant)
        whole = ir.Node("", "DequantizeLinear", constants, [ir.AttrInt64("axis", 0)], name=f"{value.name}_restored")
        whole.outputs[0].name = f"{value.name}_restored"
        whole.outputs[0].shape, whole.outputs[0].type = value.shape, ir.TensorType(ir.DataType.FLOAT)
        graph.insert_before(node, whole)
        node.replace_input_with(1, whole.outputs[0])
        del graph.initializers[str(value.name)]
    graph_model.opset_imports[""] = _OPSET
    ir.save(graph_model, output)
    return open_onnx(output)
