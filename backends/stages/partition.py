"""Cuts a graph into stages: balanced by the time of its nodes, few bytes between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgeport.backends.stages.chain_partition import best_chain
from edgeport.backends.stages.partition_graph import Costs, Parts, find_parts
from edgeport.errors import ModelError
from edgeport.onnx_files import infer_types, values_not_tensors, values_read

if TYPE_CHECKING:
    from edgeport.backends.stages.chain_partition import Chain

__all__ = ["Costs", "Cut", "Stage", "cut_graph"]

_NS_PER_BYTE = 0.1
"""A copy at 10 GB/s, as between two cores that share a cache."""
_SLACK = 0.02


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of the way.

    Attributes:
        nodes: Names, in the graph's order; a node that is copied is in several stages.
        inputs: Names of the values that it takes, of any earlier stage or of the whole's inputs; the first stage also
            takes those that nothing reads.
        outputs: Names of the values that it gives, to any later stage or as the whole's outputs.
        time_ns: Of its nodes, and of handing its values over.

    """

    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    time_ns: float


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A graph in stages.

    Attributes:
        stages: In the order in which they run.
        crossing: Between each two stages, the names of what is carried over: also what was made, or given, before and
            is wanted later.
        crossing_bytes: Their sizes together.
        exhaustive: No other way to cut was left out; else the best along three topological orders.

    """

    stages: tuple[Stage, ...]
    crossing: tuple[tuple[str, ...], ...]
    crossing_bytes: tuple[int, ...]
    exhaustive: bool

    @property
    def slowest_ns(self) -> float:
        """What a pipeline of these stages needs for each call, once it is full."""
        return max(stage.time_ns for stage in self.stages)


def cut_graph(
    model: ir.Model,
    costs: Costs,
    stages: int,
    *,
    ns_per_byte: float = _NS_PER_BYTE,
    slack: float = _SLACK,
    slowness: Sequence[float] = (),
) -> Cut:
    """The stages whose slowest one is the fastest possible, within `slack`, and between which the fewest bytes cross.

    See `chains` for the method and its source, `parts` for what is never cut. Types are inferred in place, by ONNX's
    own shape inference; for a file from outside, call it in a child process.

    Args:
        model: As `read_ir` reads it: every node has a name of its own. Its nodes are sorted in place.
        costs: Measured on this graph.
        stages: 1 or more.
        ns_per_byte: What handing over a byte costs each of the two stages.
        slack: Share by which the slowest stage may be slower than the fastest possible, for fewer bytes.
        slowness: Of each stage, how many times as long as `costs` say its nodes take where it runs; once if empty.

    Raises:
        ModelError: It has no cut into so many stages, or the times are of other nodes.

    """
    _check(model, costs, stages)
    _check_slowness(slowness, stages)
    _infer_types(model, costs)
    parts = find_parts(model, costs)
    count = len(parts.nodes)
    chain = None
    if stages <= count:
        chain = best_chain(parts.dag, stages, ns_per_byte=ns_per_byte, slack=slack, slowness=slowness)
    if chain is None:
        raise ModelError(
            asked=f"cut a graph into {stages} stages",
            found=f"{count} parts that can be told apart"
            + ("" if stages > count else ", and no values between them that a stage can hand on"),
            fix="ask for fewer stages",
        )
    return Cut(
        stages=_stages(model.graph, parts, chain),
        crossing=chain.crossing,
        crossing_bytes=chain.crossing_bytes,
        exhaustive=chain.exhaustive,
    )


def _stages(graph: ir.Graph, parts: Parts, chain: Chain) -> tuple[Stage, ...]:
    place = {node: index for index, node in enumerate(graph)}
    taken: list[tuple[list[ir.Node], list[ir.Value]]] = []
    for stage in chain.stages:
        own = [node for part in stage for node in parts.nodes[part]]
        wanted = [value for node in own for value in values_read(node)]
        if stage is chain.stages[-1]:
            # Outputs that a copied node makes, for what they are made of is carried to the end.
            wanted += [value for value in graph.outputs if value not in parts.sources]
        inputs, copies = parts.needed(wanted)
        made = {value for node in own for value in node.outputs}
        nodes = sorted({*own, *copies}, key=place.__getitem__)
        taken.append((nodes, [value for value in inputs if value not in made]))
    read = {value for _, values in taken for value in values} | set(graph.outputs)
    # Who runs the whole feeds all its inputs, also those that nothing reads.
    taken[0][1].extend(value for value in graph.inputs if value not in read and not value.is_initializer())
    leaving = [value for value in graph.outputs if value in parts.sources]
    found = []
    for index, (nodes, inputs) in enumerate(taken):
        later = {*leaving, *(value for _, values in taken[index + 1 :] for value in values)}
        outputs = [value for node in nodes for value in node.outputs if value in later and value in parts.sources]
        if index == len(taken) - 1:
            outputs += [value for value in dict.fromkeys(graph.outputs) if value not in parts.sources]
        found.append(
            Stage(
                nodes=tuple(str(node.name) for node in nodes),
                inputs=tuple(str(value.name) for value in inputs),
                outputs=tuple(str(value.name) for value in outputs),
                time_ns=chain.times_ns[index],
            )
        )
    return tuple(found)


def _check(model: ir.Model, costs: Costs, stages: int) -> None:
    asked = f"cut a graph into {stages} stages"
    if stages < 1:
        raise ModelError(asked=asked, found="fewer than one", fix="ask for 1 or more")
    known = {node.name for node in model.graph}
    unknown = sorted(set(costs.times_ns) - known)
    if unknown:
        raise ModelError(
            asked=asked,
            found=f"times of {len(unknown)} nodes that it has not, such as {unknown[0]!r}",
            fix="measure the nodes of this very graph",
        )
    negative = sorted(name for name, time_ns in costs.times_ns.items() if time_ns < 0)
    if negative:
        raise ModelError(
            asked=asked, found=f"a negative time of node {negative[0]!r}", fix="give nanoseconds, 0 or more"
        )


def _check_slowness(slowness: Sequence[float], stages: int) -> None:
    if slowness and (len(slowness) != stages or not all(0 < one < math.inf for one in slowness)):
        raise ModelError(
            asked=f"cut a graph into {stages} stages",
            found=f"that they take {', '.join(f'{one:g}' for one in slowness)} times as long as measured",
            fix="give a number above 0 for each stage",
        )


def _infer_types(model: ir.Model, costs: Costs) -> None:
    infer_types(model, shapes=True)
    others = values_not_tensors(model.graph)
    for value in (value for node in model.graph for value in node.outputs):
        known = costs.types.get(value.name or "")
        if known is not None and value not in others and (value.dtype is None or value.shape is None):
            value.dtype = ir.DataType[known[0].upper()]
            value.shape = ir.Shape([None] * known[1])
