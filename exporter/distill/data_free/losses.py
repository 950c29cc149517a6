"""The numbers that generators, discriminators and those who learn from them make small. Pure functions of tensors.

Scores are a classifier's outputs before the softmax, float [N, classes]. Everything is computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["activation_loss", "balance_loss", "contrastive_loss", "decision_disagreement", "one_hot_loss"]

_TINY = 1e-12


def one_hot_loss(teacher: Tensor, classes: Tensor | None = None) -> Tensor:
    """Cross-entropy of the teacher's scores with the classes, or with those that it says itself.

    Chen et al., "Data-Free Learning of Student Networks" (DAFL, ICCV 2019), equation 2, for the teacher's own classes;
    Yin et al., "Dreaming to Distill" (2020), equation 1, for given ones.

    Args:
        teacher: Scores [N, classes].
        classes: int64 [N]; None for the largest scores.

    Returns:
        The mean over samples, [].

    """
    return functional.cross_entropy(teacher.float(), teacher.argmax(dim=1) if classes is None else classes)


def activation_loss(features: Tensor) -> Tensor:
    """Minus the mean size of what enters a classifier's last layer: real images excite more of it than noise.

    DAFL, equation 4.

    Args:
        features: [N, ...].

    """
    return -features.float().abs().mean()


def balance_loss(teacher: Tensor) -> Tensor:
    """Minus the entropy, in nats, of how often the teacher sees each class in this batch.

    DAFL, equation 5 (information entropy).

    Args:
        teacher: Scores [N, classes].

    """
    often = functional.softmax(teacher.float(), dim=1).mean(dim=0)
    return (often * often.clamp(min=_TINY).log()).sum()


def decision_disagreement(student: Tensor, teacher: Tensor) -> Tensor:
    """How far the student is from the teacher where both say the same class; to be made large by a generator.

    Where they say different classes already, the sample is hard enough, and pushing on would lead it away from
    everything. Fang et al., "Contrastive Model Inversion for Data-Free Knowledge Distillation" (IJCAI 2021), section
    3.3.

    Args:
        student: Scores [N, classes].
        teacher: The same.

    Returns:
        The KL divergence of each sample, or 0 where the classes differ; the mean over all samples, [].

    """
    each = functional.kl_div(
        functional.log_softmax(student.float(), dim=1),
        functional.log_softmax(teacher.float(), dim=1),
        reduction="none",
        log_target=True,
    ).sum(dim=1)
    return (each * (student.argmax(dim=1) == teacher.argmax(dim=1))).mean()


def contrastive_loss(views: Tensor, others: Tensor, before: Tensor | None, temperature: float) -> Tensor:
    """How hard it is to tell which of all `others` is the other view of the same sample.

    Fang et al., "Contrastive Model Inversion" (2021), equation 6.

    Args:
        views: One view of each sample, vectors of length 1, [N, size].
        others: The other view of each, [N, size]; no gradient goes through them.
        before: Vectors of samples that were made earlier, [M, size]; None for none.
        temperature: Cosines are divided by.

    Returns:
        The mean over samples, [].

    """
    against = others if before is None else torch.cat([others, before])
    cosines = views.float() @ against.detach().float().T / temperature
    return functional.cross_entropy(cosines, torch.arange(len(views), device=views.device))
