"""What a call of a model must do at the least: arithmetic and bytes, counted from its graph.

Both are lower bounds, since a latency below what they allow is called impossible. Left out are: nodes that nothing
waits for, that depend on constants alone, or that repeat another one (runtimes drop all three), the insides of If,
Loop and Scan, and every node whose shapes are not known.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts.model import OnnxModel
from edgeport.contracts.verdict import Work
from edgeport.onnx_files.op_cost import NodeContext, factors, operations
from edgeport.onnx_files.reading import open_onnx
from edgeport.onnx_files.walk import attribute_graphs

if TYPE_CHECKING:
    import onnx

__all__ = ["count_work"]

Shape = tuple[int, ...]

_STANDARD = ("", "ai.onnx")
_SMALL_ELEMENTS = 1024
"""Constants up to this size are kept for shape inference: shapes, axes, repeats."""

_RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_READ_WHOLE = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Pow", "Clip", "Relu", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Erf", "Gelu"),
        *("Exp", "Log", "Sqrt", "Abs", "Neg", "Softmax", "Cast", "QuantizeLinear", "DynamicQuantizeLinear"),
        *("DequantizeLinear", "BatchNormalization", "InstanceNormalization", "LayerNormalization"),
        *("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"),
        *("Attention", "Gemm", "GRU", "LSTM", "MatMul", "MatMulInteger", "QLinearMatMul", "RNN"),
    }
)
"""Operators that read every value of their inputs; a Slice or a Gather does not."""
_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})


def count_work(
    model: OnnxModel | Path,
    batch: int,
    *,
    shapes: Mapping[str, Shape] | None = None,
    bits: int | None = None,
    padding: bool = False,
) -> Work:
    """Counts the work of one call. It parses and infers shapes: for a file from outside, call it in a child process.

    Args:
        model: The `.onnx` file; it is checked first. Weights are not loaded.
        batch: Samples in the call; fills axis 0 of every input where it is free.
        shapes: By input name, as it is fed; other free axes are unknown without it, and what depends on them is left
            out.
        bits: No value takes more (16 where a runtime keeps float32 weights as bfloat16); None leaves them as stored.
        padding: Count products with the zeros of a convolution's padding too, as published figures do.

    Raises:
        ModelError, SourceError: See `open_onnx`.

    """
    path = model.path if isinstance(model, OnnxModel) else Path(os.fspath(model))
    opened = open_onnx(path)
    fed = {
        spec.name: tuple(batch if isinstance(size, str) and axis == 0 else size for axis, size in enumerate(spec.shape))
        for spec in opened.inputs
    }
    graph = _Graph(_parsed(path), {**fed, **(shapes or {})})
    counted = 0
    done: set[int] = set()
    weights: dict[frozenset[str], int] = {}
    read: set[int] = set()
    for node in graph.nodes:
        if id(node) not in graph.live or not graph.varies(node) or graph.same[id(node)] in done:
            continue
        found = operations(NodeContext(node=node, shapes=graph.shapes, padding=padding))
        if found is None:
            continue
        done.add(graph.same[id(node)])
        counted += found
        for name in factors(node):
            if name not in graph.varying and graph.number[name] not in read:
                read.add(graph.number[name])
                sources = graph.sources(name)
                weights[sources] = weights.get(sources, 0) + graph.size_bytes(name, bits)
    kept = sum(min(size, sum(graph.size_bytes(one, bits) for one in sources)) for sources, size in weights.items())
    moved = sum(graph.size_bytes(name, bits) for name in (*graph.inputs_read(), *graph.outputs_written()))
    return Work(operations=float(counted), bytes=float(kept + moved))


def _parsed(path: Path) -> onnx.ModelProto:
    """The model with its functions expanded; external weights stay where they are."""
    import onnx
    import onnx.inliner

    proto = onnx.load_model(path, load_external_data=False)
    return onnx.inliner.inline_local_functions(proto) if proto.functions else proto


@dataclass(frozen=True, kw_only=True)
class _Constant:
    shape: Shape
    bits: int
    number: int


@dataclass
class _Graph:
    """A graph in order, with shapes, and which value is which.

    Attributes:
        nodes: Each after those that it waits for.
        shapes: By tensor name, of those that are known.
        varying: Names that depend on an input of the model.
        number: Tensors of one number hold the same values.
        same: `id` of a node to a number; nodes of one number compute the same.
        live: `id` of the nodes that an output waits for.

    """

    proto: onnx.ModelProto
    fed: Mapping[str, tuple[int | str, ...]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)
    varying: set[str] = field(default_factory=set)
    number: dict[str, int] = field(default_factory=dict)
    same: dict[int, int] = field(default_factory=dict)
    live: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._constants = {one.name: self._constant(one) for one in self.proto.graph.initializer}
        self._inputs = [value.name for value in self.proto.graph.input if value.name not in self._constants]
        self._outputs = [value.name for value in self.proto.graph.output]
        _sort(self.proto.graph)
        self.nodes = list(self.proto.graph.node)
        self._producer = {name: node for node in self.nodes for name in node.output if name}
        self._infer()
        self._walk()

    def varies(self, node: onnx.NodeProto) -> bool:
        """It has to be computed anew in every call."""
        return any(name in self.varying for name in node.output)

    def size_bytes(self, name: str, most: int | None) -> int:
        """Of a tensor, each value in `most` bits or fewer; 0 where that is not known."""
        bits = self.bits.get(name, 0)
        return math.prod(self.shapes[name]) * min(bits, most or bits) // 8 if name in self.shapes else 0

    def sources(self, name: str) -> frozenset[str]:
        """Stored constants that a constant is made of."""
        found: set[str] = set()
        pending, seen = [name], set()
        while pending:
            one = pending.pop()
            if one in seen:
                continue
            seen.add(one)
            node = self._producer.get(one)
            if node is None or not any(node.input):
                found.add(one)
            else:
                pending += [each for each in node.input if each]
        return frozenset(found)

    def inputs_read(self) -> Iterator[str]:
        """Inputs of which every value is read."""
        users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            if id(node) in self.live:
                for name in node.input:
                    users.setdefault(name, []).append(node)

        def whole(name: str) -> bool:
            return any(
                node.op_type in _READ_WHOLE
                or (node.op_type in _CONVOLUTIONS and _covers(node, self.shapes))
                or (node.op_type in _VIEWS and whole(node.output[0]))
                for node in users.get(name, ())
            )

        yield from (name for name in self._inputs if whole(name))

    def outputs_written(self) -> Iterator[str]:
        """Outputs that are computed, each once."""
        seen: set[int] = set()
        for name in self._outputs:
            if name in self.varying and name not in self._inputs and self.number[name] not in seen:
                seen.add(self.number[name])
                yield name

    def _constant(self, tensor: onnx.TensorProto) -> _Constant:
        # By content: runtimes merge nodes that differ in nothing but the name of equal constants.
        content = [tensor.data_type, list(tensor.dims), [(one.key, one.value) for one in tensor.external_data]]
        values = tensor.raw_data or (b"" if tensor.external_data else tensor.SerializeToString(deterministic=True))
        digest = hashlib.sha256(repr(content).encode() + values).digest()
        return _Constant(shape=tuple(tensor.dims), bits=_bits(tensor.data_type), number=self._same(digest))

    def _same(self, key: object) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def _infer(self) -> None:
        """Shapes by ONNX's own inference, from what the model is fed; what the file says of other sizes is dropped."""
        import onnx

        graph = self.proto.graph
        _fill(graph, self.fed, self._inputs)
        foreign = {name for node in self.nodes if node.domain not in _STANDARD for name in node.output}
        stated = [value for value in graph.value_info if value.name in foreign]
        del graph.value_info[:]
        graph.value_info.extend(stated)
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
        _set_large_apart(graph)
        inferred = onnx.shape_inference.infer_shapes(
            self.proto, check_type=False, strict_mode=False, data_prop=True
        ).graph
        for value in (*inferred.value_info, *inferred.input, *inferred.output):
            tensor = value.type.tensor_type
            self.bits[value.name] = _bits(tensor.elem_type)
            if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                self.shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
        for name, constant in self._constants.items():
            self.shapes[name], self.bits[name] = constant.shape, constant.bits

    def _walk(self) -> None:
        self.varying = set(self._inputs)
        self.number = {name: constant.number for name, constant in self._constants.items()}
        self.number |= {name: self._same(("input", name)) for name in self._inputs}
        for node in self.nodes:
            uses = _uses(node)
            if any(name in self.varying for name in uses):
                self.varying.update(filter(None, node.output))
            alike = not any(attribute_graphs(node)) and node.op_type not in _RANDOM
            attributes = sorted(one.SerializeToString(deterministic=True) for one in node.attribute)
            numbers = [self.number.get(name, -1) if name else -2 for name in node.input]
            key = (node.domain, node.op_type, tuple(numbers), tuple(attributes)) if alike else id(node)
            self.same[id(node)] = self._same(key)
            for index, name in enumerate(node.output):
                if name:
                    self.number[name] = self._same((key, index))
        pending = [self._producer[name] for name in self._outputs if name in self._producer]
        while pending:
            node = pending.pop()
            if id(node) not in self.live:
                self.live.add(id(node))
                pending += [self._producer[name] for name in _uses(node) if name in self._producer]


def _bits(element_type: int) -> int:
    """Bits of a value; 0 for types without a size (strings)."""
    import onnx_ir

    try:
        return int(onnx_ir.DataType(element_type).bitwidth)
    except (ValueError, TypeError):
        return 0


def _uses(node: onnx.NodeProto) -> list[str]:
    """Names that a node waits for, those that its subgraphs take from outside among them."""
    names = [name for name in node.input if name]
    for graph in attribute_graphs(node):
        names += [value.name for value in graph.output]
        for inner in graph.node:
            names += _uses(inner)
    return names


def _sort(graph: onnx.GraphProto) -> None:
    """Each node after those that it waits for; runtimes take them in any order, shape inference doesn't."""
    nodes = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = {index: [producer[name] for name in _uses(node) if name in producer] for index, node in enumerate(nodes)}
    del graph.node[:]
    graph.node.extend(nodes[index] for index in TopologicalSorter(waits).static_order())


def _fill(graph: onnx.GraphProto, fed: Mapping[str, tuple[int | str, ...]], inputs: list[str]) -> None:
    """Writes the sizes that are fed into the inputs, and wherever else the file gives them the same name."""
    named: dict[str, int] = {}
    for value in graph.input:
        if value.name not in inputs or len(fed.get(value.name, ())) != len(value.type.tensor_type.shape.dim):
            continue
        for dim, size in zip(value.type.tensor_type.shape.dim, fed[value.name], strict=True):
            if isinstance(size, int):
                if dim.dim_param:
                    named[dim.dim_param] = size
                dim.dim_value = size
    for value in (*graph.input, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in named:
                dim.dim_value = named[dim.dim_param]


def _set_large_apart(graph: onnx.GraphProto) -> None:
    """Makes inputs of large constants: shape inference wants their shapes alone, and copies all that it is given."""
    import onnx

    there = {value.name for value in graph.input}
    large = [one for one in graph.initializer if math.prod(one.dims) > _SMALL_ELEMENTS or one.external_data]
    small = [one for one in graph.initializer if math.prod(one.dims) <= _SMALL_ELEMENTS and not one.external_data]
    values = [
        onnx.helper.make_tensor_value_info(one.name, one.data_type, list(one.dims))
        for one in large
        if one.name not in there
    ]
    del graph.initializer[:]
    graph.initializer.extend(small)
    graph.input.extend(values)


def _covers(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> bool:
    """A convolution whose kernel is as wide as its stride, so that it skips nothing."""
    kernel = shapes.get(factors(node)[1], ())[2:]
    strides = next((list(one.ints) for one in node.attribute if one.name == "strides"), [1] * len(kernel))
    return bool(kernel) and all(stride <= size for stride, size in zip(strides, kernel, strict=True))
