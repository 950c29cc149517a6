"""What a student learns from: min E[L(f_s(x), y)] + lambda E[R(f_s(x))].

L are the task and teacher terms, R the regularisers; both are tuples of terms, and a term is whatever has a weight and
a loss. What terms see of a batch is `BatchOutputs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgeport.errors import DistillationError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["BatchOutputs", "FeatureTerm", "Losses", "Objective", "Tap", "Term", "key_of"]


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A module of the student, and the module of the teacher that it is compared with.

    Attributes:
        student: Path as in `named_modules` ("layers.2"); its output is the feature.
        teacher: Path in the teacher; empty where only the student's feature is looked at.

    """

    student: str
    teacher: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchOutputs:
    """What the networks made of a batch; axis 0 of everything counts samples.

    Attributes:
        student: The student's outputs by name.
        teacher: The teacher's, without gradients; empty where there is no teacher.
        labels: Of the samples; None where there are none.
        features: The student's, as the term's adapter changed it, by `key_of`.
        taught: The teacher's, by path.
        feeds: What both were fed, by input name.

    """

    student: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    taught: Mapping[str, Tensor] = field(default_factory=dict)
    feeds: Mapping[str, Tensor] = field(default_factory=dict)

    def output(self, name: str = "") -> Tensor:
        """The student's output of this name, or its first; float32 where it is a float.

        Raises:
            DistillationError: No such output.

        """
        return _named(self.student, name, "student")

    def pair(self, name: str = "") -> tuple[Tensor, Tensor]:
        """The student's output and the teacher's, of equal shapes; float32.

        Without a name: the student's first output, and the teacher's of that name; its first where it has none.

        Raises:
            DistillationError: No such output, no teacher, or another shape.

        """
        own, other = self.outputs(name)
        if own.shape != other.shape:
            raise DistillationError(
                asked=f"compare output {name!r} of student and teacher" if name else "compare student and teacher",
                found=f"shapes {list(own.shape)} and {list(other.shape)}",
                fix="let the student answer in the teacher's form, name another output, or compare relations "
                "(Relational), which need no equal shapes",
            )
        return own, other

    def targets(self) -> Tensor:
        """The labels.

        Raises:
            DistillationError: There are none.

        """
        if self.labels is None:
            raise DistillationError(
                asked="learn from labels",
                found="samples without labels",
                fix="name them (target), or take terms of the teacher alone",
            )
        return self.labels

    def outputs(self, name: str = "") -> tuple[Tensor, Tensor]:
        """As `pair`, whatever the shapes.

        Raises:
            DistillationError: No such output, or no teacher.

        """
        own = self.output(name)
        if name and self.teacher and name not in self.teacher:
            raise DistillationError(
                asked=f"compare output {name!r} of student and teacher",
                found=f"outputs {', '.join(self.student)} of the student, {', '.join(self.teacher)} of the teacher",
                fix="let both give it under one name, or compare an output that both have (output)",
            )
        return own, _named(self.teacher, name or self._first_name(), "teacher")

    def _first_name(self) -> str:
        """Of the student's first output, where the teacher has one of that name; else empty."""
        first = next(iter(self.student), "")
        return first if first in self.teacher else ""

    def feature(self, term: Term, tap: Tap) -> Tensor:
        """The student's feature, through the term's adapter; float32."""
        return self.features[key_of(term, tap)].float()

    def tapped(self, term: Term, tap: Tap) -> tuple[Tensor, Tensor]:
        """The student's feature, through the term's adapter, and the teacher's; float32."""
        return self.feature(term, tap), self.taught[tap.teacher].float()


def _named(outputs: Mapping[str, Tensor], name: str, whose: str) -> Tensor:
    if not outputs:
        raise DistillationError(
            asked=f"look at what the {whose} says",
            found=f"no {whose}",
            fix="give a teacher, or an objective without teacher terms",
        )
    if name and name not in outputs:
        raise DistillationError(
            asked=f"look at output {name!r} of the {whose}",
            found=f"outputs {', '.join(outputs)}",
            fix="name one of them, or none for the first",
        )
    found = outputs[name or next(iter(outputs))]
    return found.float() if found.is_floating_point() else found


class Term(Protocol):
    """A part of the objective: a small frozen dataclass."""

    @property
    def weight(self) -> float:
        """Factor of its loss in the sum."""
        ...

    def loss(self, seen: BatchOutputs) -> Tensor:
        """A number [], before its weight, the mean over the samples of a batch."""
        ...


@runtime_checkable
class FeatureTerm(Protocol):
    """A term that also looks inside of the networks."""

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Where."""
        ...

    def adapter(self, student: Tensor, teacher: Tensor | None) -> torch.nn.Module | None:
        """What brings the student's feature into the teacher's form, learned with the student; None for nothing.

        Args:
            student: The student's feature of two samples or more.
            teacher: The teacher's; None where the tap has none.

        Raises:
            DistillationError: The shapes do not suit the term.

        """
        ...


def key_of(term: object, tap: Tap) -> str:
    """What a term's feature is kept under; terms that are equal share it."""
    return f"{term!r} {tap.student} {tap.teacher}"


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The objective of a batch.

    Attributes:
        total: L + lambda R, [].
        parts: Each term's own loss by name ("L.SoftTargets"), without weights and without gradients; for metrics.

    """

    total: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """min E[L(f_s(x), y)] + lambda E[R(f_s(x))].

    Attributes:
        L: Task and teacher terms, summed with their weights.
        R: Regularisers, the same.
        lambda_: Factor of R.

    """

    L: tuple[Term, ...]
    R: tuple[Term, ...] = ()
    lambda_: float = 1.0

    def __post_init__(self) -> None:
        for one in self.terms:
            _require_term(one)
        wrong = [] if self.L else ["no term in L"]
        wrong += [] if self.lambda_ >= 0 else [f"lambda = {self.lambda_}"]
        wrong += [f"{type(one).__name__} with weight {one.weight}" for one in self.terms if not one.weight >= 0]
        if wrong:
            raise DistillationError(
                asked="minimise L + lambda R",
                found=", ".join(wrong),
                fix="give one term or more in L, and weights and a lambda of 0 or more",
            )

    @property
    def terms(self) -> tuple[Term, ...]:
        """Of L, then of R."""
        return (*self.L, *self.R)

    @property
    def feature_terms(self) -> tuple[FeatureTerm, ...]:
        """Those that look inside."""
        return tuple(term for term in self.terms if isinstance(term, FeatureTerm))

    def __call__(self, seen: BatchOutputs) -> Losses:
        """Of a batch."""
        import torch

        parts: dict[str, Tensor] = {}
        summed: list[Tensor] = []
        for group, terms, factor in (("L", self.L, 1.0), ("R", self.R, self.lambda_)):
            for term in terms:
                loss = _checked(term, term.loss(seen)).float()
                summed.append(factor * term.weight * loss)
                parts[_free(f"{group}.{type(term).__name__}", parts)] = loss.detach()
        return Losses(total=torch.stack(summed).sum(), parts=parts)

    def said(self) -> str:
        """In words: "0.1 CrossEntropy + 0.9 SoftTargets + 0.01 (1 ConfidencePenalty)"."""
        text = _summed(self.L)
        return f"{text} + {self.lambda_:g} ({_summed(self.R)})" if self.R and self.lambda_ else text


def _require_term(term: object) -> None:
    if isinstance(term, type):
        found, fix = f"the class {term.__name__}", f"give an instance of it: {term.__name__}(...)"
    elif not callable(getattr(term, "loss", None)) or not hasattr(term, "weight"):
        found = f"a {type(term).__name__} without a weight or a loss(seen)"
        fix = "give terms; around a function, Callback(function=...)"
    else:
        return
    raise DistillationError(asked="minimise L + lambda R", found=found, fix=fix)


def _checked(term: Term, loss: object) -> Tensor:
    import torch

    if isinstance(loss, torch.Tensor) and not loss.ndim and loss.is_floating_point():
        return loss
    shape = f"{loss.dtype} {list(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
    raise DistillationError(
        asked=f"learn by {getattr(getattr(term, 'function', None), '__name__', type(term).__name__)}",
        found=f"that it gives {shape}",
        fix="give a loss of no axes, the mean over the samples",
    )


def _summed(terms: Sequence[Term]) -> str:
    return " + ".join(f"{one.weight:g} {type(one).__name__}" for one in terms)


def _free(name: str, taken: Mapping[str, object]) -> str:
    number = 2
    found = name
    while found in taken:
        found = f"{name}-{number}"
        number += 1
    return found
