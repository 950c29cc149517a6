"""Whether groups are what they are taken for: removing units must give what silencing them gives."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from edgeport.exporter.prune.graph.groups import Group, Removed
from edgeport.exporter.prune.graph.surgery import remove, silence
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.silence import quiet

__all__ = ["difference", "without_failing"]

_CLOSE = 1e-3
"""Of the largest output: sums over fewer values round otherwise."""

_SHARE = 3
"""Every third unit is removed to try a group."""


def without_failing(
    module: torch.nn.Module, groups: Sequence[Group], samples: Samples
) -> tuple[list[Group], dict[str, str]]:
    """The groups that pass, and why the others do not.

    All are tried at once; where that fails, each alone.

    Args:
        module: That the groups are of; it is not changed.
        groups: To try.
        samples: To try them with.

    """
    passed: list[Group] = []
    failed: dict[str, str] = {}
    for mixes in (False, True):  # what can't be compared must not hide what can
        some = [group for group in groups if group.mixes is mixes]
        good, bad = _sifted(module, some, samples)
        passed, failed = passed + good, failed | bad
    return passed, failed


def _sifted(module: torch.nn.Module, groups: list[Group], samples: Samples) -> tuple[list[Group], dict[str, str]]:
    if not groups or not _fault(module, groups, samples):
        return groups, {}
    passed: list[Group] = []
    failed: dict[str, str] = {}
    for group in groups:
        fault = _fault(module, [group], samples)
        if fault:
            failed[group.name] = fault
        else:
            passed.append(group)
    fault = _fault(module, passed, samples) if passed else ""
    if fault:  # each alone works, all together do not
        return [], failed | {group.name: f"together with other layers: {fault}" for group in passed}
    return passed, failed


def _fault(module: torch.nn.Module, groups: Sequence[Group], samples: Samples) -> str:
    """What is wrong with the groups; empty where nothing is."""
    trial = {group.name: list(range(0, group.units, _SHARE))[: group.units - 1] for group in groups}
    try:
        with quiet():
            found = difference(module, groups, trial, samples)
    except Exception as error:  # noqa: BLE001 (the user's forward raises anything)
        return (
            f"the network does not run without some of its units ({type(error).__name__}: {str(error).strip()[:120]})"
        )
    if found > _CLOSE:
        return (
            f"without some of its units the outputs are others than with these silenced (by {found:.2g} of the largest)"
        )
    return ""


def difference(module: torch.nn.Module, groups: Sequence[Group], removed: Removed, samples: Samples) -> float:
    """How far the network without the units is from the one with the units silenced.

    Args:
        module: That the groups are of; it is not changed.
        groups: Of this module.
        removed: What to remove.
        samples: All of them are run at once.

    Returns:
        The largest difference, as a share of the largest output; 0 where a normalization mixes units, which makes
        the two differ rightly, and infinity where an output has another shape or is no number.

    """
    smaller, quieter = copy.deepcopy(module), copy.deepcopy(module)
    remove(smaller, groups, removed)
    silence(quieter, groups, removed)
    with torch.no_grad():
        given, wanted = samples.outputs(smaller), samples.outputs(quieter)
    if {name: value.shape for name, value in given.items()} != {name: value.shape for name, value in wanted.items()}:
        return float("inf")
    if any(group.mixes for group in groups):
        return 0.0
    worst = 0.0
    for name, value in wanted.items():
        if value.is_floating_point():
            apart = torch.where(given[name] == value, 0.0, (given[name] - value).abs())
            if not bool(apart.isfinite().all()):
                return float("inf")
            scale = max(float(value[value.isfinite()].abs().amax()), 1e-12) if bool(value.isfinite().any()) else 1.0
            worst = max(worst, float(apart.max()) / scale)
    return worst
