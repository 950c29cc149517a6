"""The numbers that generators, discriminators and those who learn from them make small. Pure functions of tensors.

Scores are a classifier's outputs before the softmax, float [N, classes]. Everything is computed in float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "activation_loss",
    "balance_loss",
    "contrastive_loss",
    "decision_disagreement",
    "discriminator_loss",
    "evidence_bound",
    "fooling_loss",
    "gaussian_divergence",
    "gaussian_log_likelihood",
    "one_hot_loss",
]

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


def discriminator_loss(of_teacher: Tensor, of_student: Tensor) -> Tensor:
    """Cross-entropy of telling the teacher's outputs (1) from the student's (0).

    Goodfellow et al., "Generative Adversarial Networks" (2014), equation 1.

    Args:
        of_teacher: The discriminator's scores [N], before the sigmoid.
        of_student: The same.

    Returns:
        The sum of both means, [].

    """
    return functional.softplus(-of_teacher.float()).mean() + functional.softplus(of_student.float()).mean()


def fooling_loss(of_student: Tensor) -> Tensor:
    """Small where the discriminator takes the student's outputs for the teacher's (the loss that does not saturate).

    Goodfellow et al. (2014), section 3.

    Args:
        of_student: The discriminator's scores [N], before the sigmoid.

    """
    return functional.softplus(-of_student.float()).mean()


def gaussian_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence, in nats, of independent normal numbers from standard ones.

    Kingma and Welling, "Auto-Encoding Variational Bayes" (2014), appendix B.

    Args:
        mean: [N, size].
        log_variance: The same.

    Returns:
        [N].

    """
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)


def gaussian_log_likelihood(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log density, in nats, of values under independent normal numbers.

    Args:
        values: [N, ...].
        mean: The same.
        log_variance: Of a shape that can be broadcast to these.

    Returns:
        The sum over a sample's values, [N].

    """
    values, mean, log_variance = values.float(), mean.float(), log_variance.float()
    each = -0.5 * (log_variance + (values - mean).square() / log_variance.exp() + math.log(2.0 * math.pi))
    return each.flatten(1).sum(dim=1)


def evidence_bound(log_likelihood: Tensor, divergence: Tensor, weight: float = 1.0) -> Tensor:
    """The evidence lower bound (ELBO) of each sample, in nats: its log density is at least that.

    Kingma and Welling (2014), equation 3; with a weight, Higgins et al., "beta-VAE" (2017).

    Args:
        log_likelihood: Of the sample under what was decoded, [N].
        divergence: Of its code from the prior, [N].
        weight: Of the divergence.

    Returns:
        [N].

    """
    return log_likelihood - weight * divergence
