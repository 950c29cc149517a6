"""The generative methods that make a student's inputs, one dataclass each; known without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.errors import UsageError

__all__ = ["METHODS", "Contrastive", "Dafl", "Fast", "Method", "method_named"]


@dataclass(frozen=True, kw_only=True)
class Dafl:
    """A generator plays with the teacher; what it makes, the student learns from at once.

    Chen et al., "Data-Free Learning of Student Networks" (DAFL, ICCV 2019). The teacher should be sure of its classes
    (`one_hot`), excited (`activation`), and see all classes equally often (`balance`); the weights are the authors' for
    CIFAR-10. Known to collapse on small students: 0.72 of the accuracy with data for WideResNet-16-1 (Fang et al.,
    2022, table 1).

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
class Fast:
    """A generator that has learned to learn: some steps of it and of the codes make a batch, which is kept.

    Fang et al., "Up to 100x Faster Data-Free Knowledge Distillation" (AAAI 2022); its values for WideResNet-40-2 to
    WideResNet-16-1.

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
        memory: Samples that are kept.
        latent: Numbers of a code.
        width: Channels of the generator.

    """

    statistics: float | None = None
    one_hot: float = 0.4
    disagreement: float = 1.1
    carry: float = 0.9
    inner: int = 2
    rate: float = 5e-3
    latent_rate: float = 0.015
    cycle: int = 400
    warm_up: int = 20
    batch: int = 256
    memory: int = 51_200
    latent: int = 256
    width: int = 64


@dataclass(frozen=True, kw_only=True)
class Contrastive:
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
    cycle: int = 400
    warm_up: int = 1
    batch: int = 256
    memory: int = 51_200
    latent: int = 256
    width: int = 64


Method = Dafl | Fast | Contrastive

METHODS: dict[str, type[Dafl | Fast | Contrastive]] = {
    "fast": Fast,
    "dafl": Dafl,
    "contrastive": Contrastive,
}
"""By the names that commands take."""


def method_named(name: str) -> Method:
    """With its default values.

    Raises:
        UsageError: No such method.

    """
    if name not in METHODS:
        raise UsageError(
            asked=f"make inputs by {name!r}", found="no such method", fix=f"take one of {', '.join(METHODS)}"
        )
    return METHODS[name]()
