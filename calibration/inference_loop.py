"""How samples go through a model: in calls of so many, step by step with a state, or several calls side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from edgeport.calibration.data.rebatch import rows_of
from edgeport.calibration.in_graph_statistics import CallOutputs, CallStatistics, StatisticsModel
from edgeport.calibration.observer_feed import ObserverFeed
from edgeport.contracts import Array, OnnxModel, Sample, SampleSet

__all__ = ["InferenceRun", "ModelFeeder", "takes_any_batch"]


@dataclass(frozen=True, kw_only=True)
class InferenceRun:
    """How the samples go through the model.

    Attributes:
        fed: Calls the model.
        batches: Of all samples.
        watching: Is shown every call.
        rows: Samples in a call, at most.
        at_once: Calls on their way at the same time; one of a model with a state.

    """

    fed: ModelFeeder
    batches: SampleSet
    watching: ObserverFeed
    rows: int
    at_once: int

    def over(self, names: Iterable[str], summarising: StatisticsModel) -> Iterator[int]:
        """Shows these tensors to their observers; yields the samples done, with those that fill up the last group."""
        yield from self._over_several(names, summarising) if self.at_once > 1 else self._over_each(names, summarising)
        self.watching.settle()

    def _over_each(self, names: Iterable[str], summarising: StatisticsModel) -> Iterator[int]:
        done = 0
        for sample in self.batches:
            for seen, count in self.fed.calls(summarising, sample, self.rows):
                self.watching.show(names, seen, count)
            done += len(sample)
            del sample, seen  # before the next batch is read
            yield done

    def _over_several(self, names: Iterable[str], summarising: StatisticsModel) -> Iterator[int]:
        """Calls side by side; shown in the samples' order, so that nothing of it shows in what is found."""
        done = 0
        waiting: deque[tuple[Sample, Future[CallOutputs]]] = deque()
        with ThreadPoolExecutor(self.at_once) as pool:

            def shown() -> int:
                sample, future = waiting.popleft()
                told = future.result()
                del future
                seen = summarising.seen(told, sample.feeds, len(sample), lambda: wait([one for _, one in waiting]))
                self.watching.show(names, seen, len(sample))
                return len(sample)

            for sample in self.batches:
                for part in self.fed.slices(sample, self.rows):
                    waiting.append((part, pool.submit(summarising.call, part.feeds, len(part))))
                    if len(waiting) > self.at_once:
                        done += shown()
                        yield done
                while waiting and part is not sample:  # they hold the batch, which goes before the next is read
                    done += shown()
                    yield done
                del sample, part
            while waiting:
                done += shown()
                yield done


class ModelFeeder:
    """How a model is fed: in parts of a batch, or step by step with its own state.

    Attributes:
        probed_values: Values in the sample by which the number of rows in a call was chosen; longer ones come fewer at
            once. 0 where it is not known, or where it does not matter.

    """

    def __init__(self, model: OnnxModel, initial: dict[str, Array]) -> None:
        self.model = model
        self.initial = initial
        self.probed_values = 0
        self._held: dict[str, Array] = dict(initial)

    def calls(self, summarising: StatisticsModel, sample: Sample, rows: int) -> Iterator[tuple[CallStatistics, int]]:
        """What each call over a batch told, and its samples; a call takes at most `rows` of them."""
        if not self.model.state:
            for part in self.slices(sample, rows):
                yield summarising.see(part.feeds, len(part)), len(part)
            return
        for step in rows_of(sample):
            if step.first is not None and step.first[0]:
                self._held = dict(self.initial)
            seen = summarising.see({**step.feeds, **self._held}, 1)
            self._held = {into: seen.arrays[out] for out, into in self.model.state.items()}
            yield seen, 1

    def smallest(self, sample: Sample) -> dict[str, Array]:
        """Feeds of the smallest call: one sample, or the fixed batch."""
        one = next(rows_of(sample)) if self.model.state or takes_any_batch(self.model) else sample
        return {**one.feeds, **self.initial}

    def slices(self, sample: Sample, rows: int) -> Iterator[Sample]:
        """A batch in parts of at most so many samples; whole, where the model takes no other."""
        if self.probed_values:
            values = sum(array.size for array in sample.feeds.values()) // len(sample)
            rows = max(1, rows * self.probed_values // max(values, 1))
        if len(sample) <= rows or not takes_any_batch(self.model):
            yield sample
            return
        for start in range(0, len(sample), rows):
            yield Sample(feeds={name: array[start : start + rows] for name, array in sample.feeds.items()})


def takes_any_batch(model: OnnxModel) -> bool:
    """Whether axis 0 of all that is fed is free."""
    return all(spec.shape and isinstance(spec.shape[0], str) for spec in model.fed)
