"""What a search found for the nodes that int8 had better leave in float."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.options.precision import Precision

__all__ = ["PlanSearch", "SearchedGroup"]


@dataclass(frozen=True, kw_only=True)
class SearchedGroup:
    """One group of nodes, as a search left it.

    Attributes:
        name: Of the first node.
        nodes: Names, in the order of computation.
        noise: Over the signal, at the model's outputs, where the group alone runs as integers; None where there was no
            time to look, infinite where something broke.
        precision: That the plan gives it.
        reason: Why it is left in float; empty for one that runs as integers.

    """

    name: str
    nodes: tuple[str, ...]
    noise: float | None
    precision: Precision
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PlanSearch:
    """A search for one target of a run.

    Attributes:
        candidate: Name of the candidate that its plan became; empty where it is none of its own.
        backend: Of the target.
        said: The search in a few sentences.
        groups: In the order of computation.

    """

    candidate: str
    backend: str
    said: str
    groups: tuple[SearchedGroup, ...] = ()

    @property
    def in_float(self) -> tuple[SearchedGroup, ...]:
        """The groups that the plan leaves in float, in the order of computation."""
        return tuple(group for group in self.groups if group.precision.is_float)
