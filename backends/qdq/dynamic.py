"""MatMul and Gemm with ranges that are found while they run.

A float product becomes DynamicQuantizeLinear, MatMulInteger, and a multiplication by both scales: the form that
ONNX Runtime folds into one DynamicQuantizeMatMul, or MatMulIntegerToFloat where several products share their input.
There is no convolution here: ConvInteger made a convolutional network 8x slower than float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.backends.qdq.graph import PRECISION_KEY, GraphEdit
from edgeport.backends.qdq.quant_params import quantize, weight_parameters
from edgeport.backends.qdq.weights import constant_array
from edgeport.contracts import Array, Precision, QuantizationPlan
from edgeport.errors import PlanError

__all__ = ["write_dynamic"]


def write_dynamic(edit: GraphEdit, plan: QuantizationPlan) -> None:
    """Rewrites every product that the plan runs in dynamic int8; products of one tensor share its quantization."""
    shared: dict[ir.Value, ir.Node] = {}
    weights: dict[tuple[str, bool], tuple[ir.Value, ir.Value]] = {}
    for node in list(edit.graph):
        if node.op_type in ("MatMul", "Gemm") and plan.nodes.get(node.name or "") is Precision.INT8_DYNAMIC:
            _rewrite(edit, plan, node, shared, weights)


def _rewrite(
    edit: GraphEdit,
    plan: QuantizationPlan,
    node: ir.Node,
    shared: dict[ir.Value, ir.Node],
    weights: dict[tuple[str, bool], tuple[ir.Value, ir.Value]],
) -> None:
    source, weight = node.inputs[0], node.inputs[1]
    if source is None or weight is None or node.attributes.get_int("transA", 0) != 0:
        raise PlanError(
            asked=f"run node {node.name!r} in dynamic int8",
            found="a Gemm whose first input is transposed (transA)",
            fix="leave the node in float",
        )
    name = str(node.name)
    quantized = shared.get(source)
    if quantized is None:
        quantized = edit.node(
            "DynamicQuantizeLinear", [source], f"{source.name}_DynamicQuantizeLinear", like=node, outputs=3
        )
        edit.graph.insert_before(node, quantized)
        shared[source] = quantized
    integers, scale, zero_point = quantized.outputs
    transposed = node.attributes.get_int("transB", 0) != 0
    key = (str(weight.name), transposed)
    if key not in weights:
        weights[key] = _weight(edit, plan, weight, transposed=transposed)
    weight_integers, weight_scale = weights[key]
    if node.attributes.get_float("alpha", 1.0) != 1.0:
        alpha = np.float32(node.attributes.get_float("alpha", 1.0))
        weight_scale = edit.constant(f"{name}_scale", constant_array(weight_scale) * alpha)

    new = [
        product := edit.node(
            "MatMulInteger", [integers, weight_integers, zero_point], f"{name}_MatMulInteger", like=node
        ),
        scales := edit.node("Mul", [scale, weight_scale], f"{name}_Scale", like=node),
        cast := edit.node(
            "Cast", product.outputs, f"{name}_Cast", like=node, attributes=[ir.AttrInt64("to", ir.DataType.FLOAT.value)]
        ),
        edit.node("Mul", [cast.outputs[0], scales.outputs[0]], f"{name}_Rescale", like=node),
    ]
    product.metadata_props[PRECISION_KEY] = str(Precision.INT8_DYNAMIC)
    bias = _bias(edit, node)
    if bias is not None:
        new.append(edit.node("Add", [new[-1].outputs[0], bias], f"{name}_Bias", like=node))
    _replace(edit, node, weight, new)


def _weight(
    edit: GraphEdit, plan: QuantizationPlan, weight: ir.Value, *, transposed: bool
) -> tuple[ir.Value, ir.Value]:
    """The weight's integers [K, N] and scale [] or [N]."""
    array = constant_array(weight)
    name = str(weight.name)
    spec = plan.weights[name]
    parameters = weight_parameters(array, spec)
    columns = (0 if transposed else array.ndim - 1,)
    if not spec.symmetric or parameters.axis not in (None, *columns):
        raise PlanError(
            asked=f"multiply by {name!r} in dynamic int8",
            found=f"scales along axis {spec.axis}{'' if spec.symmetric else ', with zero points'}",
            fix=f"quantize it symmetrically, along axis {columns[0]} or with one scale",
        )
    integers: Array = quantize(array, parameters)
    return (
        edit.constant(f"{name}_quantized", integers.T if transposed else integers),
        edit.constant(f"{name}_scale", parameters.scale),
    )


def _bias(edit: GraphEdit, node: ir.Node) -> ir.Value | None:
    """What a Gemm adds, times its beta."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    beta = node.attributes.get_float("beta", 1.0)
    if value is None or beta == 0.0:
        return None
    if beta == 1.0:
        return value
    factor = edit.constant(f"{node.name}_beta", np.asarray(beta, dtype=np.float32))
    scaled = edit.node("Mul", [value, factor], f"{node.name}_Beta", like=node)
    edit.graph.insert_before(node, scaled)
    return scaled.outputs[0]


def _replace(edit: GraphEdit, node: ir.Node, weight: ir.Value, new: list[ir.Node]) -> None:
    """Puts `new` where `node` is; the last of them takes over its output's name, type and place."""
    old, output = node.outputs[0], new[-1].outputs[0]
    output.type, output.shape = old.type, old.shape
    name, fresh = old.name, output.name
    edit.graph.insert_after(node, new)
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    edit.graph.remove(node, safe=True)
    old.name, output.name = fresh, name
    # The product keeps the node's name, by which a placement finds it.
    new[0].name, node.name = node.name, new[0].name
    edit.drop_if_unused(weight)
