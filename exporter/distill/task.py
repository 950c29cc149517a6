"""Distillation with data as a training: what one step is, and how good the student is by now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgeport.errors import DistillationError
from edgeport.exporter.distill.losses.task import squared_error
from edgeport.exporter.distill.teacher_student import Pair
from edgeport.exporter.train import StepContext, TrainedModule
from edgeport.exporter.train.sampler import ArrayBatches
from edgeport.exporter.train.samples import LABELS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Augment", "Distillation", "HeldOut", "Score"]

Augment = Callable[[Mapping[str, "Tensor"]], Mapping[str, "Tensor"]]
"""Feeds of a batch by name to feeds that are changed at random; it draws from PyTorch's global generator."""

Score = Callable[[Mapping[str, "Tensor"], "Tensor | None"], float]
"""Outputs by name and labels, of all samples that are held out, to a number; larger is better."""

_AT_ONCE, _FEWEST = 128, 3
"""Samples in a batch; relations are those of three or more, so that fewer go with the batch before."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What says how good a student is.

    Attributes:
        batches: Samples that nobody trains on; labels under `LABELS`.
        classes: Labels are classes, so that the part of right ones can be told.
        values: Labels are what the output should be, so that its squared error can be told.
        output: That labels are of; empty for the first one.
        score: A number of the user's; None for none.

    """

    batches: ArrayBatches
    classes: bool = False
    values: bool = False
    output: str = ""
    score: Score | None = None

    def of_student(self, pair: Pair) -> dict[str, float]:
        """`score` and `top1`, as far as they can be told, and `loss`: cross-entropy of classes, squared error of
        values, else the objective.
        """
        if self.by_outputs:
            return self._told(pair, pair.answers)
        total = 0.0
        for feeds, labels in self._walk(pair):
            total += float(pair.objective(pair.look(feeds, labels)).total) * _count(feeds)
        return {"loss": total / len(self.batches)}

    def of_teacher(self, pair: Pair) -> dict[str, float]:
        """The same, as far as a teacher can be judged by itself: not by the objective, nor by other outputs."""
        if pair.teacher is None or not self.by_outputs:
            return {}
        feeds, _ = next(self._walk(pair))
        own, other = pair.answers(feeds), pair.taught(feeds)[0]
        judged = self.output or next(iter(own))
        its = judged if judged in other else next(iter(other))
        alike = own[judged].shape == other[its].shape
        if self.score is not None:
            alike = all(name in other and other[name].shape == one.shape for name, one in own.items())
        return self._told(pair, lambda feeds: pair.taught(feeds)[0], its) if alike else {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the numbers that `of_student` gives."""
        named = ("score",) if self.score is not None else ()
        if self.classes:
            return (*named, "top1", "loss")
        return (*named, "loss") if self.values else named or ("loss",)

    @property
    def by_outputs(self) -> bool:
        """Whether outputs can be judged by themselves: two students by the same number."""
        return self.classes or self.values or self.score is not None

    def _walk(self, pair: Pair) -> Iterator[tuple[dict[str, Tensor], Tensor | None]]:
        """Feeds and labels of each batch, where the student is."""
        device = next(pair.adapted_student.parameters()).device
        count = len(self.batches)
        starts = list(range(0, count, _AT_ONCE))
        if len(starts) > 1 and count - starts[-1] < _FEWEST:
            starts.pop()
        for start, end in pairwise([*starts, count]):
            feeds = {name: one.to(device) for name, one in self.batches.batch(list(range(start, end))).items()}
            labels = feeds.pop(LABELS, None)
            yield feeds, labels

    def _told(
        self, pair: Pair, answer: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], judged: str = ""
    ) -> dict[str, float]:
        """Of whoever answers so; `judged` is the output that labels are of, where it is not the student's."""
        kept: dict[str, list[Tensor]] = {}
        named: list[Tensor] = []
        squared = 0.0
        for feeds, labels in self._walk(pair):
            outputs, count = answer(feeds), _count(feeds)
            judged = judged or self.output or next(iter(outputs))
            if self.values and labels is not None:
                squared += float(squared_error(outputs[judged].float(), labels)) * count
            for name in outputs if self.score is not None else [judged] * self.classes:
                if outputs[name].ndim and len(outputs[name]) == count:  # else it is not of samples
                    kept.setdefault(name, []).append(outputs[name].cpu())
            named += [] if labels is None else [labels.cpu()]
        whole = {name: torch.cat(each) for name, each in kept.items()}
        wanted = torch.cat(named) if named else None
        told = {"score": _number_of(self.score, whole, wanted)} if self.score is not None else {}
        if self.classes and wanted is not None:
            scores, wanted = whole[judged].float(), wanted.long()
            told["top1"] = float((scores.argmax(dim=1) == wanted).float().mean())
            told["loss"] = float(functional.cross_entropy(scores, wanted))
        elif self.values:
            told["loss"] = squared / len(self.batches)
        return told


def _number_of(score: Score, outputs: Mapping[str, Tensor], labels: Tensor | None) -> float:
    found: Any = score(outputs, labels)
    try:
        return float(found)
    except (TypeError, ValueError, RuntimeError) as error:
        shown = f"a tensor {list(found.shape)}" if isinstance(found, torch.Tensor) else repr(found)
        raise DistillationError(
            asked=f"judge a student by {getattr(score, '__name__', type(score).__name__)}",
            found=f"that it gives {shown}",
            fix="give one number for all samples; larger is better",
        ) from error


def _count(feeds: Mapping[str, Tensor]) -> int:
    return len(next(iter(feeds.values())))


class Distillation:
    """The student of a pair learns from samples; a `Task`.

    Args:
        pair: Who learns from whom, by which objective.
        held_out: What the student is judged by; None for nothing.
        augment: Changes the feeds of each batch before both networks see them, the same for both: Beyer et al.,
            "Knowledge distillation: A good teacher is patient and consistent" (2022).

    """

    def __init__(self, pair: Pair, held_out: HeldOut | None = None, augment: Augment | None = None) -> None:
        self._pair, self._held_out, self._augment = pair, held_out, augment

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """The student, and its teacher where there is one."""
        return self._pair.trained_modules()

    def step(self, batch: Mapping[str, Tensor], context: StepContext) -> Mapping[str, float | Tensor]:
        """One batch: the objective, and what each of its terms is."""
        feeds = dict(batch)
        labels = feeds.pop(LABELS, None)
        if self._augment is not None:
            feeds = _augmented(self._augment, feeds)
        losses = self._pair.objective(self._pair.see(feeds, labels, context))
        context.update("student", losses.total)
        self._pair.after_update(context)
        return {"loss": losses.total.detach(), **losses.parts}

    def evaluate(self, modules: Mapping[str, torch.nn.Module]) -> Mapping[str, float]:
        """On what was held out."""
        del modules  # the pair holds them
        return self._held_out.of_student(self._pair) if self._held_out is not None else {}


def _augmented(augment: Augment, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        changed = augment(feeds)
    if not isinstance(changed, Mapping) or set(changed) != set(feeds):
        raise DistillationError(
            asked=f"augment {', '.join(feeds)}",
            found=f"that the function gives {', '.join(changed) if isinstance(changed, Mapping) else type(changed)}",
            fix="give back a dict with the feeds that it was called with",
        )
    return dict(changed)
