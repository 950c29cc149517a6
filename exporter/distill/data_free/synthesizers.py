"""Who makes the student's inputs, step by step: DAFL, Fast and contrastive inversion."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport.contracts import TensorSpec
from edgeport.errors import DistillationError, SamplesError, TrainingError
from edgeport.exporter.batch_norm import layers_with_statistics
from edgeport.exporter.distill.data_free.augmentation import Views
from edgeport.exporter.distill.data_free.batch_norm import BatchNormMatch
from edgeport.exporter.distill.data_free.inversion_loss import (
    Inversion,
    Weights,
    class_scores,
    teacher_of,
    weight_of_statistics,
)
from edgeport.exporter.distill.data_free.losses import contrastive_loss
from edgeport.exporter.distill.data_free.methods import MEMORY, Contrastive, Dafl, Fast, Method
from edgeport.exporter.distill.data_free.replay_buffer import Memory
from edgeport.exporter.distill.learned_losses.networks import dense, generator_of, sizes_of
from edgeport.exporter.distill.teacher_student import Pair, answers
from edgeport.exporter.train import StepContext, TrainedModule

__all__ = ["SynthesizedBatch", "Synthesizer", "synthesizer_of"]

Inverting = TypeVar("Inverting", Fast, Contrastive)

_MOMENTS = (0.5, 0.999)
"""Of Adam for generators: Radford et al., "Unsupervised Representation Learning with DCGAN" (2016), section 4."""

_AT_ONCE = 128

_IMAGE = 3
"""Axes of an image: channels, height, width."""

_MOST_BYTES = 4_000_000_000
"""Of a memory: 51,200 images of 160x160 pixels."""

_HEAD = 256
_LOCAL = 0.25
"""Smallest part of an image in the view that is compared with the whole: CMI's own."""


@dataclass(frozen=True, kw_only=True)
class SynthesizedBatch:
    """Inputs of a step.

    Attributes:
        samples: float32 [N, ...]; None in a step in which the student does not learn yet.
        numbers: What is to be noted.

    """

    samples: Tensor | None
    numbers: Mapping[str, float | Tensor] = field(default_factory=dict)


class Synthesizer(Protocol):
    """Makes a student's inputs."""

    notes: tuple[str, ...]
    """What a reader of the result must know, one sentence each."""

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """Who learns beside the student."""
        ...

    def synthesize(self, context: StepContext, count: int) -> SynthesizedBatch:
        """Inputs for this step, of `count` samples."""
        ...

    def samples(self, count: int) -> Tensor:
        """Samples for others, float32 [`count`, or as many as there are, ...], as they were made: the newest ones, for
        the first come from a generator that has not learned yet.
        """
        ...


def synthesizer_of(method: Method, pair: Pair, inputs: TensorSpec, views: Views = Views()) -> Synthesizer:  # noqa: B008 (frozen)
    """Of a method.

    Args:
        method: Which one, with its values.
        pair: Its teacher is a classifier with one float input, the student takes the same.
        inputs: Of both: every axis but the first has a size. Its range, where declared, is kept to.
        views: How images are changed at random before anyone sees them.

    Raises:
        SamplesError: The input has no size, or is not float, or no model takes it.
        DistillationError: The teacher is no classifier, or lacks what the method needs; or the student knows other
            classes.

    """
    _, shape = sizes_of([inputs], f"make inputs by {type(method).__name__}")
    teacher = teacher_of(pair)
    device = next((one.device for one in teacher.parameters()), torch.device("cpu"))
    feeds = {inputs.name: torch.zeros((2, *shape), device=device)}
    try:
        taught, own = pair.taught(feeds)[0], answers(pair.student, feeds)
    except RuntimeError as error:  # what modules raise for sizes and dtypes that are not theirs
        raise SamplesError(
            asked=f"make inputs {inputs.name!r}: {inputs.dtype} {list(inputs.shape)}",
            found=f"that a model does not take them ({str(error).splitlines()[0]})",
            fix="declare the input as student and teacher take it",
        ) from error
    classes = class_scores(taught).shape[1]
    if method.disagreement:
        _require_classes(class_scores(own).shape[1], classes)
    common = _Common(pair=pair, teacher=teacher, inputs=inputs, shape=shape, classes=classes, views=views)
    if isinstance(method, Dafl):
        return DaflSynthesizer(method, common)
    if isinstance(method, Fast):
        return FastSynthesizer(method, common)
    return ContrastiveSynthesizer(method, common)


def _require_classes(student: int, teacher: int) -> None:
    if student != teacher:
        raise DistillationError(
            asked="make inputs where student and teacher disagree",
            found=f"{student} classes of the student, {teacher} of the teacher",
            fix="give a student of the teacher's classes",
        )


@dataclass(frozen=True, kw_only=True)
class _Common:
    """What every synthesizer needs."""

    pair: Pair
    teacher: nn.Module
    inputs: TensorSpec
    shape: tuple[int, ...]
    classes: int
    views: Views

    def inversion(self, weights: Weights, match: BatchNormMatch) -> Inversion:
        """The loss of synthesized samples."""
        return Inversion(self.pair, self.inputs.name, weights, match)

    def drawn(self, count: int, device: torch.device) -> Tensor:
        """Classes at random, int64 [count]."""
        return torch.randint(self.classes, (count,)).to(device)


def _alone(context: StepContext, name: str, module: nn.Module) -> None:
    """One process: a generator that steps by itself is not brought together with others'."""
    if context.module(name) is not module:
        raise TrainingError(
            asked="make inputs in several processes",
            found="a generator, which learns in one process alone",
            fix="take one process; or make samples first, and distil with them in several",
        )


def _update_by(context: StepContext, name: str, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """A step of a module by gradients that were found before: those of a loss that is linear in the parameters."""
    parts = [(one * each).sum() for one, each in zip(parameters, gradients, strict=True)]
    context.update(name, torch.stack(parts).sum())


class DaflSynthesizer:
    """See `Dafl`."""

    def __init__(self, method: Dafl, common: _Common) -> None:
        self._method, self._common = method, common
        self._generator = generator_of(common.inputs, common.shape, latent=method.latent, width=method.width)
        statistics, self.notes = weight_of_statistics(method.statistics, common.teacher, 0.0)
        weights = Weights(
            statistics=statistics,
            one_hot=method.one_hot,
            activation=method.activation,
            balance=method.balance,
            disagreement=method.disagreement,
        )
        self._inversion = common.inversion(weights, BatchNormMatch(common.teacher))

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """The generator."""
        adam = torch.optim.Adam(self._generator.parameters(), lr=self._method.rate, betas=_MOMENTS)
        return {"generator": TrainedModule(module=self._generator, optimizer=adam)}

    def synthesize(self, context: StepContext, count: int) -> SynthesizedBatch:
        """A step of the generator; the student gets what it made for it."""
        _alone(context, "generator", self._generator)
        samples = self._generator(self._generator.codes(count))
        losses = self._inversion(samples)
        views = self._common.views(samples.detach())
        context.update("generator", losses.loss)
        return SynthesizedBatch(samples=views, numbers=losses.parts)

    def samples(self, count: int) -> Tensor:
        """New ones."""
        sizes = [min(_AT_ONCE, count - start) for start in range(0, count, _AT_ONCE)]
        with torch.no_grad():
            return torch.cat([self._generator(self._generator.codes(size)) for size in sizes])


class _InversionSynthesizer(ABC, Generic[Inverting]):
    """Makes a batch from time to time, by the teacher's own answers, and keeps what it has made.

    Attributes:
        notes: Of what the teacher lacks.

    """

    _trained_name: str
    _trained: nn.Module

    def __init__(self, method: Inverting, common: _Common, match: BatchNormMatch, *, statistics: float) -> None:
        self._method: Inverting = method
        self._common = common
        self._memory = _memory(method.memory, common)
        weight, self.notes = weight_of_statistics(method.statistics, common.teacher, statistics)
        early = Weights(statistics=weight, one_hot=method.one_hot)
        late = Weights(statistics=weight, one_hot=method.one_hot, disagreement=method.disagreement)
        self._early, self._late = (common.inversion(weights, match) for weights in (early, late))

    def synthesize(self, context: StepContext, count: int) -> SynthesizedBatch:
        """From time to time a new batch; then samples of all that is kept."""
        method = self._method
        warming = context.step < method.warm_up
        numbers: Mapping[str, float | Tensor] = {}
        if warming or (context.step - method.warm_up) % method.cycle == 0:
            _alone(context, self._trained_name, self._trained)
            numbers = self._new_batch(context, self._early if warming else self._late)
        samples = None if warming else self._common.views(self._memory.draw(count))
        return SynthesizedBatch(samples=samples, numbers=numbers)

    def samples(self, count: int) -> Tensor:
        """Out of the memory."""
        return self._memory.newest(count)

    @abstractmethod
    def _new_batch(self, context: StepContext, inversion: Inversion) -> Mapping[str, float | Tensor]:
        """Makes a batch and adds it to the memory; what is to be noted."""


def _memory(asked: int | None, common: _Common) -> Memory:
    """One that a machine, and each checkpoint, can hold. 256 levels are what images have; of other numbers a declared
    range may be far wider than where they lie.
    """
    levels = common.inputs.value_range if len(common.shape) == _IMAGE else None
    each = math.prod(common.shape) * (4 if levels is None else 1)
    most = max(1, _MOST_BYTES // each)
    if asked is not None and asked > most:
        raise DistillationError(
            asked=f"keep {asked} samples {list(common.shape)} that were made",
            found=f"{asked * each / 1e9:.1f} GB, in memory and in each checkpoint",
            fix=f"give a memory of {most} or fewer, or none: it then keeps as many as it can",
        )
    return Memory(min(MEMORY, most) if asked is None else asked, common.shape, levels)


class FastSynthesizer(_InversionSynthesizer[Fast]):
    """See `Fast`."""

    _trained_name = "generator"

    def __init__(self, method: Fast, common: _Common) -> None:
        self._generator = generator_of(common.inputs, common.shape, latent=method.latent, width=method.width)
        self._match = BatchNormMatch(common.teacher, carry=method.carry)
        super().__init__(method, common, self._match, statistics=10.0)
        self._trained = nn.ModuleDict({"net": self._generator, "memory": self._memory, "match": self._match})

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """The generator, with what it has made."""
        rate = self._method.rate * self._method.inner
        adam = torch.optim.Adam(self._generator.parameters(), lr=rate, betas=_MOMENTS)
        return {"generator": TrainedModule(module=self._trained, optimizer=adam)}

    def _new_batch(self, context: StepContext, inversion: Inversion) -> Mapping[str, float | Tensor]:
        """First-order MAML: the gradients of the copy's steps, added up, is the gradient of the generator itself."""
        method = self._method
        quick = copy.deepcopy(self._generator)
        codes = quick.codes(method.batch).requires_grad_()
        classes = self._common.drawn(method.batch, codes.device)
        learning = [*quick.parameters(), codes]
        groups: list[dict[str, Any]] = [
            {"params": learning[:-1]},
            {"params": learning[-1:], "lr": method.latent_rate},
        ]
        adam = torch.optim.Adam(groups, lr=method.rate, betas=_MOMENTS)
        summed = [torch.zeros_like(one) for one in learning[:-1]]
        best = _Best()
        for _ in range(method.inner):
            samples = quick(codes)
            losses = inversion(self._common.views(samples), classes)
            best.take(losses.loss, samples, losses.parts)
            gradients = torch.autograd.grad(losses.loss, learning)
            for one, gradient in zip(learning, gradients, strict=True):
                one.grad = gradient
            torch._foreach_add_(summed, gradients[:-1])
            adam.step()
        self._match.remember()
        _update_by(context, "generator", list(self._generator.parameters()), summed)
        self._memory.add(best.samples)
        return best.numbers


class ContrastiveSynthesizer(_InversionSynthesizer[Contrastive]):
    """See `Contrastive`."""

    _trained_name = "comparison"

    def __init__(self, method: Contrastive, common: _Common) -> None:
        super().__init__(method, common, BatchNormMatch(common.teacher), statistics=1.0)
        self._means = _Means(common.teacher)
        device = next((one.device for one in common.teacher.parameters()), torch.device("cpu"))
        size = self._vectors(torch.zeros((2, *common.shape), device=device)).shape[1]
        self._head = dense(size, size, _HEAD, layers=1)
        self._before = Memory(method.before, (size,))
        self._trained = nn.ModuleDict({"head": self._head, "memory": self._memory, "before": self._before})

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """The head that compares; generators come and go."""
        adam = torch.optim.Adam(self._head.parameters(), lr=self._method.rate, betas=_MOMENTS)
        return {"comparison": TrainedModule(module=self._trained, optimizer=adam)}

    def _new_batch(self, context: StepContext, inversion: Inversion) -> Mapping[str, float | Tensor]:
        method, common = self._method, self._common
        device = self._memory.samples.device
        generator = generator_of(common.inputs, common.shape, latent=method.latent, width=method.width).to(device)
        codes = generator.codes(method.batch).requires_grad_()
        classes = common.drawn(method.batch, device)
        head, learning = list(self._head.parameters()), [*generator.parameters(), codes]
        adam = torch.optim.Adam(learning, lr=method.rate, betas=_MOMENTS)
        local = Views(shift=0.0, mirror=common.views.mirror, least=_LOCAL)
        best, whole = _Best(), torch.zeros(0)
        for _ in range(method.inner):
            samples = generator(codes)
            with self._means.watching():
                losses = inversion(common.views(samples), classes)
                global_vectors = self._means.vectors()
            contrast = self._contrast(self._vectors(local(samples), through=True), global_vectors)
            loss = losses.loss + method.contrast * contrast
            if best.take(loss, samples, {**losses.parts, "contrast": contrast.detach()}):
                whole = global_vectors.detach()
            gradients = torch.autograd.grad(loss, [*learning, *head])
            for one, gradient in zip(learning, gradients, strict=False):
                one.grad = gradient
            adam.step()
            _update_by(context, "comparison", head, gradients[len(learning) :])
        self._memory.add(best.samples)
        self._before.add(whole)
        return best.numbers

    def _vectors(self, samples: Tensor, *, through: bool = False) -> Tensor:
        """What the teacher sees in these."""
        with self._means.watching():
            self._common.pair.taught({self._common.inputs.name: samples}, through=through)
            return self._means.vectors()

    def _contrast(self, local: Tensor, whole: Tensor) -> Tensor:
        """Whole images are compared with, not moved."""
        compared = functional.normalize(self._head(local), dim=1)
        with torch.no_grad():
            others = functional.normalize(self._head(whole), dim=1)
            kept = self._before.first(self._method.before)
            before = functional.normalize(self._head(kept), dim=1) if len(kept) else None
        return contrastive_loss(compared, others, before, self._method.temperature)


class _Best:
    """The samples with the smallest loss."""

    def __init__(self) -> None:
        self._loss = float("inf")
        self.samples = torch.zeros(0)
        self.numbers: Mapping[str, float | Tensor] = {}

    def take(self, loss: Tensor, samples: Tensor, numbers: Mapping[str, Tensor]) -> bool:
        """Keeps them if they are better than all before, or the first."""
        found = float(loss.detach())
        if len(self.samples) and not found < self._loss:
            return False
        self._loss, self.samples, self.numbers = found, samples.detach(), numbers
        return True


class _Means:
    """What the teacher's layers give, averaged over pixels or tokens: a vector for each sample."""

    def __init__(self, teacher: nn.Module) -> None:
        every = [one for one in teacher.modules() if isinstance(one, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)]
        self._layers: Sequence[nn.Module] = layers_with_statistics(teacher) or every
        self._found: list[Tensor] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The teacher's call inside of it counts."""
        self._found = []
        handles = [one.register_forward_hook(self._look) for one in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def vectors(self) -> Tensor:
        """float32 [N, size], with gradients where the call had some."""
        return torch.cat(self._found, dim=1)

    def _look(self, layer: nn.Module, arguments: object, output: Tensor) -> None:
        del arguments
        values = output.float()
        if values.ndim > 2:
            tokens = isinstance(layer, nn.Linear)
            values = values.flatten(1, -2).mean(dim=1) if tokens else values.flatten(2).mean(dim=2)
        self._found.append(values)
