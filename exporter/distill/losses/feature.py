"""Teacher terms that compare what is inside of the networks: hints, attention, relations between samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgeport.errors import DistillationError
from edgeport.exporter.distill.objective import BatchOutputs, Tap

__all__ = [
    "Attention",
    "Hints",
    "Relational",
    "attention_difference",
    "attention_map",
    "relational_angle",
    "relational_distance",
]

_TINY = 1e-12
_SAME = 1e-6
"""Squared distances below this part of the mean squared length are rounding errors."""


def attention_map(feature: Tensor) -> Tensor:
    """Where a feature is strong: the mean of squares over channels, of length 1.

    Args:
        feature: float32 [N, C, H, W] or of any number of places; of tokens [N, T, D], each token is a place.

    Returns:
        [N, places].

    """
    squares = feature.square().mean(dim=-1 if feature.ndim == 3 else 1)
    return functional.normalize(squares.flatten(1), dim=1, eps=_TINY)


def attention_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Zagoruyko and Komodakis, "Paying More Attention to Attention" (2017), equation 2, for p = 2.

    Args:
        student: float32 [N, C, places ...].
        teacher: The same, with any number of channels.

    Returns:
        The squared distance between both attention maps, the mean over samples, [].

    """
    return (attention_map(student) - attention_map(teacher)).square().sum(dim=1).mean()


def _distances(feature: Tensor) -> Tensor:
    """Between all samples [N, N], over the mean of those between different samples."""
    flat = feature.flatten(1)
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    return distances / distances.sum().div(len(flat) * (len(flat) - 1)).clamp(min=_TINY)


def relational_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Park et al., "Relational Knowledge Distillation" (2019), equations 6 to 8: how far samples are from each other.

    Args:
        student: float32 [N, ...].
        teacher: The same N, any other axes.

    Returns:
        Huber's loss of distances over their mean, the mean over pairs of different samples, [].

    """
    count = len(student)
    each = functional.smooth_l1_loss(_distances(student), _distances(teacher), reduction="sum")
    return each / (count * (count - 1))


def _cosines(feature: Tensor) -> Tensor:
    """At each sample, of the angle between each two of the others [N, N, N]; 0 where one of them is the sample itself.

    By products of the centred features, for their differences would take N times the memory.
    """
    flat = feature.flatten(1)
    flat = flat - flat.mean(dim=0)
    products = flat @ flat.T
    own = products.diagonal()
    # (b - a)(c - a) for all a, b, c.
    inner = products[None] - products[:, :, None] - products[:, None, :] + own[:, None, None]
    lengths = inner.diagonal(dim1=1, dim2=2).clamp(min=0.0)
    same = lengths <= own.mean() * _SAME
    roots = torch.where(same, torch.ones_like(lengths), lengths).sqrt()
    cosines = inner / (roots[:, :, None] * roots[:, None, :])
    return cosines.masked_fill(same[:, :, None] | same[:, None, :], 0.0)


def relational_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """The same paper, equations 9 to 11: the angles that triplets of samples enclose.

    Args:
        student: float32 [N, ...].
        teacher: The same N, any other axes.

    Returns:
        Huber's loss of their cosines, the mean over all triplets, [].

    """
    return functional.smooth_l1_loss(_cosines(student), _cosines(teacher))


@dataclass(frozen=True, kw_only=True)
class Hints:
    """The student's feature, through a projection that is learned with it, becomes the teacher's: Romero et al.,
    "FitNets: Hints for Thin Deep Nets" (2015), equation 3; the mean squared difference.

    The projection is a convolution of 1 x 1 for images [N, C, H, W], and a product along the last axis else.

    Attributes:
        taps: Which module of the student, and of the teacher.
        weight: Of the loss, the mean over taps.
        relative: Over the teacher's mean square in the batch, so that one weight suits all networks.

    """

    taps: tuple[Tap, ...]
    weight: float = 1.0
    relative: bool = True

    def __post_init__(self) -> None:
        _require_both(self.taps, "Hints")

    def adapter(self, student: Tensor, teacher: Tensor | None) -> torch.nn.Module | None:
        """See `FeatureTerm`."""
        if teacher is None:
            return None
        image = student.ndim == 4
        same = student.shape[2:] == teacher.shape[2:] if image else student.shape[:-1] == teacher.shape[:-1]
        if student.ndim != teacher.ndim or not same or student.ndim < 2:
            raise _unlike("give hints", student, teacher, "name modules whose height and width, or tokens, are equal")
        axis = 1 if image else -1
        inputs, outputs = student.shape[axis], teacher.shape[axis]
        return torch.nn.Conv2d(inputs, outputs, 1) if image else torch.nn.Linear(inputs, outputs)

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        from edgeport.exporter.distill.losses.response import output_difference

        each = [output_difference(*seen.tapped(self, tap), relative=self.relative) for tap in self.taps]
        return torch.stack(each).mean()


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Where the student looks, it learns from where the teacher looks: see `attention_difference`.

    Attributes:
        taps: Which module of the student, and of the teacher; with as many places, and any number of channels.
        weight: Of the loss, the sum over taps.

    """

    taps: tuple[Tap, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        _require_both(self.taps, "Attention")

    def adapter(self, student: Tensor, teacher: Tensor | None) -> torch.nn.Module | None:
        """See `FeatureTerm`."""
        if teacher is None:
            return None
        places = [one.shape[1:-1] if one.ndim == 3 else one.shape[2:] for one in (student, teacher)]
        if places[0] != places[1] or not places[0]:
            raise _unlike("transfer attention", student, teacher, "name modules of equal height and width, or tokens")
        return None

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        return torch.stack([attention_difference(*seen.tapped(self, tap)) for tap in self.taps]).sum()


@dataclass(frozen=True, kw_only=True)
class Relational:
    """How samples lie to each other, which needs no equal shapes: see `relational_distance`, `relational_angle`.

    Relations are those of the samples that one process has; several processes see fewer of them.

    Attributes:
        taps: Which module of the student, and of the teacher; none for outputs.
        weight: Of the loss, the mean over taps.
        distance: Weight of distances in it.
        angle: Weight of angles in it; the authors' weigh them double.
        output: Name of the output, where there are no taps; empty for the first one.

    """

    taps: tuple[Tap, ...] = ()
    weight: float = 1.0
    distance: float = 1.0
    angle: float = 2.0
    output: str = ""

    def __post_init__(self) -> None:
        _require_both(self.taps, "Relational", least=0)
        if min(self.distance, self.angle) < 0 or self.distance + self.angle == 0:
            raise DistillationError(
                asked="compare relations between samples",
                found=f"weights {self.distance} of distances and {self.angle} of angles",
                fix="give 0 or more to each, and more than 0 to one of them",
            )

    def adapter(self, student: Tensor, teacher: Tensor | None) -> torch.nn.Module | None:
        """See `FeatureTerm`."""
        del student, teacher
        return None

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        pairs = [seen.tapped(self, tap) for tap in self.taps] or [seen.outputs(self.output)]
        if len(pairs[0][0]) < 3:
            raise DistillationError(
                asked="compare relations between samples",
                found=f"a batch of {len(pairs[0][0])} in each process",
                fix="give batches of 3 samples or more, and hold out as many",
            )
        each = []
        for student, teacher in pairs:
            parts = [self.distance * relational_distance(student, teacher)] if self.distance else []
            parts += [self.angle * relational_angle(student, teacher)] if self.angle else []
            each.append(torch.stack(parts).sum())
        return torch.stack(each).mean()


def _require_both(taps: tuple[Tap, ...], term: str, least: int = 1) -> None:
    if len(taps) < least or not all(tap.student and tap.teacher for tap in taps):
        raise DistillationError(
            asked=f"compare features ({term})",
            found="no modules" if not taps else "a module of one network only",
            fix="name a module of the student and one of the teacher: Tap(student=..., teacher=...)",
        )


def _unlike(asked: str, student: Tensor, teacher: Tensor, fix: str) -> DistillationError:
    read = ", which are tokens [N, T, D] where they have three axes" if 3 in (student.ndim, teacher.ndim) else ""
    return DistillationError(
        asked=asked,
        found=f"features {list(student.shape)} of the student and {list(teacher.shape)} of the teacher{read}",
        fix=f"{fix}; Relational compares features of any shape",
    )
