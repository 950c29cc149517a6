"""A time limit over steps that are kept: what a step took counts once, also for a run that finds it in the store."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from edgeport.pipeline.engine.progress import Clock
from edgeport.store import Store

__all__ = ["Inside", "Spending"]

T = TypeVar("T")


@dataclass(kw_only=True)
class Spending:
    """Seconds that a search may take, and has taken.

    The time that a step took is stored with its key. So a search that was killed goes on with the time that is left,
    one that is run again stops where it stopped, and one that is given more time goes on from there.

    Attributes:
        limit_s: Of all steps together.
        store: Keeps what they took.
        about: Names the search, in keys.
        clock: Told the time left.
        spent_s: So far.

    """

    limit_s: float
    store: Store
    about: object
    clock: Clock
    spent_s: float = 0.0
    _each_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _step_began: float | None = None

    def allows(self, kind: str, units: int = 1, *, guess_s: float = 0.0) -> bool:
        """There is time for one more step.

        Args:
            kind: Steps of one kind take about as long per unit.
            units: Of work in it.
            guess_s: Seconds that it may take, where none of its kind was done before.

        """
        expected_s = units * self.each_s(kind) or guess_s
        return self.spent_s < self.limit_s and self.spent_s + expected_s <= self.limit_s

    def each_s(self, kind: str) -> float:
        """Seconds per unit, of the steps of a kind; 0 where there was none."""
        known = self._each_s[kind]
        return sum(known) / len(known) if known else 0.0

    def step(self, kind: str, key: object, work: Callable[[], T], *, units: int = 1) -> T:
        """Does the work, and counts what it took, now or when it was done first."""
        began = self._step_began = time.monotonic()
        try:
            done = work()
        finally:
            self._step_began = None
        took_s = self._kept(kind, key, time.monotonic() - began)
        self.spent_s += took_s
        self._each_s[kind].append(took_s / units)
        return done

    def _kept(self, kind: str, key: object, seconds: float) -> float:
        asked = {"about": self.about, "kind": kind, "step": key}
        return float(self.store.get_or_build_json("took", asked, lambda: round(seconds, 3)))

    def tell(self, message: str) -> None:
        """Says what is done, with the time left of the search and of all that comes after it."""
        now = time.monotonic()
        inside = now - self._step_began if self._step_began is not None else 0.0
        left = max(0.0, self.limit_s - self.spent_s - inside)
        self.clock.expect_left("tune", left)
        self.clock.step("tune", message)


@dataclass
class Inside(Clock):
    """A clock for steps inside of a search: what they tell is told as the search's."""

    spending: Spending | None = None

    def expect(self, **seconds: float) -> None:
        """Inner steps are part of the search's time."""

    def step(self, stage: str, message: str = "", *, done: int = 0, total: int = 0) -> None:
        """See `Clock`."""
        del done, total
        if self.spending is not None:
            self.spending.tell(f"{stage}: {message}" if message else stage)
