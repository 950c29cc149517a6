"""When an experiment has measured enough: asked after the wanted rounds, and again after each further one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeport.contracts import Change, Interval, Measurement, Outcome
from edgeport.devices.experiment import Round, to_measurements
from edgeport.devices.latency.comparison import compare
from edgeport.devices.latency.interference import without_disturbed
from edgeport.devices.latency.overload import overload_flags
from edgeport.devices.latency.summary import summarise, throughput_per_s
from edgeport.devices.latency.verdict import BudgetVerdict, alpha_at, judge_budget

__all__ = [
    "CriterionSet",
    "Goal",
    "QuantilePrecision",
    "SpeedupPrecision",
    "StoppingCriterion",
    "ThroughputPrecision",
    "half_width",
    "next_analysis",
]

_MOST_ROUNDS = 300
_NEXT_LOOK = 1.15
_MEDIAN = 0.5


class StoppingCriterion(Protocol):
    """One thing that an experiment is to find out."""

    def missing(self, measured: Mapping[str, Measurement], *, look: int) -> str:
        """What is not known yet, in words; empty where all is that more rounds could tell."""
        ...


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


class QuantilePrecision:
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
        missing = self.missing(measured, look=self.looks)
        taken_s = self._clock() - self._started_s
        if not missing:
            self.reason = f"after {len(rounds)} rounds there was enough"
        elif taken_s + taken_s / len(rounds) > self._goal.time_s or len(rounds) >= _MOST_ROUNDS:
            self.reason = f"after {taken_s:.0f} s and {len(rounds)} rounds {missing}"
        else:
            return True
        return False

    def missing(self, measured: Mapping[str, Measurement], *, look: int) -> str:
        """What is not known yet, in words; empty where all is that more rounds could tell."""
        goal, measurement = self._goal, measured[self._arm]
        if goal.limit_ns is not None:
            self.verdict = judge_budget(measurement, q=goal.q, limit_ns=goal.limit_ns, look=look)
            if self.verdict.outcome is Outcome.INVALID or _hopeless(measurement, goal.q):
                return ""
            if self.verdict.outcome is Outcome.INCONCLUSIVE:
                return f"the budget was still undecided: {self.verdict.reason}"
        if goal.until is None or _hopeless(measurement, goal.q):
            return ""
        quantile = summarise(measurement, (goal.q,)).quantile(goal.q)
        if quantile.interval_ns is None:
            return quantile.refused
        width = half_width(quantile.interval_ns)
        return "" if width <= goal.until else f"the interval was +-{width:.1%}, not +-{goal.until:.1%}"


def _hopeless(measurement: Measurement, q: float) -> bool:
    """No number of rounds tells: the clock is too coarse for a tail, or queries come faster than they are answered."""
    coarse = any(trace.calls_per_reading > 1 for trace in measurement.traces)
    return (coarse and not math.isclose(q, _MEDIAN)) or bool(overload_flags(measurement))


class SpeedupPrecision:
    """Whether it is known how B differs from A, and narrowly enough.

    Each look may err, so look j has the confidence 1 - alpha / (j (j+1)): all together, under 5 % of answers are false.

    Args:
        a, b: Names of the arms.
        delta: See `compare`.
        until: Half the width of the speedup's interval over its estimate; None: as wide as it gets.

    """

    def __init__(self, a: str, b: str, *, delta: float | None = None, until: float | None = None) -> None:
        self._a, self._b, self._delta, self._until = a, b, delta, until

    def missing(self, measured: Mapping[str, Measurement], *, look: int) -> str:
        """What is not known yet, in words; empty where all is that more rounds could tell."""
        found = compare(measured[self._a], measured[self._b], delta=self._delta, confidence=1 - alpha_at(look))
        if found.change is Change.UNKNOWN:
            return f"the change was still unknown: {found.speedup.low:.3g} to {found.speedup.high:.3g} times the speed"
        width = half_width(found.speedup)
        if self._until is None or width <= self._until:
            return ""
        return f"the speedup's interval was +-{width:.1%}, not +-{self._until:.1%}"


@dataclass(frozen=True)
class ThroughputPrecision:
    """Whether the throughput of an arm is known narrowly enough.

    Attributes:
        arm: Its name.
        until: Half the width of its interval over its estimate.

    """

    arm: str
    until: float

    def missing(self, measured: Mapping[str, Measurement], *, look: int) -> str:
        """What is not known yet, in words; empty where all is that more rounds could tell."""
        del look
        interval = throughput_per_s(measured[self.arm])
        if interval is None:
            return "one process says nothing about the next"
        width = half_width(interval)
        return "" if width <= self.until else f"the throughput's interval was +-{width:.1%}, not +-{self.until:.1%}"


class CriterionSet:
    """Measures on while any of several aims wants more and there is time; all share the rounds and the looks.

    Looks come after the wanted rounds, then each time there are 15 % more rounds: every one costs certainty. A verdict
    is that of the last look at all of the data, so that no aim keeps what a later look takes back.

    Args:
        aims: What is to be known; none: measure as long as there is time.
        arms: Names of the arms; one that fails ends it.
        rounds: Rounds before the first look, where there is time for them.
        time_s: Seconds after which no further round is begun.
        clock: Seconds.

    Attributes:
        looks: How many there were; the last one was at all of the data.
        missing: What was not known at the last look, a sentence each.
        taken_s: Seconds until the last look.
        out_of_time: It ended by the time, or by the number of rounds.

    """

    def __init__(
        self,
        aims: Sequence[StoppingCriterion],
        *,
        arms: Sequence[str],
        rounds: int,
        time_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.looks = 0
        self.missing: tuple[str, ...] = ()
        self.taken_s = 0.0
        self.out_of_time = False
        self._aims, self._arms, self._next, self._time_s, self._clock = aims, arms, rounds, time_s, clock
        self._started_s = clock()

    @property
    def left_s(self) -> float:
        """Seconds until no further round is begun."""
        return max(0.0, self._time_s - (self._clock() - self._started_s))

    def __call__(self, rounds: Sequence[Round]) -> bool:
        """Whether another round is wanted."""
        self.taken_s = self._clock() - self._started_s
        count = len(rounds)
        self.out_of_time = self.taken_s * (1 + 1 / count) > self._time_s or count >= _MOST_ROUNDS
        if not self.out_of_time and (count < self._next or not self._aims):
            return True
        self._next = next_analysis(count)
        measured = without_disturbed(to_measurements(rounds, device=""))
        if any(arm not in measured for arm in self._arms):
            return False
        self.looks += 1
        found = (aim.missing(measured, look=self.looks) for aim in self._aims)
        self.missing = tuple(missing for missing in found if missing)
        return bool(self.missing) and not self.out_of_time


def next_analysis(count: int) -> int:
    """Rounds at the look after the one at `count` rounds."""
    return max(count + 1, math.ceil(_NEXT_LOOK * count))


def half_width(interval: Interval) -> float:
    """Half the width of an interval, over its estimate."""
    return (interval.high - interval.low) / 2 / interval.estimate
