"""Time left, from what the stages were expected to take and what they took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from edgeport.contracts import OnProgress, ProgressEvent, silent

__all__ = ["Clock", "Within"]


@dataclass
class Clock:
    """Keeps the expected seconds of every stage and tells progress with the time left of the whole run.

    Attributes:
        on_progress: Told every step.
        expected_s: Stage to seconds; a first guess that is corrected as stages end.
        about: What the steps are for, said before each message; empty where there is only one such thing.

    """

    on_progress: OnProgress = silent
    expected_s: dict[str, float] = field(default_factory=dict)
    about: str = ""
    _started: float = field(default_factory=time.monotonic)
    _stage: str = ""
    _stage_started: float = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._started

    def expect(self, **seconds: float) -> None:
        """Sets or corrects what stages will take; names use `_` for a space."""
        self.expected_s.update({name.replace("_", " "): value for name, value in seconds.items()})

    def expect_left(self, stage: str, seconds: float) -> None:
        """Corrects what a stage will take from now on."""
        spent = time.monotonic() - self._stage_started if stage == self._stage else 0.0
        self.expected_s[stage] = spent + seconds

    def step(self, stage: str, message: str = "", *, done: int = 0, total: int = 0) -> None:
        """Tells that `done` of `total` steps of `stage` are done; entering a stage ends the one before."""
        now = time.monotonic()
        if stage != self._stage:
            self.expected_s.pop(self._stage, None)
            self._stage, self._stage_started = stage, now
        left = self._left_in_stage(now, done, total)
        left += sum(seconds for name, seconds in self.expected_s.items() if name != stage)
        if self.about:
            message = f"{self.about}: {message}" if message else self.about
        self.on_progress(ProgressEvent(stage=stage, message=message, done=done, total=total, time_left_s=left))

    def inside(self, stage: str) -> OnProgress:
        """A listener for a step's own events, which appear as events of `stage`."""
        return lambda event: self.step(stage, event.message, done=event.done, total=event.total)

    def _left_in_stage(self, now: float, done: int, total: int) -> float:
        spent = now - self._stage_started
        if total and done:
            return spent * (total - done) / done
        return max(0.0, self.expected_s.get(self._stage, 0.0) - spent)


@dataclass
class Within(Clock):
    """A clock for stages inside of one: what they tell is told as of that one.

    Attributes:
        outer: The clock that is told.
        of: The stage in it.

    """

    outer: Clock = field(default_factory=Clock)
    of: str = ""

    def expect(self, **seconds: float) -> None:
        """Inner stages are part of the outer one's time."""

    def step(self, stage: str, message: str = "", *, done: int = 0, total: int = 0) -> None:
        """See `Clock`."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._stage_started = stage, now
        if total and done:
            self.outer.expect_left(self.of, self._left_in_stage(now, done, total))
        self.outer.step(self.of, message if stage == self.of else f"{stage}: {message}" if message else stage)
