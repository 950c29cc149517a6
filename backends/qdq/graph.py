"""An ONNX graph that is being edited: its values and nodes by name, and new ones with names of their own."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgeport.contracts import Array, Precision, QuantizationPlan

__all__ = ["PARTS_KEY", "PRECISION_KEY", "GraphEdit", "is_static", "new_initializer"]

PRECISION_KEY = "edgeport.precision"
"""Node metadata: the precision that the plan gave it, so that a placement can tell what became of it."""

PARTS_KEY = "edgeport.nodes"
"""Node metadata: the nodes of the float model that it stands for, a name on each line, where it is several."""


class GraphEdit:
    """Looks up and adds; the same edits in the same order give the same names.

    Attributes:
        graph: What is edited.
        nodes: By name; of several with one name the first, those without a name are absent.
        values: By name: graph inputs, initializers and node outputs of the main graph.

    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, ir.Node] = {}
        self.values: dict[str, ir.Value] = {value.name: value for value in graph.inputs if value.name}
        self.values.update(graph.initializers)
        self._value_names: set[str] = set(self.values)
        self._node_names: set[str] = set()
        for node in graph:
            if node.name:
                self.nodes.setdefault(node.name, node)
            self.values.update((value.name, value) for value in node.outputs if value.name)
        # Names inside subgraphs may shadow outer ones, so new names keep clear of them too.
        for node in graph.all_nodes():
            self._node_names.add(node.name or "")
            self._value_names.update(value.name or "" for value in node.outputs)

    def is_constant(self, value: ir.Value) -> bool:
        """It is an initializer that no caller can override."""
        return value.is_initializer() and not value.is_graph_input()

    def constant(self, name: str, array: Array) -> ir.Value:
        """A new initializer; its name is `name`, with a number behind it if that is taken."""
        free = _free(name, self._value_names)
        tensor = ir.tensor(array.copy(order="C"), name=free)
        return new_initializer(self.graph, free, tensor)

    def node(  # noqa: PLR0913 (what a node is made of)
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        *,
        like: ir.Node | None,
        outputs: int = 1,
        attributes: Sequence[ir.Attr] = (),
        domain: str = "",
    ) -> ir.Node:
        """A new node, not yet placed; it serves `like`, whose metadata (its PyTorch module) it takes."""
        node = ir.Node(
            domain,
            operator,
            inputs,
            attributes,
            num_outputs=outputs,
            name=_free(name, self._node_names),
            metadata_props={k: v for k, v in like.metadata_props.items() if k != PRECISION_KEY} if like else {},
        )
        for index, value in enumerate(node.outputs):
            value.name = _free(f"{name}_output" + (f"_{index}" if outputs > 1 else ""), self._value_names)
        return node

    def drop_if_unused(self, value: ir.Value) -> None:
        """Removes an initializer that nobody reads any more."""
        if value.name and value.name in self.graph.initializers and not value.uses() and not value.is_graph_output():
            del self.graph.initializers[value.name]


def is_static(node: ir.Node | None, plan: QuantizationPlan) -> bool:
    """The plan has the ranges of what it reads: it runs in int8, or in floats of 8 bits."""
    return node is not None and plan.nodes.get(node.name or "") in (Precision.INT8, Precision.FP8)


def new_initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A constant of the graph."""
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def _free(name: str, taken: set[str]) -> str:
    """`name`, or `name_2`, `name_3`, ...; taken from now on."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate
