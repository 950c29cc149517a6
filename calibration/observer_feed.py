"""What the observers of tensors are shown.

Calling an observer takes longer than looking at the few numbers that sum up a call, so those of several calls are shown
together; what must be looked at itself, at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from edgeport.calibration.batch_axis import by_sample
from edgeport.calibration.in_graph_statistics import CallStatistics
from edgeport.calibration.observers import Observer, Summary, SummaryObserver
from edgeport.calibration.observers.histogram import summary_of, thinned
from edgeport.calibration.observers.summary import joined
from edgeport.contracts import Array

__all__ = ["ObserverFeed"]

_CALLS = 32
_HELD_BYTES = 1 << 20
"""Counted values that wait, at most, and those of one call."""


class ObserverFeed:
    """Observers of tensors; `show` them each call, then `settle`.

    Args:
        names: Of the tensors.
        observers: What watches each, by the name its state is kept under.
        axes: Of each tensor, the one that counts samples.
        most: Values of a sample that are counted; 0 where no observer asks for them.

    """

    def __init__(
        self,
        names: Collection[str],
        observers: Mapping[str, type[Observer]],
        axes: Mapping[str, int | None],
        most: int,
    ) -> None:
        self._watched = {name: {key: observer() for key, observer in observers.items()} for name in names}
        # Asked once: to ask each time would take as long as to observe.
        self._by_summary = {
            name: [one for one in watched.values() if isinstance(one, SummaryObserver)]
            for name, watched in self._watched.items()
        }
        self._needs_arrays = any(not isinstance(observer(), SummaryObserver) for observer in observers.values())
        self._axes = axes
        self._most = most
        self._waiting: dict[str, list[Summary]] = {name: [] for name in names}
        self._calls = self._held_bytes = 0

    def show(self, names: Iterable[str], seen: CallStatistics, samples: int) -> None:
        """What a call told of these tensors.

        Args:
            names: Some of the tensors.
            seen: Of the call.
            samples: In the call.

        """
        for name in names:
            summary = seen.summaries.get(name)
            if summary is None:
                array = by_sample(seen.arrays[name], self._axes[name], samples)
                summary = summary_of(array, self._most, seen.start)
                if summary is None or self._needs_arrays:
                    self._look(name, array, seen.start, summed_up=summary is not None)
            if summary is not None:
                self._waiting[name].append(summary)
                self._held_bytes += 0 if summary.counted is None else summary.counted.nbytes
        self._calls += 1
        if self._calls >= _CALLS or self._held_bytes >= _HELD_BYTES:
            self.settle()

    def settle(self) -> None:
        """Shows what still waits."""
        for name, waiting in self._waiting.items():
            if waiting:
                summary = joined(waiting)
                waiting.clear()
                for observer in self._by_summary[name]:
                    observer.update_by(summary)
        self._calls = self._held_bytes = 0

    def states(self) -> dict[str, dict[str, dict[str, Array]]]:
        """Of each tensor the state of each observer; all of them settled."""
        return {name: {key: one.state() for key, one in watched.items()} for name, watched in self._watched.items()}

    def _look(self, name: str, array: Array, start: int, *, summed_up: bool) -> None:
        for observer in self._watched[name].values():
            if not isinstance(observer, SummaryObserver):
                observer.update(array)
            elif not summed_up:
                observer.update(thinned(array, self._most, start) if observer.needs_counted else array)
