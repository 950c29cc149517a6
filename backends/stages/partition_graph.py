"""What of a graph may be cut: nodes that must stay together become one part, those that are copied none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeport.backends.stages.chain_partition import GIVEN, Carried, Dag
from edgeport.contracts import DTYPES
from edgeport.onnx_files import values_read

__all__ = ["Costs", "Parts", "find_parts"]

_STANDARD = ("", "ai.onnx")
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_NOT_IN_NUMPY = frozenset({"bfloat16", "string"})
_NAMES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured of a graph.

    Attributes:
        times_ns: By node name; others take no time.
        together: Names of nodes that the runtime computes as one; they stay in one stage.
        size_bytes: By value name, in one call; others by their types.
        types: Of values that ONNX's own inference does not know, such as those of a runtime's own operators: the name
            of an ONNX type in small letters ("float"), and the number of axes.
        axes: Sizes of free axes by name, in such a call; others count as 1.

    """

    times_ns: Mapping[str, int]
    together: tuple[tuple[str, ...], ...] = ()
    size_bytes: Mapping[str, int] = field(default_factory=dict)
    types: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    axes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A graph as its parts.

    Attributes:
        dag: Their times and what flows between them.
        nodes: Of each part, in the graph's order.
        sources: Of each value, the part that computes it, or `GIVEN` for an input; absent for constants and copies.
        copied: Nodes that each stage that needs them computes for itself.

    """

    dag: Dag
    nodes: tuple[tuple[ir.Node, ...], ...]
    sources: Mapping[ir.Value, int]
    copied: frozenset[ir.Node]

    def needed(self, values: Iterable[ir.Value]) -> tuple[list[ir.Value], list[ir.Node]]:
        """What must be there for these values: inputs and results of parts, and the copied nodes on the way."""
        found: dict[ir.Value, None] = {}
        copies: dict[ir.Node, None] = {}
        pending = list(values)[::-1]
        while pending:
            value = pending.pop()
            node = value.producer()
            if value in self.sources:
                found[value] = None
            elif node in self.copied and node is not None and node not in copies:
                copies[node] = None
                pending += values_read(node)
        return list(found), list(copies)


def find_parts(model: ir.Model, costs: Costs) -> Parts:
    """The parts of a model's graph, which is sorted on the way; nodes that no output waits for are left out.

    - A DequantizeLinear, a Constant, and what depends on constants alone belong to no part: each stage that reads their
      results has a copy. So a quantized value crosses as the integers that it is.
    - A QuantizeLinear stays with what computes its input, back to what reads a DequantizeLinear where nothing else
      looks on: runtimes make one integer kernel of it. Nodes of one line of `together` stay together.
    - So does whatever lies on a way that leaves a part and comes back (Tarjan's strongly connected components).
    - An If, a Loop or a Scan is one node, which reads what its subgraphs capture.

    Args:
        model: Every node has a name of its own; types are inferred.
        costs: Measured on its graph.

    """
    graph = model.graph
    graph.sort()
    functions = {(key[0], key[1]) for key in model.functions}
    nodes = _live_nodes(graph)
    copied = _copied(graph, nodes, functions)
    own = [node for node in nodes if node not in copied]
    names = {node.name: index for index, node in enumerate(own)}
    index_of = {node: index for index, node in enumerate(own)}
    groups = _Groups(len(own))
    for line in costs.together:
        known = [names[name] for name in line if name in names]
        for one in known[1:]:
            groups.join(known[0], one)
    for node in own:
        if node.op_type == "QuantizeLinear":
            for other in _integer_unit(node, index_of):
                groups.join(index_of[node], index_of[other])
    given = {value: GIVEN for value in graph.inputs if not value.is_initializer()}
    sources = given | {value: index_of[node] for node in own for value in node.outputs}
    reads = [_sources_read(node, sources, copied) for node in own]
    _join_cycles(groups, [{sources[value] for value in values} - {GIVEN} for values in reads])
    number = groups.numbers()
    members: list[list[ir.Node]] = [[] for _ in range(max(number, default=-1) + 1)]
    for index, node in enumerate(own):
        members[number[index]].append(node)
    parts_of = {value: GIVEN if source == GIVEN else number[source] for value, source in sources.items()}
    readers: dict[ir.Value, set[int]] = {}
    waits: list[set[int]] = [set() for _ in members]
    for index, values in enumerate(reads):
        for value in values:
            readers.setdefault(value, set()).add(number[index])
            waits[number[index]].add(parts_of[value])
    leaving = {value for output in graph.outputs for value in _reached(output, sources, copied)}
    carried = tuple(
        Carried(
            name=str(value.name),
            source=part,
            readers=frozenset(readers.get(value, ())),
            size_bytes=costs.size_bytes.get(str(value.name), _size_bytes(value, costs.axes)),
            leaves=value in leaving,
            can_cross=_can_cross(value),
        )
        for value, part in parts_of.items()
        if value in leaving or readers.get(value, set()) - {part}
    )
    dag = Dag(
        times_ns=tuple(float(sum(costs.times_ns.get(node.name or "", 0) for node in part)) for part in members),
        waits_for=tuple(frozenset(wanted - {GIVEN, part}) for part, wanted in enumerate(waits)),
        values=carried,
    )
    return Parts(dag=dag, nodes=tuple(map(tuple, members)), sources=parts_of, copied=frozenset(copied))


def _live_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Those that an output waits for."""
    live: set[ir.Node] = set()
    pending = [value.producer() for value in graph.outputs]
    while pending:
        node = pending.pop()
        if node is None or node in live or node.graph is not graph:
            continue
        live.add(node)
        pending += [value.producer() for value in values_read(node)]
    return [node for node in graph if node in live]


def _copied(graph: ir.Graph, nodes: Sequence[ir.Node], functions: set[tuple[str, str]]) -> set[ir.Node]:
    constant = {value for value in graph.initializers.values() if not value.is_graph_input()}
    copied: set[ir.Node] = set()
    for node in nodes:
        standard = node.domain in _STANDARD and (node.domain, node.op_type) not in functions
        plain = standard and node.op_type not in _RANDOM and not any(_holds_graph(a) for a in node.attributes.values())
        if plain and all(value in constant for value in values_read(node)):
            constant.update(node.outputs)
            copied.add(node)
        elif standard and node.op_type == "DequantizeLinear":
            copied.add(node)
    return copied


def _integer_unit(node: ir.Node, own: Mapping[ir.Node, int]) -> list[ir.Node]:
    """Before a QuantizeLinear: the nodes up to one that reads a DequantizeLinear; without such, the nearest alone."""
    unit: list[ir.Node] = []
    while True:
        before = {value.producer() for value in node.inputs if value is not None} - {None}
        if unit and any(one is not None and one.op_type == "DequantizeLinear" for one in before):
            return unit
        found = [one for one in before if one in own and one is not None]
        if len(found) != 1 or (
            unit and any(use.node is not node for value in found[0].outputs for use in value.uses())
        ):
            return unit[:1]
        node = found[0]
        unit.append(node)


def _holds_graph(attribute: ir.Attr) -> bool:
    return attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _sources_read(node: ir.Node, sources: Mapping[ir.Value, int], copied: set[ir.Node]) -> list[ir.Value]:
    """Inputs and results of other nodes that it needs, past what is copied."""
    found: dict[ir.Value, None] = {}
    for value in values_read(node):
        found.update(dict.fromkeys(_reached(value, sources, copied)))
    return list(found)


def _reached(value: ir.Value, sources: Mapping[ir.Value, int], copied: set[ir.Node]) -> Iterator[ir.Value]:
    pending, seen = [value], {value}
    while pending:
        one = pending.pop()
        if one in sources:
            yield one
            continue
        node = one.producer()
        if node is not None and node in copied:
            new = [read for read in values_read(node) if read not in seen]
            seen.update(new)
            pending += new


def _size_bytes(value: ir.Value, axes: Mapping[str, int]) -> int:
    """By its type, of an unknown one and of text a byte each; axes of unknown size count as 1."""
    count = 1
    for size in value.shape or ():
        count *= size if isinstance(size, int) else axes.get(str(size.value), 1)
    sized = value.dtype if value.dtype is not ir.DataType.STRING else None
    return -(-count * (sized.bitwidth if sized is not None else 8) // 8)


def _can_cross(value: ir.Value) -> bool:
    """A tensor of a type that NumPy has, with a known number of axes."""
    if value.dtype is None or value.shape is None or not isinstance(value.type, ir.TensorType):
        return False
    name = value.dtype.name.lower()
    name = _NAMES.get(name, name)
    return name in DTYPES and name not in _NOT_IN_NUMPY


class _Groups:
    """Disjoint sets of numbers."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, one: int) -> int:
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.find(one), self.find(other)))
        self._parent[second] = first

    def numbers(self) -> list[int]:
        """The group of each, counted in the order of their first members."""
        known: dict[int, int] = {}
        return [known.setdefault(self.find(one), len(known)) for one in range(len(self._parent))]


def _join_cycles(groups: _Groups, reads: Sequence[set[int]]) -> None:
    """Joins groups that wait for each other (R. Tarjan, Depth-First Search and Linear Graph Algorithms, 1972)."""
    before: dict[int, set[int]] = {}
    for one, wanted in enumerate(reads):
        before.setdefault(groups.find(one), set()).update(groups.find(other) for other in wanted)
    depth: dict[int, int] = {}
    low: dict[int, int] = {}
    open_: list[int] = []
    is_open: set[int] = set()
    for start, first in before.items():
        if start in depth:
            continue
        stack = [(start, iter(sorted(first)))]
        depth[start] = low[start] = len(depth)
        open_.append(start)
        is_open.add(start)
        while stack:
            one, rest = stack[-1]
            other = next(rest, None)
            if other is None:
                stack.pop()
                if stack:
                    low[stack[-1][0]] = min(low[stack[-1][0]], low[one])
                if low[one] == depth[one]:
                    _close(groups, one, open_, is_open)
            elif other not in depth:
                depth[other] = low[other] = len(depth)
                open_.append(other)
                is_open.add(other)
                stack.append((other, iter(sorted(before[other]))))
            elif other in is_open:
                low[one] = min(low[one], depth[other])


def _close(groups: _Groups, root: int, open_: list[int], is_open: set[int]) -> None:
    while True:
        one = open_.pop()
        is_open.remove(one)
        groups.join(root, one)
        if one == root:
            return
