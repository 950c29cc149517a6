"""What a search for an execution tries last: the ways that lead, with the memory in huge pages.

A huge page (2 MiB on most processors) takes one entry of the buffer in which the processor keeps translations, where
the same memory in plain pages takes 512; what reads many weights in each call misses there less often. Source: Linux,
"Transparent Hugepage Support" (Documentation/admin-guide/mm/transhuge.rst).
"""

from __future__ import annotations

from dataclasses import replace

from edgeport.contracts import Artifact, Device, Tunable
from edgeport.errors import EdgeportError, UnsupportedByBackend

__all__ = ["gives_huge_pages", "in_huge_pages", "without_huge_pages"]


def gives_huge_pages(device: Device) -> bool:
    """When they are asked for, and only then: where they are given always, or never, there is nothing to try."""
    from edgeport.devices.opening import probe_of

    try:
        found = probe_of(device)
    except EdgeportError:  # the search has its answer without
        return False
    return found is not None and found.huge_pages == "madvise"


def in_huge_pages(artifact: Artifact) -> Artifact | None:
    """The same, run with huge pages; None where it is already, computes elsewhere than on the CPU, or can't be."""
    execution = artifact.execution
    return None if execution.huge_pages or execution.runtime_device else _turned(artifact, to=True)


def without_huge_pages(artifact: Artifact) -> Artifact | None:
    """The same, run without; None where it is already."""
    return _turned(artifact, to=False) if artifact.execution.huge_pages else None


def _turned(artifact: Artifact, *, to: bool) -> Artifact | None:
    from edgeport.backends.registry import backend

    made = backend(artifact.backend)
    if not isinstance(made, Tunable):
        return None
    try:
        return made.with_execution(artifact, replace(artifact.execution, huge_pages=to))
    except UnsupportedByBackend:
        return None
