"""Transposes of weights are done once, here, instead of at every call."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.exporter.passes.initializers import constant_array, drop_unused, register, unused_name

__all__ = ["fold_transposed_weights"]


def fold_transposed_weights(model: ir.Model) -> int:
    """Replaces the Transpose of a weight by the transposed weight, whose name gets `.T`.

    Args:
        model: Changed in place.

    Returns:
        How many were transposed.

    """
    count = 0
    for node in list(model.graph):
        if node.op_type != "Transpose" or node.domain not in ("", "ai.onnx"):
            continue
        constant = constant_array(node.inputs[0])
        source, result = node.inputs[0], node.outputs[0]
        if constant is None or source is None or result.is_graph_output():
            continue
        perm = node.attributes.get("perm")
        axes = list(perm.as_ints()) if perm is not None else None
        name = f"{source.name}.T"
        transposed = model.graph.initializers.get(name)
        turned = np.ascontiguousarray(np.transpose(constant, axes))
        if transposed is not None and not (
            transposed.const_value is not None and np.array_equal(transposed.const_value.numpy(), turned)
        ):
            name = unused_name(model.graph, name)
            transposed = None
        if transposed is None:
            transposed = register(model.graph, name, turned)
        result.replace_all_uses_with(transposed)
        model.graph.remove(node, safe=True)
        drop_unused(model.graph, source)
        count += 1
    return count
