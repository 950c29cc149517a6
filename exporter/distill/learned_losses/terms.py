"""Terms of an objective that hold a network of their own, which learns beside the student: a critic, or a generator.

Such a term is told what the networks made of a batch as any other; what it saw last is what its own network learns
from, once the student's step is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport.errors import DistillationError
from edgeport.exporter.distill.objective import BatchOutputs, Tap, key_of
from edgeport.exporter.train import StepContext, Task, TrainedModule

if TYPE_CHECKING:
    from edgeport.exporter.distill.teacher_student import Pair
    from edgeport.exporter.train.task import Batch

__all__ = [
    "Held",
    "LearningTerm",
    "Outputs",
    "WithLearningTerms",
    "built",
    "condition_of",
    "outputs_of",
    "with_learning_terms",
]

_POOLED = 4
"""Height and width at which a critic sees an image."""


@dataclass
class Held:
    """What a term keeps from one step to the next.

    Attributes:
        module: Its own network; None until it is built.
        seen: The last batch of a step.

    """

    module: nn.Module | None = None
    seen: BatchOutputs | None = None

    def note(self, seen: BatchOutputs) -> bool:
        """Keeps a batch that the student learns from. Returns whether it does; others are only looked at."""
        learns = torch.is_grad_enabled() and any(one.requires_grad for one in seen.student.values())
        self.seen = seen if learns else self.seen
        return learns


@runtime_checkable
class LearningTerm(Protocol):
    """A term whose network learns."""

    @property
    def held(self) -> Held:
        """Its network."""
        ...

    @property
    def rate(self) -> float:
        """Learning rate of its Adam."""
        ...

    def build(self, seen: BatchOutputs) -> nn.Module:
        """The network for outputs such as these."""
        ...

    def own_loss(self, seen: BatchOutputs, module: Any) -> Tensor:
        """What the network makes small, []; `module` is the one to call. Nothing of it reaches the student."""
        ...


class WithLearningTerms:
    """A task whose objective has such terms: their networks are trained too.

    Args:
        task: Calls the objective in each step.
        pair: Of the task.
        feeds: Two samples or more, from which the networks get their sizes.
        labels: Of these, where there are labels.
        seed: Of the networks' first weights.

    """

    def __init__(
        self, task: Task, pair: Pair, feeds: Mapping[str, Tensor], labels: Tensor | None = None, seed: int = 0
    ) -> None:
        self._task = task
        self._terms = {
            f"{type(term).__name__}-{index}": term
            for index, term in enumerate(pair.objective.terms)
            if isinstance(term, LearningTerm)
        }
        seen = pair.look(feeds, labels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for term in self._terms.values():
                term.held.module, term.held.seen = term.build(seen), None

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """Those of the task, and the terms' networks."""
        made = dict(self._task.trained_modules())
        for name, term in self._terms.items():
            module = built(term)
            made[name] = TrainedModule(module=module, optimizer=torch.optim.Adam(module.parameters(), lr=term.rate))
        return made

    def step(self, batch: Batch, context: StepContext) -> Mapping[str, float | Tensor]:
        """The task's own, and then a step of each network."""
        for term in self._terms.values():
            term.held.seen = None
        numbers = dict(self._task.step(batch, context))
        for name, term in self._terms.items():
            seen = term.held.seen
            if seen is None:  # the student did not learn in this step
                continue
            loss = term.own_loss(seen, context.module(name))
            context.update(name, loss)
            numbers[name] = loss.detach()
        return numbers

    def evaluate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """As the task does."""
        return self._task.evaluate(modules)


def with_learning_terms(
    task: Task, pair: Pair, feeds: Mapping[str, Tensor], labels: Tensor | None = None, seed: int = 0
) -> Task:
    """The task as it is where its objective has no such terms, else `WithLearningTerms`."""
    if any(isinstance(term, LearningTerm) for term in pair.objective.terms):
        return WithLearningTerms(task, pair, feeds, labels, seed)
    return task


def built(term: LearningTerm) -> nn.Module:
    """Its network.

    Raises:
        DistillationError: It has none yet.

    """
    if term.held.module is None:
        raise DistillationError(
            asked=f"learn by {type(term).__name__}",
            found="a task that does not train its network",
            fix="put the task into WithLearningTerms",
        )
    return term.held.module


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is compared: outputs, or what modules inside give, as rows of numbers.

    Attributes:
        student, teacher: float32 [N, size]. The teacher's has no gradients.
        classes: int64 [N], what the teacher says; None where outputs are no classes.
        labels: int64 [N], the same as the samples have it, or else `classes`.
        scores: Student and teacher are scores of these classes.

    """

    student: Tensor
    teacher: Tensor
    classes: Tensor | None
    labels: Tensor | None
    scores: bool


def outputs_of(
    term: object, seen: BatchOutputs, output: str, taps: tuple[Tap, ...], *, classes: bool | None
) -> Outputs:
    """Out of what was seen; averaged over places where there are some.

    Args:
        term: Whose features count.
        seen: Of a batch.
        output: Its name.
        taps: Features instead.
        classes: The output is a score of each class; None where [N, C] is, unless the labels are numbers.

    Raises:
        DistillationError: Student and teacher do not answer in the same form, or not in that of classes.

    """
    own, other = seen.pair(output)
    numbers = seen.labels is not None and seen.labels.is_floating_point()
    could = own.ndim == 2 and own.shape[1] > 1
    if classes and not could:
        raise DistillationError(
            asked=f"take an output for scores of classes ({type(term).__name__})",
            found=f"shape {list(own.shape)}",
            fix="name an output [N, classes], or set classes to False",
        )
    return _outputs(term, seen, (own, other), taps, scores=could and not numbers if classes is None else classes)


def _outputs(
    term: object, seen: BatchOutputs, pair: tuple[Tensor, Tensor], taps: tuple[Tap, ...], *, scores: bool
) -> Outputs:
    own, other = pair
    classes = labels = other.argmax(dim=1) if scores else None
    if scores and seen.labels is not None and seen.labels.shape == own.shape[:1]:
        labels = labels if seen.labels.is_floating_point() else seen.labels.long()
    if taps:
        own = torch.cat([_rows(seen.features[key_of(term, tap)].float()) for tap in taps], dim=1)
        other = torch.cat([_rows(seen.taught[tap.teacher].float()) for tap in taps], dim=1)
    return Outputs(
        student=_rows(own), teacher=_rows(other).detach(), classes=classes, labels=labels, scores=scores and not taps
    )


def _rows(values: Tensor) -> Tensor:
    """Channels, averaged over pixels [N, C, H, W], or over tokens [N, T, D]."""
    if values.ndim == 3:
        return values.mean(dim=1)
    return _channels(values)


def _channels(values: Tensor) -> Tensor:
    return values.flatten(2).mean(dim=2) if values.ndim > 2 else values.reshape(len(values), -1)


def condition_of(feeds: Mapping[str, Tensor], count: int) -> Tensor:
    """What a critic sees of the inputs: float32 [N, size]; images at 4x4 pixels; nothing of whole numbers."""
    seen: list[Tensor] = []
    for feed in feeds.values():
        if not feed.is_floating_point():
            continue
        values = feed.detach().float()
        if values.ndim == 4:
            values = functional.adaptive_avg_pool2d(
                values, (min(_POOLED, values.shape[2]), min(_POOLED, values.shape[3]))
            )
            values = values.flatten(1)
        seen.append(_channels(values))
    if not seen:
        device = next(iter(feeds.values())).device if feeds else None
        return torch.zeros((count, 0), device=device)
    return torch.cat(seen, dim=1)
