"""What learned losses are computed by: of discriminators, and of variational autoencoders."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

__all__ = ["discriminator_loss", "evidence_bound", "fooling_loss", "gaussian_divergence", "gaussian_log_likelihood"]


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
