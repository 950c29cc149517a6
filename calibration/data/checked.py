"""A set that is checked on the walk that somebody makes anyway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgeport.calibration.data.check import Lint, SampleChecker
from edgeport.calibration.data.digests import SampleSetWrapper
from edgeport.contracts import Sample, SampleSet, TensorSpec

__all__ = ["CheckedSamples"]


class CheckedSamples(SampleSetWrapper):
    """The samples of another set, each looked at as `check_samples` does before it is handed out.

    A walk raises what `check_samples` raises, where it comes to the sample that is wrong.

    Args:
        samples: The set; it learns its fingerprint and digests on the first walk to the end.
        specs: As in `check_samples`.

    """

    def __init__(self, samples: SampleSet, specs: tuple[TensorSpec, ...]) -> None:
        super().__init__(samples)
        self._specs = specs
        self._lints: list[Lint] | None = None

    @property
    def lints(self) -> Sequence[Lint]:
        """What is odd but usable; known after a walk to the end."""
        return self._lints or ()

    def __iter__(self) -> Iterator[Sample]:
        if self._lints is not None:
            yield from self._samples
            return
        checking = SampleChecker(self._specs)
        yield from map(checking.passed, self._samples)  # not held here: the next is read when this one may be gone
        self._lints = checking.found(self._samples)
