"""The input's preprocessing as the first nodes of the graph, so that a device feeds uint8.

It is done on ONNX, after the export: one place for models from PyTorch and for those that came as `.onnx`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import onnx_ir as ir

from edgeport.contracts import Array, Preprocessing, TensorSpec
from edgeport.errors import ExportError
from edgeport.exporter.passes.initializers import register
from edgeport.onnx_files import MODULE_KEY
from edgeport.preprocessing.images import affine

__all__ = ["fold_preprocessing"]

_MODULE = "preprocess"
"""Stands where other nodes have their PyTorch module."""

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def fold_preprocessing(model: ir.Model, specs: Sequence[TensorSpec]) -> list[str]:
    """Gives each input that declares `fold` its uint8 form: Transpose, Cast, `x * factor + offset`, as far as needed.

    The input keeps its name. The layout is changed first, while a number is one byte. The numbers stay float up to the
    first QuantizeLinear, so the first convolution is as integer as without folding. Numbers per channel are one
    BatchNormalization: ONNX Runtime moves a Transpose behind Mul and Add, whose operands then have three numbers in
    the innermost axis, and takes 1.1 ms for 224 x 224 pixels instead of 0.07 ms; OpenVINO makes the same of both.

    Args:
        model: Changed in place.
        specs: The declared inputs, as the float model takes them.

    Returns:
        Names of the inputs that were changed.

    Raises:
        ExportError: The model has no such input, or one of another dtype or number of axes.

    """
    folded = []
    for spec in specs:
        if isinstance(spec.preprocessing, Preprocessing) and spec.preprocessing.fold:
            _fold(model.graph, spec, spec.preprocessing)
            folded.append(spec.name)
    return folded


class _Chain:
    """Nodes behind a new input, each fed by the one before."""

    def __init__(self, graph: ir.Graph, fed: ir.Value) -> None:
        self._graph = graph
        self._prefix = f"{_MODULE}.{fed.name}"
        self.last = fed
        self.nodes: list[ir.Node] = []

    def then(self, operator: str, *constants: ir.Value, **attributes: float | list[int]) -> None:
        """Appends a node."""
        name = f"{self._prefix}.{len(self.nodes)}.{operator}"
        node = ir.node(operator, [self.last, *constants], attributes, name=name)
        node.metadata_props[MODULE_KEY] = _MODULE
        self.nodes.append(node)
        self.last = node.outputs[0]
        self.last.name = f"{name}.output"

    def constant(self, name: str, array: Array) -> ir.Value:
        """An initializer."""
        return register(self._graph, f"{self._prefix}.{name}", array)


def _fold(graph: ir.Graph, spec: TensorSpec, declared: Preprocessing) -> None:
    old = _image_input(graph, spec)
    shape = ir.Shape([]) if old.shape is None else old.shape
    sizes = {axis: shape[index] for index, axis in enumerate(declared.layout)}
    fed = ir.Value(
        name=spec.name,
        type=ir.TensorType(ir.DataType.UINT8),
        shape=ir.Shape([sizes[axis] for axis in declared.fold]),
    )
    chain = _Chain(graph, fed)
    if declared.layout != declared.fold:
        chain.then("Transpose", perm=[declared.fold.index(axis) for axis in declared.layout])
    chain.then("Cast", to=int(ir.DataType.FLOAT))
    channels = sizes["C"]
    _append_numbers(chain, declared, channels if isinstance(channels, int) else None)
    if old.dtype is not None and old.dtype != ir.DataType.FLOAT:
        chain.then("Cast", to=int(old.dtype))
    chain.last.shape, chain.last.type = shape, old.type
    old.replace_all_uses_with(chain.last, replace_graph_outputs=True)
    graph.inputs[graph.inputs.index(old)] = fed
    graph.insert_before(graph[0], chain.nodes)


def _append_numbers(chain: _Chain, declared: Preprocessing, channels: int | None) -> None:
    """`x * factor + offset`; a scalar where all channels share it, which costs nothing that can be measured."""
    factor, offset = affine(asdict(declared))
    shared = _is_one(factor) and _is_one(offset)
    if channels is not None and declared.layout == "NCHW" and not shared:
        chain.then(
            "BatchNormalization",
            chain.constant("factor", _filled(factor, 1.0, channels)),
            chain.constant("offset", _filled(offset, 0.0, channels)),
            chain.constant("mean", np.zeros(channels, np.float32)),
            chain.constant("variance", np.ones(channels, np.float32)),
            epsilon=0.0,
        )
        return
    if factor is not None:
        chain.then("Mul", chain.constant("factor", _per_channel(factor, declared.layout)))
    if offset is not None:
        chain.then("Add", chain.constant("offset", _per_channel(offset, declared.layout)))


def _image_input(graph: ir.Graph, spec: TensorSpec) -> ir.Value:
    asked = f"fold the preprocessing of input {spec.name!r} into the graph"
    found = next((value for value in graph.inputs if value.name == spec.name), None)
    if found is None:
        known = ", ".join(repr(value.name) for value in graph.inputs)
        raise ExportError(asked=asked, found=f"a model with inputs {known}", fix="name the input as the model does")
    if found.shape is None or len(found.shape) != len(spec.shape) or found.dtype not in _FLOATS:
        shape = "no shape" if found.shape is None else f"shape {[str(size) for size in found.shape]}"
        raise ExportError(
            asked=asked,
            found=f"that it takes {found.dtype} of {shape}",
            fix="fold where the model takes floats [N, C, H, W] or [N, H, W, C]; else leave fold out",
        )
    return found


def _is_one(values: Array | None) -> bool:
    """All channels share one number."""
    return values is None or bool((values == values[0]).all())


def _filled(values: Array | None, default: float, channels: int) -> Array:
    return np.broadcast_to(np.float32(default) if values is None else values, (channels,)).copy()


def _per_channel(values: Array, layout: str) -> Array:
    """A scalar where all channels share one number; else in the place of the channels."""
    if _is_one(values):
        return np.asarray(values[0], np.float32)
    return values.reshape([-1 if axis == "C" else 1 for axis in layout[1:]])
