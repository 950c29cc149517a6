"""The teacher's outputs in a unit that networks learn well in, and features brought to one width."""

from __future__ import annotations

from torch import Tensor, nn

from edgeport.errors import DistillationError

__all__ = ["Scaling", "adapter_to"]

_TINY = 1e-6


class Scaling(nn.Module):
    """Numbers less their mean, over their deviation, as some samples have them.

    Args:
        values: float32 [N, size].
        centred: Each sample's own mean is taken off first: scores of classes mean the same with any number added.

    """

    def __init__(self, values: Tensor, *, centred: bool) -> None:
        super().__init__()
        self._centred = centred
        values = self._plain(values.detach())
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", values.mean(dim=0))
        self.register_buffer("deviation", (values - self.mean).square().mean().sqrt().clamp(min=_TINY))

    def forward(self, values: Tensor) -> Tensor:
        """[N, size] to the same."""
        return (self._plain(values) - self.mean) / self.deviation

    def back(self, scaled: Tensor) -> Tensor:
        """The other way; of scores, with a mean of 0."""
        return scaled * self.deviation + self.mean

    def _plain(self, values: Tensor) -> Tensor:
        return values - values.mean(dim=1, keepdim=True) if self._centred else values


def adapter_to(student: Tensor, teacher: Tensor | None) -> nn.Module | None:
    """What gives a student's feature as many channels as the teacher's has; None where it has. Those of images come
    first, those of tokens last.

    Raises:
        DistillationError: Features of different kinds.

    """
    if teacher is None or student.ndim != teacher.ndim or student.ndim not in (2, 3, 4):
        shape = None if teacher is None else list(teacher.shape)
        raise DistillationError(
            asked="compare features by a network that learns",
            found=f"shapes {list(student.shape)} and {shape}",
            fix="name modules of student and teacher that give [N, C], tokens [N, T, D] or images [N, C, H, W] both",
        )
    image = student.ndim == 4
    own, wanted = (one.shape[1 if image else -1] for one in (student, teacher))
    if own == wanted:
        return None
    return nn.Conv2d(own, wanted, 1) if image else nn.Linear(own, wanted)
