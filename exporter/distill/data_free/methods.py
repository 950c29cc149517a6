"""The generative methods that make a student's inputs, one dataclass each; known without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from edgeport.errors import ContractError, UsageError
from edgeport.exporter.train import TrainingSettings

__all__ = ["MEMORY", "METHODS", "Contrastive", "Dafl", "Fast", "Method", "VaeOptions", "method_named", "require_steps"]

_COUNTS = ("inner", "cycle", "batch", "memory", "before", "latent", "width")
"""Values that are whole numbers of 1 or more; all others are 0 or more."""


_BATCHES = {"fast": 200, "contrastive": 40}
"""So many are made in a training that is too short for the authors' cycle."""

_CYCLE = 400

MEMORY = 51_200
"""Samples that are kept, where nobody says otherwise and they take no more than 4 GB."""


class _InRange:
    """Values of a dataclass that are checked when it is made.

    Raises:
        ContractError: A value is out of its range.

    """

    def __post_init__(self) -> None:
        wrong = []
        for one in fields(self):  # type: ignore[arg-type] # a dataclass
            value = getattr(self, one.name)
            if one.name == "training" or value is None:
                continue
            least = 1 if one.name in _COUNTS else 0
            whole = one.name not in (*_COUNTS, "warm_up") or isinstance(value, int)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not least <= value < math.inf
                or not whole
            ):
                wrong.append(f"{one.name} = {value}")
        if getattr(self, "carry", 0.0) >= 1:
            wrong.append(f"carry = {getattr(self, 'carry', 0.0)}")
        if wrong:
            raise ContractError(
                asked=f"make inputs by {type(self).__name__}",
                found=", ".join(wrong),
                fix="give counts of 1 or more, weights and rates of 0 or more, and carry below 1",
            )


@dataclass(frozen=True, kw_only=True)
class Dafl(_InRange):
    """A generator plays with the teacher; what it makes, the student learns from at once.

    Chen et al., "Data-Free Learning of Student Networks" (DAFL, ICCV 2019). The teacher should be sure of its classes
    (`one_hot`), excited (`activation`), and see all classes equally often (`balance`); the weights are the authors' for
    CIFAR-10. Known to collapse on small students: 0.72 of the accuracy with data for WideResNet-16-1 (Fang et al.,
    2022, table 1). Entropy is in nats; the authors' code takes logarithms of base 10, which weigh 0.43 of it.

    Attributes:
        one_hot, activation, balance: Weights of the losses.
        statistics: Weight of the BatchNorm statistics, which the paper does not use; None is 0 here.
        disagreement: Weight of the student's distance from the teacher, which is made large; not in the paper.
        rate: Learning rate of the generator's Adam.
        latent: Numbers of a code.
        width: Channels of the generator.

    """

    one_hot: float = 1.0
    activation: float = 0.1
    balance: float = 5.0
    statistics: float | None = 0.0
    disagreement: float = 0.0
    rate: float = 1e-3
    latent: int = 512
    width: int = 64


@dataclass(frozen=True, kw_only=True)
class Fast(_InRange):
    """A generator that has learned to learn: some steps of it and of the codes make a batch, which is kept.

    Fang et al., "Up to 100x Faster Data-Free Knowledge Distillation" (AAAI 2022); the authors' values for five inner
    steps and WideResNet-40-2 to WideResNet-16-1. With two they take rates of 5e-3 and 0.015, with ten 2e-3 and 0.01.
    The rate of the generator itself follows the training's schedule, its copy's stays; the authors' stay both.

    Attributes:
        statistics: Weight of the distance from the teacher's BatchNorm statistics; None is 10 where the teacher has
            such layers, and 0 where it has none.
        one_hot: Weight of the cross-entropy with classes drawn at random.
        disagreement: Weight of the student's distance from the teacher where both say one class; it is made large.
        carry: Weight of the statistics of earlier batches in those that are matched.
        inner: Steps for a batch.
        rate: Of Adam, of the generator's copy in them; `inner` times that for the generator itself.
        latent_rate: Of the codes.
        cycle: Steps of the student between two batches.
        warm_up: Batches before the student's first step.
        batch: Samples that are made at once.
        memory: Samples that are kept; None is 51,200, or as many as 4 GB hold.
        latent: Numbers of a code.
        width: Channels of the generator.

    """

    statistics: float | None = None
    one_hot: float = 0.4
    disagreement: float = 1.1
    carry: float = 0.9
    inner: int = 5
    rate: float = 3e-3
    latent_rate: float = 0.01
    cycle: int = _CYCLE
    warm_up: int = 20
    batch: int = 256
    memory: int | None = None
    latent: int = 256
    width: int = 64


@dataclass(frozen=True, kw_only=True)
class Contrastive(_InRange):
    """A new generator for each batch, whose samples must be told apart from those before.

    Fang et al., "Contrastive Model Inversion for Data-Free Knowledge Distillation" (CMI, IJCAI 2021).

    Attributes:
        contrast: Weight of the contrastive loss.
        temperature: Of its cosines.
        before: Vectors of earlier samples that are kept to compare with.
        statistics: As in `Fast`; None is 1 where the teacher has BatchNorm.
        one_hot, disagreement: As in `Fast`.
        inner: Steps for a batch.
        rate: Of Adam, of the generator, the codes, and the head that compares.
        cycle, warm_up, batch, memory, latent, width: As in `Fast`.

    """

    contrast: float = 0.8
    temperature: float = 0.1
    before: int = 4096
    statistics: float | None = None
    one_hot: float = 1.0
    disagreement: float = 0.5
    inner: int = 200
    rate: float = 1e-3
    cycle: int = _CYCLE
    warm_up: int = 1
    batch: int = 256
    memory: int | None = None
    latent: int = 256
    width: int = 64


Method = Dafl | Fast | Contrastive

METHODS: dict[str, type[Dafl | Fast | Contrastive]] = {
    "fast": Fast,
    "dafl": Dafl,
    "contrastive": Contrastive,
}
"""By the names that commands take."""


@dataclass(frozen=True, kw_only=True)
class VaeOptions(_InRange):
    """How a VAE learns what inputs look like.

    Attributes:
        latent: Numbers of a code.
        width: Channels.
        divergence: Weight of the codes' distance from the prior (beta-VAE); 1 is the bound itself.
        rate: Learning rate of Adam.
        training: Epochs, batches and the rest.

    """

    latent: int = 64
    width: int = 32
    divergence: float = 1.0
    rate: float = 1e-3
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(epochs=20, batch_size=64))


def method_named(name: str, values: Mapping[str, Any] | None = None, steps: int | None = None) -> Method:
    """A method with its default values, or others.

    Args:
        name: In `METHODS`.
        values: By the names of its fields.
        steps: Of the student, where they are known: a shorter training makes its batches more often.

    Raises:
        UsageError: No such method.
        ContractError: No such value, or one that it can't have; or too few steps for it.

    """
    if name not in METHODS:
        raise UsageError(
            asked=f"make inputs by {name!r}", found="no such method", fix=f"take one of {', '.join(METHODS)}"
        )
    known = [one.name for one in fields(METHODS[name])]
    other = [one for one in values or {} if one not in known]
    if other:
        raise ContractError(
            asked=f"make inputs by {name} with {other[0]}",
            found="no such value of it",
            fix=f"it has {', '.join(known)}",
        )
    often = _BATCHES.get(name) if steps is not None else None
    cycle = {} if often is None or steps is None else {"cycle": min(_CYCLE, max(1, steps // often))}
    method = METHODS[name](**{**cycle, **(values or {})})
    if steps is not None:
        require_steps(method, steps)
    return method


def require_steps(method: Method, steps: int) -> None:
    """Makes sure that the student learns in some of so many steps.

    Raises:
        ContractError: It is warmed up in all of them.

    """
    warm_up = getattr(method, "warm_up", 0)
    if steps <= warm_up:
        raise ContractError(
            asked=f"distil by {type(method).__name__} in {steps} step{'' if steps == 1 else 's'}",
            found=f"that the student learns in none of them: {warm_up} are the generator's warm-up",
            fix=f"give more steps than {warm_up}, or a smaller warm_up",
        )
