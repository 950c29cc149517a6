"""Which node of a PyTorch graph computes which tensor of the exported file: the one with the same numbers.

Names would not do: the export folds, merges and splits operators. So the file and the graph are run on the same
samples, and a tensor is where its numbers are, whatever its shape is there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from edgeport.contracts import Array, Arrays, OpenModel
from edgeport.exporter.qat.graph import TrainableGraph
from edgeport.onnx_files import node_module, read_ir, write_ir

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["match_tensors"]

_TOLERANCE = 1e-4
"""Of the largest number: float32 sums in another order differ by less."""

_SAME_WORK = {
    "Clip": ("hardtanh", "relu6", "clamp"),
    "Gemm": ("linear", "addmm"),
    "MatMul": ("matmul", "mm", "bmm", "linear"),
    "GlobalAveragePool": ("mean", "avg_pool"),
    "AveragePool": ("avg_pool", "mean"),
    "MaxPool": ("max_pool",),
    "Concat": ("cat",),
    "Reshape": ("view", "reshape", "flatten", "squeeze"),
    "Transpose": ("permute", "transpose", "t.default"),
}
"""ONNX operator to parts of the names that PyTorch has for it; else they are called alike."""


def match_tensors(
    trainable: TrainableGraph, model_path: Path, wanted: Collection[str], open_model: OpenModel, feeds: Arrays
) -> dict[str, fx.Node]:
    """Name of a tensor to the node that gives it; what no node gives is missing.

    Args:
        trainable: The graph.
        model_path: The ONNX file that was exported from the same module.
        wanted: Names of its tensors.
        open_model: Opens an ONNX file in some runtime.
        feeds: A batch of samples; on more of them fewer tensors look alike.

    """
    model = read_ir(model_path)
    values = _values_of_file(model, wanted, open_model, feeds)
    makers = {value.name: node for node in model.graph for value in node.outputs if value.name in wanted}
    watched = _Watching(trainable.graph)
    args, kwargs = trainable.binding.tensors(feeds)
    with torch.no_grad():
        watched.run(*_flat(trainable.graph, args, kwargs))
    inputs = {str(node.target): node for node in trainable.graph.graph.nodes if node.op == "placeholder"}
    found: dict[str, fx.Node] = {}
    for name in wanted:
        if name not in makers:  # an input of the file: its place among the inputs says which one it is
            order = [str(value.name) for value in model.graph.inputs]
            if name in order and len(order) == len(inputs):
                found[name] = list(inputs.values())[order.index(name)]
        elif name in values and (node := _closest(watched.values, values[name], makers[name])) is not None:
            found[name] = node
    return found


def _values_of_file(model: ir.Model, wanted: Collection[str], open_model: OpenModel, feeds: Arrays) -> dict[str, Array]:
    named = {str(value.name): value for node in model.graph for value in node.outputs}
    there = {value.name for value in model.graph.outputs}
    for name in wanted:
        if name in named and name not in there:
            model.graph.outputs.append(named[name])
    with tempfile.TemporaryDirectory() as folder:
        write_ir(model, path := Path(folder) / "watched.onnx")
        with open_model(path) as run:
            return run(feeds)


class _Watching(fx.Interpreter):
    """Runs a graph and keeps what each node gave, as flat float32."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.values: dict[fx.Node, Array] = {}

    def run_node(self, n: fx.Node) -> Any:
        """As the interpreter does, and keeps the result."""
        found = super().run_node(n)
        if n.op == "call_function" and isinstance(found, torch.Tensor) and found.is_floating_point():
            self.values[n] = found.detach().float().flatten().numpy().copy()  # what follows may overwrite it
        return found


def _flat(graph: fx.GraphModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """Arguments as the placeholders stand."""
    codegen: Any = graph.graph._codegen  # noqa: SLF001 (how torch.export's modules take nested arguments)
    flat: list[Any] = list(codegen.process_inputs(*args, **kwargs))
    return flat


def _closest(values: Mapping[fx.Node, Array], wanted: Array, maker: ir.Node) -> fx.Node | None:
    """The node with these numbers; of several the one that does the same work in the same module, then the first."""
    flat = np.asarray(wanted, dtype=np.float32).ravel()
    allowed = _TOLERANCE * max(float(np.abs(flat).max(initial=0.0)), 1e-6)
    same = [
        node
        for node, value in values.items()
        if value.size == flat.size and float(np.abs(value - flat).max(initial=0.0)) <= allowed
    ]
    if not same:
        return None
    return min(enumerate(same), key=lambda one: (-_likeness(one[1], maker), one[0]))[1]


def _likeness(node: fx.Node, maker: ir.Node) -> int:
    called = str(node.target).lower()
    parts = _SAME_WORK.get(maker.op_type, (maker.op_type.lower(),))
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    module = str(stack[-1][0]) if stack else ""
    return 2 * any(part in called for part in parts) + (module == node_module(maker))
