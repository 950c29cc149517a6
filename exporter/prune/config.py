"""What is pruned, how much of it, and when: the settings."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.errors import PruningError
from edgeport.exporter.prune.allocation import Scope
from edgeport.exporter.structure.groups import Kind

__all__ = ["Blocks", "Gradual", "Iterative", "OneShot", "Pattern", "Schedule", "Structure", "Units", "Unstructured"]


def _check_share(what: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise PruningError(asked=f"prune {what}", found=f"a share of {value}", fix="give a number between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Unstructured:
    """Zeros anywhere: the file gets smaller where it is compressed, and no runtime that is known here gets faster.

    Attributes:
        amount: Share of the weights, 0..1.
        scope: Whether the weights of all layers compete.

    """

    amount: float
    scope: Scope = Scope.GLOBAL

    def __post_init__(self) -> None:
        _check_share("weights", self.amount)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Of every `of` weights along a layer's inputs, `keep` stay: 2 of 4 is what sparse tensor cores take.

    Attributes:
        keep: N.
        of: M.

    """

    keep: int = 2
    of: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.keep < self.of:
            raise PruningError(
                asked=f"keep {self.keep} of every {self.of} weights", found="no pattern", fix="give 2 of 4, or 4 of 8"
            )


@dataclass(frozen=True, kw_only=True)
class Units:
    """Whole channels, neurons and attention heads, so that the network is really smaller.

    Attributes:
        macs: Share of the multiplications that goes, 0..1.
        kinds: Which units may go.
        scope: Whether the units of all layers compete.
        round_to: What is left of a layer is a multiple of this many channels: 8 or 16 suit vector units and tensor
            cores.
        least: Share of each layer that stays.
        per_cost: Where all compete, a unit's score is weighed against the multiplications that it saves.

    """

    macs: float
    kinds: tuple[Kind, ...] = tuple(Kind)
    scope: Scope = Scope.GLOBAL
    round_to: int = 8
    least: float = 0.1
    per_cost: bool = True

    def __post_init__(self) -> None:
        _check_share("multiplications", self.macs)
        if self.round_to < 1 or not 0.0 <= self.least < 1.0 or not self.kinds:
            raise PruningError(
                asked=f"prune {', '.join(self.kinds) or 'nothing'}",
                found=f"rounding to {self.round_to} and at least {self.least} of a layer",
                fix="round to 1 or more, and leave a share of 0 to less than 1",
            )


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Whole residual blocks.

    Attributes:
        count: How many go.

    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PruningError(asked="remove blocks", found=f"a count of {self.count}", fix="give 1 or more")


Structure = Unstructured | Pattern | Units | Blocks


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """All at once."""

    def shares(self) -> tuple[float, ...]:
        """Of what is asked, after each step."""
        return (1.0,)


@dataclass(frozen=True, kw_only=True)
class Iterative:
    """In equal steps, scored anew before each: Han et al. (2015).

    Attributes:
        steps: How many.

    """

    steps: int = 5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise PruningError(asked="prune step by step", found=f"{self.steps} steps", fix="give 1 or more")

    def shares(self) -> tuple[float, ...]:
        """Of what is asked, after each step."""
        return tuple((step + 1) / self.steps for step in range(self.steps))


@dataclass(frozen=True, kw_only=True)
class Gradual:
    """Much at first and little in the end: Zhu and Gupta, "To prune, or not to prune" (2017), a cubic.

    Attributes:
        steps: How many.

    """

    steps: int = 10

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise PruningError(asked="prune gradually", found=f"{self.steps} steps", fix="give 1 or more")

    def shares(self) -> tuple[float, ...]:
        """Of what is asked, after each step."""
        return tuple(1.0 - (1.0 - (step + 1) / self.steps) ** 3 for step in range(self.steps))


Schedule = OneShot | Iterative | Gradual
