"""Precisions of single nodes or groups of them, beside the one of all others: given by a user, or by a search."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.errors import ContractError
from edgeport.options.precision import Precision

__all__ = ["Mix", "NodeChoice", "PlanSearch", "SearchedGroup"]


@dataclass(frozen=True, kw_only=True)
class NodeChoice:
    """The precision of one node, or of a group.

    Attributes:
        what: The name of a node, a pattern of names (`*`, `?`), a PyTorch module (its parts are meant too), or an
            operator type.
        precision: What they run in.

    """

    what: str
    precision: Precision

    def __post_init__(self) -> None:
        if not self.what:
            raise ContractError(
                asked=f"run a node in {self.precision}",
                found="an empty name",
                fix="name a node, a pattern, a module or an operator type",
            )


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How an integer candidate mixes precisions; without any choice it does not.

    Attributes:
        rest: Float precision of whatever is not integer.
        nodes: Choices for single nodes and groups; of several that fit a node the last one counts.

    """

    rest: Precision = Precision.FP32
    nodes: tuple[NodeChoice, ...] = ()

    def __post_init__(self) -> None:
        if not self.rest.is_float:
            raise ContractError(
                asked=f"run in {self.rest} what is not integer",
                found="a precision of integers",
                fix="take fp32, bf16 or fp16; integer precisions are given to nodes by name",
            )

    @property
    def is_plain(self) -> bool:
        """Nothing is mixed: integer nodes beside fp32 ones, as the planner finds them."""
        return self == Mix()

    @property
    def needs_ranges(self) -> bool:
        """A choice needs calibration samples."""
        return any(choice.precision.needs_ranges for choice in self.nodes)

    @property
    def label(self) -> str:
        """Behind the precision in the name of a candidate: "", " mixed", " with bf16", " mixed with bf16"."""
        mixed = " mixed" if self.nodes else ""
        return mixed if self.rest is Precision.FP32 else f"{mixed} with {self.rest}"


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
