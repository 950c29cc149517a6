"""Precisions that a user gives to single nodes or groups of them, beside the one of all others."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.errors import ContractError
from edgeport.options.precision import Precision

__all__ = ["Mix", "NodeChoice"]


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
