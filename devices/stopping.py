"""When an experiment has measured enough: asked after the wanted rounds, and again after each further one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeport.contracts import Interval, Measurement, Outcome
from edgeport.devices.experiment import Round, to_measurements
from edgeport.devices.latency.neighbours import without_disturbed
from edgeport.devices.latency.summary import summarise
from edgeport.devices.latency.verdict import BudgetVerdict, judge_budget

__all__ = ["Enough", "Goal", "half_width"]

_MOST_ROUNDS = 300


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What an experiment is to find out.

    Attributes:
        q: Quantile that is asked for, 0..1.
        limit_ns: Its budget; None where there is none.
        until: Half the width of the quantile's interval over its estimate; None: as wide as it gets.
        time_s: Seconds after which no further round is begun.

    """

    q: float = 0.5
    limit_ns: float | None = None
    until: float | None = None
    time_s: float = 60.0


class Enough:
    """Says whether to measure on (`experiment.More`), and remembers why it stopped.

    Each call is one more look at the data. A verdict on a budget allows for that: look j may spend alpha / (j (j+1)) of
    its error, so that no number of looks makes a false PASS likely. The width of an interval tells nothing of where it
    lies, so that stopping when it is narrow hardly changes how often it covers (Chow and Robbins 1965).

    Attributes:
        verdict: Of the last look; None where there is no budget.
        looks: How many there were.
        reason: Why the last look was the last, in words.

    """

    def __init__(self, arm: str, goal: Goal, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.verdict: BudgetVerdict | None = None
        self.looks = 0
        self.reason = ""
        self._arm, self._goal, self._clock = arm, goal, clock
        self._started_s = clock()

    def __call__(self, rounds: Sequence[Round]) -> bool:
        """Whether another round is wanted."""
        measured = without_disturbed(to_measurements(rounds, device=""))
        if self._arm not in measured:
            self.reason = "it failed"
            return False
        self.looks += 1
        missing = self._missing(measured[self._arm])
        taken_s = self._clock() - self._started_s
        if not missing:
            self.reason = f"after {len(rounds)} rounds there was enough"
        elif taken_s + taken_s / len(rounds) > self._goal.time_s or len(rounds) >= _MOST_ROUNDS:
            self.reason = f"after {taken_s:.0f} s and {len(rounds)} rounds {missing}"
        else:
            return True
        return False

    def _missing(self, measurement: Measurement) -> str:
        """What is not known yet, in words; empty where all is."""
        goal = self._goal
        if goal.limit_ns is not None:
            self.verdict = judge_budget(measurement, q=goal.q, limit_ns=goal.limit_ns, look=self.looks)
            if self.verdict.outcome is Outcome.INCONCLUSIVE:
                return f"the budget was still undecided: {self.verdict.reason}"
        if goal.until is None:
            return ""
        quantile = summarise(measurement, (goal.q,)).quantile(goal.q)
        if quantile.interval_ns is None:
            return quantile.refused
        width = half_width(quantile.interval_ns)
        return "" if width <= goal.until else f"the interval was +-{width:.1%}, not +-{goal.until:.1%}"


def half_width(interval: Interval) -> float:
    """Half the width of an interval, over its estimate."""
    return (interval.high - interval.low) / 2 / interval.estimate
