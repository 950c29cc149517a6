"""Which channels and neurons can be removed, found by torch-pruning's dependency graph and then tried.

The graph follows autograd from the outputs back (Fang et al., "DepGraph: Towards Any Structural Pruning" (2023)) and
takes operators that it does not know for elementwise ones. So nothing is believed of it: a group counts only where
the network without some of its units computes what it computes with those units silenced.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch_pruning import _helpers
from torch_pruning.dependency.dependency import Dependency

from edgeport.errors import DependencyError, EdgeportError, PruningError
from edgeport.exporter.prune.graph.group_validation import without_failing
from edgeport.exporter.prune.graph.groups import DependencyGroups, Group, Kind, Slice
from edgeport.exporter.prune.graph.heads import find_heads
from edgeport.exporter.prune.graph.layers import Side, channel_groups, is_convolution, is_the_same_for_all, sides_of
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.silence import quiet

__all__ = ["find_groups"]


_MOST_INDICES = 500
"""Indices that are followed for each unit of a layer; a DenseNet needs some hundred."""


class _NotPrunable(Exception):
    """Why the units of a layer stay."""


def find_groups(module: torch.nn.Module, samples: Samples) -> DependencyGroups:
    """All channels, neurons and attention heads that can be removed.

    Args:
        module: In evaluation mode; it is not changed.
        samples: Two or more are run, several times.

    Raises:
        PruningError: The network can't be copied or run, or nothing in it can be removed.
        DependencyError: torch-pruning is not installed.

    """
    few = samples.first(2)
    asked = f"follow the channels of {type(module).__name__}"
    try:
        traced = copy.deepcopy(module).requires_grad_(requires_grad=True)
    except Exception as error:
        raise PruningError(
            asked=asked,
            found=f"that it can't be copied: {type(error).__name__}: {str(error).strip()[:200]}",
            fix="build it without computed weights, or prune single weights (--what weights)",
        ) from error
    try:
        graph = _graph(traced, few)
    except EdgeportError:
        raise
    except Exception as error:
        raise PruningError(
            asked=asked,
            found=f"that torch-pruning can't trace it ({_where(error)}): {type(error).__name__}: "
            f"{str(error).strip()[:200]}",
            fix="prune what needs no channels: single weights, patterns or blocks (--what weights, 2:4 or blocks)",
        ) from error
    tied = _tied(traced)
    left: dict[str, str] = {}
    groups = list(find_heads(module))
    taken = {(one.module, one.tensor, one.axis) for group in groups for one in group.slices}
    seen: set[int] = set()
    paths = {id(layer): path for path, layer in traced.named_modules()}
    for layer in list(graph.module2node):
        path = paths.get(id(layer))
        if path is None or id(layer) in seen or not _is_root(layer):
            continue
        try:
            members = _members(graph, layer)
            group = _group(path, layer, members, paths, tied)
        except _NotPrunable as reason:
            left[path] = str(reason)  # of this layer alone: what it reaches may go by itself, or says why not
            continue
        seen |= {id(one.layer) for one in members if not one.incoming}
        if taken & {(one.module, one.tensor, one.axis) for one in group.slices}:
            continue
        groups.append(group)
    tried, failed = without_failing(module, groups, few)
    left |= failed
    return DependencyGroups(groups=tuple(tried), left=left | _untold(module, groups, tried, left))


def _untold(
    module: torch.nn.Module, groups: list[Group], tried: list[Group], left: Mapping[str, str]
) -> dict[str, str]:
    """Why other layers stay: they lose the same units as one that stays, or nothing was seen of them."""
    goes = {one.module for group in tried for one in group.slices if not one.incoming}
    with_another = {one.module: group.name for group in groups for one in group.slices if not one.incoming}
    return {
        path: f"its units are those of {with_another[path]}, which stay"
        if path in with_another
        else "what it gives can't be followed"
        for path, layer in module.named_modules()
        if _is_root(layer) and path not in goes and path not in left
    }


def _graph(module: torch.nn.Module, samples: Samples) -> Any:
    try:
        import torch_pruning
    except ImportError as error:
        raise DependencyError(
            asked="find what can be removed from a network",
            found="torch-pruning is not installed",
            fix="pip install 'edgeport[torch]'",
        ) from error

    with quiet(), torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(
            module,
            example_inputs=samples,
            forward_fn=lambda network, those: [
                value for value in those.outputs(network).values() if value.grad_fn is not None
            ],
            verbose=False,
        )


def _where(error: Exception) -> str:
    """The function that raised it: such as one that lays out concatenated parts of a tensor that was split."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].name if frames else "at once"


def _is_root(layer: object) -> bool:
    return is_convolution(layer) or isinstance(layer, nn.Linear | nn.LSTM)


class _Member:
    """One layer in a group, or one operator."""

    def __init__(self, dependency: Any, places: Mapping[int, int]) -> None:
        self.node = dependency.target
        self.layer: Any = self.node.module
        self.indices = list(places)
        self.units = list(places.values())
        self.incoming = "in_channels" in dependency.handler.__name__
        self.is_layer = isinstance(self.layer, nn.Module) and not type(self.layer).__module__.startswith(
            "torch_pruning"
        )
        self.is_parameter = isinstance(self.layer, nn.Parameter)
        # Nothing takes what the layer gives: it is an output of the network.
        self.is_output = type(self.layer).__name__ == "_OutputOp" or (not self.node.outputs and not self.incoming)


def _members(graph: Any, layer: Any) -> list[_Member]:
    """Everything that loses something with the units of a layer, and what of it.

    As `DependencyGraph.get_pruning_group` walks, but with an end: windows that are cut and put together again, as in
    Swin, make it find ever new indices.
    """
    pruner = graph.get_pruner_of_module(layer)
    root = graph.module2node[layer]
    every = [
        _helpers._HybridIndex(idx=index, root_idx=index)  # noqa: SLF001 (its own walk takes them)
        for index in range(pruner.get_out_channels(layer))
    ]
    begin = Dependency(pruner.prune_out_channels, pruner.prune_out_channels, source=root, target=root)
    found: dict[tuple[int, str], tuple[Any, dict[int, int]]] = {}
    waiting, seen, walked = [(begin, every)], set(), 0
    while waiting:
        dependency, indices = waiting.pop()
        key = (id(dependency.target), dependency.handler.__name__, tuple((one.idx, one.root_idx) for one in indices))
        if key in seen:
            continue
        seen.add(key)
        walked += len(indices)
        if walked > _MOST_INDICES * len(every):
            raise _NotPrunable("its units are cut and put together again without end")
        _, places = found.setdefault(key[:2], (dependency, {}))
        for one in indices:
            places.setdefault(one.idx, one.root_idx)
        for further in dependency.target.dependencies:
            if further.is_triggered_by(dependency.handler):
                mapped = _mapped(further, indices)
                if mapped:
                    waiting.append((further, mapped))
    return [_Member(dependency, places) for dependency, places in found.values()]


def _mapped(dependency: Any, indices: Any) -> Any:
    try:
        for mapping in dependency.index_mapping:
            indices = mapping(indices) if mapping is not None else indices
    except Exception as error:
        raise _NotPrunable(f"its units can't be followed ({type(error).__name__})") from error
    return indices


def _group(path: str, layer: Any, members: list[_Member], paths: Mapping[int, str], tied: set[int]) -> Group:
    if any(member.is_output for member in members):
        raise _NotPrunable("its units are an output of the network")
    parts = _parts(members)
    count = len(members[0].indices)
    if parts > 1 and count % parts:
        raise _NotPrunable(f"its {count} units do not divide into {parts} parts")
    units = count // parts
    slices: list[Slice] = []
    for member in members:
        slices += _slices(member, paths, tied, parts, units)
    if not any(one.incoming for one in slices):
        raise _NotPrunable("nothing that is known reads its units")
    if units < 2:
        raise _NotPrunable("it has one unit only")
    return Group(
        name=path,
        kind=Kind.CHANNELS if is_convolution(layer) else Kind.NEURONS,
        units=units,
        width=parts,
        slices=tuple(slices),
        mixes=any(isinstance(member.layer, nn.LayerNorm | nn.GroupNorm) for member in members),
    )


def _parts(members: list[_Member]) -> int:
    """Into how many parts grouped convolutions and norms divide the units; all lose the same places."""
    found = {parts for member in members if member.is_layer and (parts := channel_groups(member.layer)) > 1}
    if len(found) > 1:
        raise _NotPrunable(f"its units are divided in {' and '.join(map(str, sorted(found)))} parts at once")
    return found.pop() if found else 1


def _slices(member: _Member, paths: Mapping[int, str], tied: set[int], parts: int, units: int) -> Iterator[Slice]:
    if member.is_parameter:
        raise _NotPrunable("a parameter outside of the layers of torch goes along")
    if not member.is_layer:
        return
    path, layer = paths.get(id(member.layer)), member.layer
    if is_the_same_for_all(layer):
        return
    sides = sides_of(layer, incoming=member.incoming)
    if path is None or (not sides and list(layer.parameters(recurse=False))):
        tied_heads = isinstance(layer, torch.nn.MultiheadAttention)
        why = "which ties its heads to its width" if tied_heads else "which is not known"
        raise _NotPrunable(f"{path or 'a layer'} ({type(layer).__name__}) goes along, {why}")
    indices = torch.tensor(member.indices, dtype=torch.int64)
    roots = torch.tensor(member.units, dtype=torch.int64)
    if len(indices) != len(roots) or (len(roots) and int(roots.max()) >= parts * units):
        raise _NotPrunable(f"its units can't be followed into {path}")
    divided = channel_groups(layer) > 1
    if divided and not torch.equal(indices, roots):
        raise _NotPrunable(f"it reaches {path}, which divides its channels, beside other units")
    for side in sides:
        held = getattr(layer, side.tensor)
        if side.tensor not in {
            **dict(layer.named_parameters(recurse=False)),
            **dict(layer.named_buffers(recurse=False)),
        }:
            raise _NotPrunable(f"{path}.{side.tensor} is computed")
        if id(held) in tied:
            raise _NotPrunable(f"{path}.{side.tensor} is shared with another layer")
        yield _slice(str(path), side, held, indices, roots % units)


def _slice(path: str, side: Side, held: torch.Tensor, indices: torch.Tensor, units: torch.Tensor) -> Slice:
    size = held.shape[side.axis]
    step = size // side.repeats
    inside = indices < step  # a divided convolution holds one part of what it reads
    if side.repeats == 1 and int(indices.max()) >= size and not side.reads:
        raise _NotPrunable(f"its units can't be followed into {path}")
    indices, units = indices[inside], units[inside]
    places = torch.cat([indices + repeat * step for repeat in range(side.repeats)])
    return Slice(
        module=path,
        tensor=side.tensor,
        axis=side.axis,
        indices=places,
        units=units.repeat(side.repeats),
        incoming=side.reads,
    )


def _tied(module: torch.nn.Module) -> set[int]:
    """Identities of parameters that two layers hold."""
    seen: dict[int, str] = {}
    found: set[int] = set()
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            found.add(id(parameter))
        seen[id(parameter)] = name
    return found
