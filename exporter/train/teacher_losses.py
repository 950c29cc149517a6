"""What a student's outputs differ by from a teacher's."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["output_difference", "soft_targets"]


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2.

    Args:
        student: Scores of classes, float32 [N, C, ...].
        teacher: The same.
        temperature: T, that both are divided by.

    Returns:
        T squared, so that gradients keep their size, times the divergence KL(teacher, student), the mean over samples
        and places, [].

    """
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence / student.shape[2:].numel()


def output_difference(student: Tensor, teacher: Tensor, *, relative: bool) -> Tensor:
    """The mean squared difference []: of scores before softmax, Ba and Caruana, "Do Deep Nets Really Need to be Deep?"
    (2014), equation 1.

    Args:
        student: float32, any shape.
        teacher: The same.
        relative: Over the teacher's mean square, so that it does not depend on the unit of the output.

    """
    error = functional.mse_loss(student, teacher)
    return error / teacher.square().mean().clamp(min=1e-12) if relative else error
