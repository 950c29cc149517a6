"""A model with inner tensors among its outputs, or with their shapes as outputs, in a temporary copy."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeport.calibration.graph import activations
from edgeport.contracts import Arrays, OnnxModel, OpenModel, RunModel
from edgeport.isolation.memory import give_back_of
from edgeport.onnx_files import infer_types, read_ir, write_scratch

__all__ = ["Shapes", "add_node", "add_output", "inner", "open_edited", "open_observed", "open_shapes"]

Shapes = Callable[[Arrays], Mapping[str, tuple[int, ...]]]
"""Feeds to the shapes of tensors, by name."""

_SHAPE = "#edgeport.shape"


@contextlib.contextmanager
def open_observed(model: OnnxModel, names: Sequence[str], open_model: OpenModel, folder: Path) -> Iterator[RunModel]:
    """The model with `names` among its outputs, opened by the handed runtime.

    Args:
        model: Its file is only read.
        names: Float tensors; those of inputs are known anyway, and are no outputs.
        open_model: Opens an ONNX file with some runtime.
        folder: For the temporary file.

    """

    def edit(graph: ir.Graph) -> None:
        graph.outputs.extend(value for value in inner(graph, names) if not value.is_graph_output())

    with open_edited(model, edit, open_model, folder) as run:
        yield run


@contextlib.contextmanager
def open_shapes(model: OnnxModel, names: Collection[str], open_model: OpenModel, folder: Path) -> Iterator[Shapes]:
    """As `open_observed`, but gives shapes alone, by name: no tensor is kept or copied for it."""
    if set(names) <= {spec.name for spec in model.inputs}:  # a runtime wants one output at least
        yield lambda feeds: {name: array.shape for name, array in feeds.items()}
        return

    def edit(graph: ir.Graph) -> None:
        graph.outputs.clear()
        for value in inner(graph, names):
            add_output(graph, value.producer(), ir.node("Shape", [value]), f"{value.name}{_SHAPE}", ir.DataType.INT64)

    with open_edited(model, edit, open_model, folder) as run:

        def shapes(feeds: Arrays) -> Mapping[str, tuple[int, ...]]:
            found = {name: array.shape for name, array in feeds.items()}
            for name, array in run(feeds).items():
                found[name.removesuffix(_SHAPE)] = tuple(map(int, array))
            return found

        yield shapes


@contextlib.contextmanager
def open_edited(
    model: OnnxModel, edit: Callable[[ir.Graph], None], open_model: OpenModel, folder: Path
) -> Iterator[RunModel]:
    """A temporary copy of the model after `edit`, which gets the graph with its types, opened by the handed runtime."""
    give_back_of(model.path)
    ir_model = read_ir(model)
    infer_types(ir_model)
    edit(ir_model.graph)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = write_scratch(ir_model, Path(own), model.path.name)
        del ir_model
        give_back_of(model.path)
        try:
            with open_model(path) as run:
                yield run
        finally:
            path.unlink(missing_ok=True)


def inner(graph: ir.Graph, names: Collection[str]) -> list[ir.Value]:
    """Those of the float tensors that nodes compute, in their order."""
    wanted = set(names)
    # What is fed is known without asking the runtime to copy it.
    return [value for value in activations(graph) if value.name in wanted and not value.is_graph_input()]


def add_node(graph: ir.Graph, after: ir.Node | None, node: ir.Node) -> None:
    """Puts a node behind the one that it reads: a runtime that keeps their order can then drop what was read."""
    if after is None:
        graph.append(node)
    else:
        graph.insert_after(after, node)


def add_output(graph: ir.Graph, after: ir.Node | None, node: ir.Node, name: str, dtype: ir.DataType) -> None:
    """`add_node`, and its output is one of the graph's."""
    add_node(graph, after, node)
    (output,) = node.outputs
    node.name = output.name = name
    output.type = ir.TensorType(dtype)
    graph.outputs.append(output)
