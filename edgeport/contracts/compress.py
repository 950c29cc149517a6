"""What is done to a PyTorch model before it is exported: one step of a recipe's [[compress]] or of a command."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.errors import ContractError

__all__ = ["PRUNED", "PruneStep"]

PRUNED = ("units", "channels", "neurons", "heads", "weights", "2:4", "4:8", "blocks")
"""What can be pruned; "units" are channels, neurons and heads together."""

_UNITS = PRUNED[:4]


@dataclass(frozen=True, kw_only=True)
class PruneStep:
    """A pruning.

    Attributes:
        what: One of `PRUNED`.
        by: The criterion; what the lowest scores of go first ("l2", "taylor", ...).
        amount: Of units, the share of the multiplications that goes; of weights, the share that becomes zero; of
            blocks, how many. None where the latency decides, and for patterns ("2:4"), which say it themselves.
        latency_ns: Median that the float model is to have on the target.
        speedup: Instead: how many times as fast it is to be as before.
        schedule: "one-shot", "iterative:5" or "gradual:10".
        scope: "global" or "layer": what competes.
        round_to: Channels that are left are a multiple of this.
        least: Share of each layer that stays.
        samples: How many are looked at.
        recalibrate: BatchNorm's statistics are taken anew over the samples, after each step and before any training;
            for samples of real data.
        fine_tune: `pkg.mod:fn`, called with the module and the number of the step after each; empty for none.

    """

    what: str = "units"
    by: str = "l2"
    amount: float | None = None
    latency_ns: float | None = None
    speedup: float | None = None
    schedule: str = "one-shot"
    scope: str = "global"
    round_to: int = 8
    least: float = 0.1
    samples: int = 256
    recalibrate: bool = False
    fine_tune: str = ""

    def __post_init__(self) -> None:
        asked = f"prune {self.what}"
        if self.what not in PRUNED:
            raise ContractError(asked=asked, found="no such thing", fix=f"give one of {', '.join(PRUNED)}")
        goals = [goal for goal in (self.amount, self.latency_ns, self.speedup) if goal is not None]
        if self.what in ("2:4", "4:8"):
            if goals:
                raise ContractError(asked=asked, found="an amount, which the pattern says itself", fix="leave it out")
        elif len(goals) != 1:
            raise ContractError(
                asked=asked,
                found=f"{len(goals) or 'no'} goal{'s' if goals else ''}",
                fix="give one of amount, latency and speedup",
            )
        if self.amount is None and goals and self.what not in _UNITS:
            raise ContractError(
                asked=f"{asked} for a latency",
                found="that only whole units make a network faster by a known amount",
                fix="prune units, or give an amount",
            )
        if any(not goal > 0 for goal in goals) or (self.speedup is not None and self.speedup <= 1):
            raise ContractError(asked=asked, found=f"a goal of {goals[0]:g}", fix="give more than 0; a speedup above 1")
        if self.samples < 2:
            raise ContractError(asked=asked, found=f"{self.samples} samples", fix="look at 2 or more")

    @property
    def measured(self) -> bool:
        """Whether measured latency decides how much goes."""
        return self.latency_ns is not None or self.speedup is not None
