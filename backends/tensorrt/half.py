"""A float32 graph as float16: TensorRT is strongly typed, so the precision has to stand in the graph.

Inputs and outputs stay float32; a Cast stands behind each input and before each output. Weights that alone are integers
stay so, with float16 scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeport.contracts import OnnxModel
from edgeport.errors import UnsupportedByBackend
from edgeport.onnx_files import read_ir, write_ir

__all__ = ["write_half"]

_STAYS_FLOAT: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2)}
"""Inputs that the ONNX specification wants in float32 whatever the data is: region of interest and scales."""

_RESTORES = "DequantizeLinear"
_LOWEST_OPSET = 19
"""DequantizeLinear gives float16 from here on."""

_CONSTANTS = ("value", "value_float", "value_floats")


def write_half(model: OnnxModel, path: Path) -> OnnxModel:
    """The model with float16 weights and arithmetic, to the file `path`.

    Raises:
        UnsupportedByBackend: Activations in integers, branches or loops in the graph, or a number beyond float16.

    """
    ir_model = read_ir(model)
    graph = ir_model.graph
    _check(model, ir_model)
    for value in list(graph.initializers.values()):
        _halve_initializer(graph, value)
    for node in list(graph):
        _halve_node(node)
    for value in list(graph.inputs):
        _cast_input(graph, value)
    for index, value in enumerate(list(graph.outputs)):
        _cast_output(graph, index, value)
    return write_ir(ir_model, path)


def _check(model: OnnxModel, ir_model: ir.Model) -> None:
    found = ""
    integers = [
        node for node in ir_model.graph.all_nodes() if "uantizeLinear" in node.op_type or "Integer" in node.op_type
    ]
    if any(
        node.op_type != _RESTORES or node.inputs[0] is None or not node.inputs[0].is_initializer() for node in integers
    ):
        found = "a model that is quantized already"
    elif integers and ir_model.opset_imports.get("", 0) < _LOWEST_OPSET:
        found = (
            f"integer weights in a model of opset {ir_model.opset_imports.get('', 0)}, which must be {_LOWEST_OPSET}"
        )
    elif ir_model.functions:
        found = "functions in it"
    for node in ir_model.graph:
        if any(
            isinstance(attribute, ir.Attr) and attribute.type == ir.AttributeType.GRAPH
            for attribute in node.attributes.values()
        ):
            found = f"node {node.name!r} ({node.op_type}), which holds a graph of its own"
    if found:
        raise UnsupportedByBackend(
            asked=f"write {model.path.name} in float16", found=found, fix="compile it in fp32 or int8"
        )


def _halve_initializer(graph: ir.Graph, value: ir.Value) -> None:
    """Replaces a float32 initializer for every reader that takes float16."""
    if value.dtype != ir.DataType.FLOAT or value.const_value is None or value.is_graph_output():
        return
    uses = [use for use in value.uses() if use.idx not in _STAYS_FLOAT.get(use.node.op_type, ())]
    if not uses:
        return
    name = f"{value.name}_half"
    tensor = _half_tensor(value.const_value, name)
    if any(use.node.op_type == _RESTORES for use in uses):
        _check_scale(value, tensor)
    half = ir.Value(name=name, const_value=tensor, shape=value.shape)
    half.dtype = ir.DataType.FLOAT16
    graph.register_initializer(half)
    for use in uses:
        use.node.replace_input_with(use.idx, half)
    if not value.uses() and value.name:
        del graph.initializers[value.name]


def _halve_node(node: ir.Node) -> None:
    """Its constants, the type it casts to, and the types of its outputs."""
    attributes = node.attributes
    if node.op_type == "Cast" and attributes.get_int("to", 0) == ir.DataType.FLOAT:
        attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
    if node.op_type == "Constant":
        _halve_constant(node)
    if node.op_type == "ConstantOfShape":
        fill = attributes.get_tensor("value", None)
        if fill is None or fill.dtype == ir.DataType.FLOAT:
            fill = fill if fill is not None else ir.tensor(np.zeros(1, dtype=np.float32))
            attributes["value"] = ir.AttrTensor("value", _half_tensor(fill, str(node.name)))
    for value in node.outputs:
        if value.dtype == ir.DataType.FLOAT and not _feeds_float_only(value):
            value.dtype = ir.DataType.FLOAT16


def _halve_constant(node: ir.Node) -> None:
    for key in _CONSTANTS:
        attribute = node.attributes.get(key)
        if attribute is None or _feeds_float_only(node.outputs[0]):
            continue
        if key == "value":
            tensor = attribute.as_tensor()
        elif key == "value_float":
            tensor = ir.tensor(np.asarray(attribute.as_float(), dtype=np.float32))
        else:
            tensor = ir.tensor(np.asarray(attribute.as_floats(), dtype=np.float32))
        if tensor.dtype == ir.DataType.FLOAT:
            del node.attributes[key]
            node.attributes["value"] = ir.AttrTensor("value", _half_tensor(tensor, str(node.name)))


def _feeds_float_only(value: ir.Value) -> bool:
    """Every reader wants it in float32."""
    return bool(value.uses()) and all(use.idx in _STAYS_FLOAT.get(use.node.op_type, ()) for use in value.uses())


def _half_tensor(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    numbers = tensor.numpy()
    largest = float(np.max(np.abs(numbers), initial=0.0, where=np.isfinite(numbers)))
    if largest > float(np.finfo(np.float16).max):
        raise UnsupportedByBackend(
            asked=f"store {name.removesuffix('_half')!r} as float16",
            found=f"the number {largest:g} in it; float16 ends at 65504",
            fix="compile it in fp32",
        )
    return ir.tensor(numbers.astype(np.float16), name=name)


def _check_scale(value: ir.Value, half: ir.TensorProtocol) -> None:
    """A scale below the normal numbers of float16 has few digits left, or is zero."""
    smallest = float(np.min(np.abs(half.numpy()), initial=1.0))
    if smallest < float(np.finfo(np.float16).tiny):
        raise UnsupportedByBackend(
            asked=f"store {value.name!r} as float16",
            found=f"the scale {smallest:g} in it; float16 has few digits below {float(np.finfo(np.float16).tiny):.2g}",
            fix="leave what is not integer in fp32",
        )


def _cast_input(graph: ir.Graph, value: ir.Value) -> None:
    uses = [use for use in value.uses() if use.idx not in _STAYS_FLOAT.get(use.node.op_type, ())]
    if value.dtype != ir.DataType.FLOAT or not uses:
        return
    cast = _cast(value, ir.DataType.FLOAT16, f"{value.name}_half")
    graph.insert_before(graph[0], cast)
    for use in uses:
        use.node.replace_input_with(use.idx, cast.outputs[0])


def _cast_output(graph: ir.Graph, index: int, value: ir.Value) -> None:
    """A Cast takes over the output's name and place; what computed it is renamed."""
    if value.dtype != ir.DataType.FLOAT16 or value.producer() is None:
        return
    name = str(value.name)
    value.name = f"{name}_half"
    cast = _cast(value, ir.DataType.FLOAT, name)
    graph.append(cast)
    graph.outputs[index] = cast.outputs[0]


def _cast(value: ir.Value, to: ir.DataType, name: str) -> ir.Node:
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", to)], name=f"{name}_Cast")
    output = node.outputs[0]
    output.name, output.dtype, output.shape = name, to, value.shape
    return node
