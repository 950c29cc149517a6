"""Float precisions written into a graph, node by node, for runtimes that take them from there.

Each node computes in the float that is its own; a Cast stands where a tensor goes from one to another, and constants
are stored in the type of those that read them. Inputs and outputs of the model stay what they were. Nodes that run as
integers are float32 on their float side, Q/DQ pairs too. Weights that alone are integers are dequantized to float16
where all their readers are float16, with float16 scales; else to float32, and cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeport.contracts import OnnxModel, Precision
from edgeport.errors import UnsupportedByBackend
from edgeport.onnx_files import infer_types, read_ir, write_ir

__all__ = ["write_floats"]

_FLOAT32, _FLOAT16, _BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16
_TYPES: Mapping[Precision, ir.DataType] = {
    Precision.FP32: _FLOAT32,
    Precision.FP16: _FLOAT16,
    Precision.BF16: _BFLOAT16,
}
_NAMES: Mapping[ir.DataType, str] = {_FLOAT16: "float16", _BFLOAT16: "bfloat16", _FLOAT32: "float32"}
_SUFFIXES: Mapping[ir.DataType, str] = {_FLOAT16: "half", _BFLOAT16: "bfloat16", _FLOAT32: "float"}

_STAYS_FLOAT: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2), "NonMaxSuppression": (0, 1, 3, 4)}
"""Inputs that the ONNX specification wants in float32 whatever the data is: region of interest and scales, boxes."""

_QUANTIZES, _RESTORES = "QuantizeLinear", "DequantizeLinear"
_LOWEST_OPSET = 19
"""DequantizeLinear gives float16 from here on."""

_CONSTANTS = ("value", "value_float", "value_floats")


def write_floats(model: OnnxModel, path: Path, default: Precision, nodes: Mapping[str, Precision]) -> OnnxModel:
    """The model with each node's float in the graph, to the file `path`.

    Args:
        model: Float, or with Q/DQ pairs written into it.
        path: Of the new file.
        default: Float precision of every node that `nodes` does not name.
        nodes: Node name to precision, as in a plan.

    Raises:
        UnsupportedByBackend: Other integers in it than Q/DQ pairs, branches or loops in the graph, or a number that
            a type can't hold.

    """
    ir_model = read_ir(model)
    infer_types(ir_model)
    types = _types_of(ir_model.graph, default, nodes)
    _check(model, ir_model, set(types.values()))
    _Retyping(ir_model.graph, types).run()
    return write_ir(ir_model, path)


def _types_of(graph: ir.Graph, default: Precision, nodes: Mapping[str, Precision]) -> dict[ir.Node, ir.DataType]:
    """The float that each node computes in."""
    types = {}
    for node in graph:
        precision = nodes.get(str(node.name), default)
        if precision.is_float:
            types[node] = _TYPES[precision]
        else:
            types[node] = _FLOAT32 if precision.weight_form is None else _TYPES[default]
    for node in graph:
        if node.op_type == _QUANTIZES:
            types[node] = _FLOAT32
        elif node.op_type == _RESTORES:
            readers = {types[use.node] for use in node.outputs[0].uses()}
            types[node] = _FLOAT16 if _is_stored(node) and readers == {_FLOAT16} else _FLOAT32
    return types


def _is_stored(node: ir.Node) -> bool:
    """It restores a constant."""
    return node.inputs[0] is not None and node.inputs[0].is_initializer()


def _check(model: OnnxModel, ir_model: ir.Model, types: set[ir.DataType]) -> None:
    found = ""
    opset = ir_model.opset_imports.get("", 0)
    others = [node for node in ir_model.graph.all_nodes() if "Integer" in node.op_type or "QLinear" in node.op_type]
    restored = any(node.op_type == _RESTORES and _is_stored(node) for node in ir_model.graph)
    if others:
        found = "a model that is quantized already"
    elif restored and _FLOAT16 in types and opset < _LOWEST_OPSET:
        found = f"integer weights in a model of opset {opset}, which must be {_LOWEST_OPSET}"
    elif ir_model.functions:
        found = "functions in it"
    for node in ir_model.graph:
        if any(
            isinstance(attribute, ir.Attr) and attribute.type == ir.AttributeType.GRAPH
            for attribute in node.attributes.values()
        ):
            found = f"node {node.name!r} ({node.op_type}), which holds a graph of its own"
    if found:
        names = " and ".join(sorted(_NAMES[one] for one in types if one is not _FLOAT32))
        raise UnsupportedByBackend(
            asked=f"write {model.path.name} in {names}", found=found, fix="compile it in fp32 or int8"
        )


class _Retyping:
    """Walks the graph once, in the order of computation, in place."""

    def __init__(self, graph: ir.Graph, types: Mapping[ir.Node, ir.DataType]) -> None:
        self._graph = graph
        self._types = types
        self._made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        outputs = [value.dtype for value in self._graph.outputs]
        for node in list(self._graph):
            self._retype(node, self._types[node])
        for index, (value, dtype) in enumerate(zip(list(self._graph.outputs), outputs, strict=True)):
            if value.dtype in _NAMES and dtype is not None and dtype in _NAMES and value.dtype != dtype:
                self._give_back(index, value, dtype)
        self._drop_unused()

    def _retype(self, node: ir.Node, wanted: ir.DataType) -> None:
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype not in _NAMES or node.op_type == "Cast":
                continue
            to = _FLOAT32 if index in _STAYS_FLOAT.get(node.op_type, ()) else wanted
            if value.dtype != to:
                node.replace_input_with(index, self._in(value, to, node))
        if node.op_type == "Constant":
            return  # each reader gets its own
        _retype_attributes(node, wanted)
        outputs = node.outputs[:1] if node.op_type == "LayerNormalization" else node.outputs  # the others are its own
        for value in outputs:
            if value.dtype in _NAMES and not _names_its_type(node):
                value.dtype = wanted

    def _in(self, value: ir.Value, to: ir.DataType, reader: ir.Node) -> ir.Value:
        """The same numbers in another type: a constant of its own, or behind a Cast."""
        if (value, to) not in self._made:
            tensor = _constant(value)
            self._made[value, to] = self._cast(value, to) if tensor is None else self._stored(value, tensor, to)
        made = self._made[value, to]
        if reader.op_type == _RESTORES and made.const_value is not None:
            _check_scale(value, made.const_value)
        return made

    def _stored(self, value: ir.Value, tensor: ir.TensorProtocol, to: ir.DataType) -> ir.Value:
        name = f"{value.name}_{_SUFFIXES[to]}"
        made = ir.Value(name=name, const_value=_retyped(tensor, str(value.name), name, to), shape=value.shape)
        made.dtype = to
        self._graph.register_initializer(made)
        return made

    def _cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        node = _cast(value, to, f"{value.name}_{_SUFFIXES[to]}")
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(producer, node)
        return node.outputs[0]

    def _give_back(self, index: int, value: ir.Value, dtype: ir.DataType) -> None:
        """A Cast takes over the output's name and place; what computed it is renamed."""
        name, computed = str(value.name), value.dtype or dtype
        value.name = f"{name}_{_SUFFIXES[computed]}"
        cast = _cast(value, dtype, name)
        self._graph.append(cast)
        self._graph.outputs[index] = cast.outputs[0]

    def _drop_unused(self) -> None:
        for value, _ in self._made:
            if value.uses() or value.is_graph_output() or value.is_graph_input():
                continue
            node = value.producer()
            if node is not None and node.op_type == "Constant":
                self._graph.remove(node, safe=True)
            elif value.is_initializer() and value.name and value.name in self._graph.initializers:
                del self._graph.initializers[value.name]


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initializer that nobody overrides, or of a Constant node."""
    if value.is_graph_input():
        return None
    if value.is_initializer():
        return value.const_value
    node = value.producer()
    if node is None or node.op_type != "Constant":
        return None
    for key in _CONSTANTS:
        attribute = node.attributes.get(key)
        if attribute is not None:
            return attribute.as_tensor() if key == "value" else ir.tensor(np.asarray(attribute.value, np.float32))
    return None


def _names_its_type(node: ir.Node) -> bool:
    """What it gives is of the type that stands in an attribute, whatever it reads."""
    return node.op_type in ("Cast", "ConstantOfShape") or "dtype" in node.attributes


def _retype_attributes(node: ir.Node, wanted: ir.DataType) -> None:
    """The type that a node casts to or fills with, where that is float32."""
    attributes, output = node.attributes, node.outputs[0]
    for key in ("to", "dtype"):
        if (key == "dtype" or node.op_type == "Cast") and attributes.get_int(key, 0) == _FLOAT32:
            attributes[key] = ir.AttrInt64(key, wanted)
            output.dtype = wanted
    if node.op_type == "ConstantOfShape":
        fill = attributes.get_tensor("value", None)
        if fill is None or fill.dtype == _FLOAT32:
            fill = fill if fill is not None else ir.tensor(np.zeros(1, dtype=np.float32))
            attributes["value"] = ir.AttrTensor("value", _retyped(fill, str(node.name), str(node.name), wanted))
            output.dtype = wanted


def _retyped(tensor: ir.TensorProtocol, what: str, name: str, to: ir.DataType) -> ir.TensorProtocol:
    numbers = tensor.numpy().astype(np.float32)
    if to is _FLOAT16:
        largest = float(np.max(np.abs(numbers), initial=0.0, where=np.isfinite(numbers)))
        if largest > float(np.finfo(np.float16).max):
            raise UnsupportedByBackend(
                asked=f"store {what!r} as float16",
                found=f"the number {largest:g} in it; float16 ends at 65504",
                fix="compile it in fp32, or run the nodes that read it in fp32 or bf16",
            )
    return ir.tensor(numbers.astype(to.numpy()), name=name)


def _check_scale(value: ir.Value, half: ir.TensorProtocol) -> None:
    """A scale below the normal numbers of float16 has few digits left, or is zero."""
    smallest = float(np.min(np.abs(half.numpy().astype(np.float32)), initial=1.0))
    if smallest < float(np.finfo(np.float16).tiny):
        raise UnsupportedByBackend(
            asked=f"store {value.name!r} as float16",
            found=f"the scale {smallest:g} in it; float16 has few digits below {float(np.finfo(np.float16).tiny):.2g}",
            fix="leave what is not integer in fp32",
        )


def _cast(value: ir.Value, to: ir.DataType, name: str) -> ir.Node:
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", to)], name=f"{name}_Cast")
    output = node.outputs[0]
    output.name, output.dtype, output.shape = name, to, value.shape
    return node
