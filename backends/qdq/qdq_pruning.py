"""Leaves Q/DQ only where an integer node reads it."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from edgeport.contracts import Precision, QuantizationPlan, QuantizationRules

__all__ = ["read_pairs_only"]


def read_pairs_only(graph: ir.Graph, plan: QuantizationPlan, rules: QuantizationRules) -> QuantizationPlan:
    """The plan without the pairs that no integer node reads.

    OpenVINO and TensorRT fold what follows a convolution or a product into it, up to the next quantization. A pair
    that only float nodes read would stop that: in front of `x * sigmoid(x)`, of a Reshape that leads to float
    attention, or of the model's output. Nodes that only move numbers, and of whose results nobody reads integers, go
    back to float with their pair.
    """
    nodes = dict(plan.nodes)
    activations = dict(plan.activations)
    # From the end: whether a node keeps its integers is known before what feeds it is looked at.
    for node in reversed(graph):
        if nodes.get(node.name or "") is not Precision.INT8:
            continue
        for value in node.outputs:
            if not any(nodes.get(use.node.name or "") is Precision.INT8 for use in value.uses()):
                activations.pop(value.name or "", None)
        rule = rules.operators.get(node.op_type)
        if rule is not None and rule.same_scale and not any(value.name in activations for value in node.outputs):
            del nodes[node.name or ""]
    return replace(plan, nodes=nodes, activations=activations)
