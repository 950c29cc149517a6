"""Progress on stderr: a moving line in a terminal, a line per stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from edgeport.cli.text import clean
from edgeport.contracts.progress import OnProgress, ProgressEvent

__all__ = ["drawn", "time_left"]

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def drawn(console: Console | None = None) -> Iterator[OnProgress]:
    """A listener that draws until the block ends."""
    console = console if console is not None else Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        lines = _Lines(console=console)
        yield lines.on_progress
        lines.end_stage()
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[stage]}", style="bold", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", style="cyan", markup=False),
        TextColumn("{task.description}", style="dim", markup=False),
        console=console,
        transient=True,
    ) as bar:
        live = _Live(bar=bar, task=bar.add_task("", total=None, stage="", left=""))
        yield live.on_progress
        live.end_stage()


def time_left(seconds: float | None) -> str:
    """The time left in words, coarser the longer it is; empty where it is not known."""
    if seconds is None or not 0 <= seconds < 1e7:
        return ""
    if seconds < 100:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 100 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


@dataclass
class _Live:
    bar: Progress
    task: TaskID
    stage: str = ""
    since: float = field(default_factory=time.monotonic)

    def on_progress(self, event: ProgressEvent) -> None:
        if event.stage != self.stage:
            self.end_stage()
            self.stage = event.stage
            # A task can't forget its total, and the next stage may have none.
            self.bar.remove_task(self.task)
            self.task = self.bar.add_task("", total=None, stage=clean(event.stage), left="")
        self.bar.update(
            self.task,
            description=clean(event.message),
            completed=event.done,
            total=event.total or None,
            left=time_left(event.time_left_s),
        )

    def end_stage(self) -> None:
        if self.stage:
            self.bar.console.print(f"  {clean(self.stage):<14} {time.monotonic() - self.since:6.1f} s", style="dim")
        self.since = time.monotonic()


@dataclass
class _Lines:
    console: Console
    stage: str = ""
    since: float = field(default_factory=time.monotonic)
    last_line: float = float("-inf")

    def on_progress(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        if event.stage != self.stage:
            self.end_stage()
            self.stage = event.stage
        elif now - self.last_line < _SECONDS_BETWEEN_LINES:
            return
        self.last_line = now
        steps = f"{event.done} of {event.total}" if event.total else ""
        parts = [part for part in (steps, clean(event.message), time_left(event.time_left_s)) if part]
        self.console.print(f"{clean(event.stage)}: {', '.join(parts) or '...'}", soft_wrap=True)

    def end_stage(self) -> None:
        if self.stage:
            self.console.print(f"{clean(self.stage)}: done in {time.monotonic() - self.since:.1f} s", soft_wrap=True)
        self.since = time.monotonic()
