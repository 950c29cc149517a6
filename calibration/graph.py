"""What calibration asks of a graph: which tensors are activations, which are constants."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from edgeport.contracts import Array, OnnxModel
from edgeport.onnx_files import infer_types, read_ir, refuse_quantized, values_read

__all__ = [
    "activations",
    "constant_of",
    "float_graph",
    "is_constant_float",
    "is_default_domain",
    "same_values",
]

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})
_SHAPE_ONLY = frozenset({"Shape", "Size"})
"""What these return says nothing of the values that went in."""
_REARRANGES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""What these return are all the values of the first input, and no others."""


def is_default_domain(node: ir.Node) -> bool:
    """The operator is one of ONNX itself."""
    return node.domain in ("", "ai.onnx")


def constant_of(value: ir.Value | None) -> Array | None:
    """The array of an initializer or of a Constant node's output; None for all else.

    An initializer that is a graph input too can be overridden by the caller, so it is no constant.
    """
    if value is None or value.is_graph_input():
        return None
    if value.is_initializer() and value.const_value is not None:
        return np.asarray(value.const_value.numpy())
    node = value.producer()
    if node is not None and node.op_type == "Constant" and is_default_domain(node):
        attribute = node.attributes.get("value")
        if attribute is not None:
            return np.asarray(attribute.as_tensor().numpy())
    return None


def float_graph(model: OnnxModel) -> ir.Graph:
    """The graph of a model that is to be planned, with its types.

    Raises:
        AlreadyQuantizedError: It carries Q/DQ pairs or integer operators.

    """
    ir_model = read_ir(model)
    refuse_quantized(ir_model, f"plan {model.path.name}")
    infer_types(ir_model)
    return ir_model.graph


def is_constant_float(value: ir.Value) -> bool:
    """float32, stored in the model, and not to be overridden by the caller."""
    return value.is_initializer() and not value.is_graph_input() and value.dtype == ir.DataType.FLOAT


def activations(graph: ir.Graph) -> list[ir.Value]:
    """Float tensors whose values depend on the inputs, in the order in which they are computed.

    Those inside the bodies of If, Loop and Scan are not among them: they exist zero or many times per call.
    """
    found = [value for value in graph.inputs if not value.is_initializer() and value.dtype in _FLOATS]
    depends = {value for value in graph.inputs if not value.is_initializer()}
    for node in graph:
        if node.op_type in _SHAPE_ONLY and is_default_domain(node):
            continue
        if any(value in depends for value in values_read(node)):
            depends.update(node.outputs)
            found += [value for value in node.outputs if value.name and value.dtype in _FLOATS]
    return found


def same_values(graph: ir.Graph, names: Collection[str]) -> list[list[str]]:
    """These activations, those together that have the same values in another order or shape; in computed order."""
    origins: dict[ir.Value, ir.Value] = {}
    found: dict[ir.Value, list[str]] = {}
    for value in activations(graph):
        node, origin = value.producer(), value
        if node is not None and node.op_type in _REARRANGES and is_default_domain(node) and node.inputs[0] is not None:
            origin = origins.get(node.inputs[0], node.inputs[0])
        origins[value] = origin
        if value.name in names:
            found.setdefault(origin, []).append(str(value.name))
    return list(found.values())
