"""What is learned from: labels, the float model's own outputs, or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from edgeport.contracts import Array
from edgeport.errors import SamplesError, SourceError
from edgeport.exporter.distill.losses.response import output_difference, soft_targets
from edgeport.exporter.train.sampler import ArrayBatches
from edgeport.exporter.train.samples import LABELS
from edgeport.user_functions import user_function

__all__ = [
    "Loss",
    "LossChoice",
    "evaluate_loss",
    "loss_for",
    "require_classes",
    "require_values",
    "suggested_loss",
    "users_function",
]

Outputs = Mapping[str, "Tensor"]

_EVALUATED_AT_ONCE = 64


class LossChoice(Protocol):
    """What is asked of a loss; see `FineTuning` and `QatOptions`."""

    @property
    def loss(self) -> str:
        """A name, or `pkg.mod:fn`."""
        ...

    @property
    def teacher(self) -> float:
        """Weight of the teacher's outputs, 0..1."""
        ...

    @property
    def temperature(self) -> float:
        """Of its class scores."""
        ...

    @property
    def output(self) -> str:
        """That the loss is of; empty for the first one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of a batch.

    Attributes:
        said: In words.
        of_labels: Outputs and labels to a loss []; None where there are no labels.
        classes: Labels are classes, so that the part of right ones can be told.
        output: That is judged.
        teacher: Weight of the teacher's part.
        temperature: Of its class scores.

    """

    said: str
    of_labels: Callable[[Outputs, Tensor], Tensor] | None
    classes: bool
    output: str
    teacher: float
    temperature: float

    def __call__(self, outputs: Outputs, taught: Outputs | None, labels: Tensor | None) -> Tensor:
        """A number []: (1 - teacher) of the labels' loss and `teacher` of the difference from the float model."""
        parts: list[Tensor] = []
        if self.of_labels is not None and labels is not None and self.teacher < 1:
            parts.append((1 - self.teacher) * self.of_labels(outputs, labels))
        if taught is not None and self.teacher > 0:
            parts.append(self.teacher * self._difference(outputs, taught))
        return torch.stack([part.float() for part in parts]).sum()

    def _difference(self, outputs: Outputs, taught: Outputs) -> Tensor:
        """Of scores of classes, Hinton's; of all else, the mean squared difference over the teacher's mean square."""
        if self.classes:
            return soft_targets(outputs[self.output].float(), taught[self.output].float(), self.temperature)
        each = [
            output_difference(own.float(), taught[name].float(), relative=True)
            for name, own in outputs.items()
            if own.is_floating_point()
        ]
        return torch.stack(each).mean()


def loss_for(options: LossChoice, labels: Array | None, outputs: Mapping[str, Array], search_path: Path | None) -> Loss:
    """The loss that was asked for, or that the labels suggest.

    Args:
        options: What is asked.
        labels: Of all samples; None for none.
        outputs: Of the float model for some samples.
        search_path: Folder that a function of the user is imported from.

    Raises:
        SamplesError: Labels that do not fit, or none where they are needed.
        SourceError: The user's function can't be imported.

    """
    name = options.output or next(iter(outputs))
    if name not in outputs:
        raise SamplesError(
            asked=f"train output {name!r}", found=f"outputs {', '.join(outputs)}", fix="name one of them"
        )
    scores = outputs[name]
    kind = options.loss
    if kind == "auto":
        kind = suggested_loss(labels, scores)
    if kind != "teacher" and labels is None:
        raise SamplesError(
            asked=f"train with the loss {kind}",
            found="samples without labels",
            fix='name them in [data] target, or take the loss "teacher", which needs none',
        )
    teacher = 1.0 if kind == "teacher" else options.teacher
    common: dict[str, Any] = {"output": name, "teacher": teacher, "temperature": options.temperature}
    alone = "the float model's outputs"

    def said(what: str) -> str:
        return alone if teacher == 1 else f"{what}, {teacher:g} of it {alone}" if teacher > 0 else what

    if kind == "teacher":
        return Loss(said=alone, of_labels=None, classes=False, **common)
    if kind == "cross-entropy":
        require_classes(labels, scores)
        return Loss(
            said=said("cross-entropy"),
            of_labels=lambda found, wanted: functional.cross_entropy(found[name].float(), wanted.long()),
            classes=True,
            **common,
        )
    if kind == "mse":
        require_values(labels, scores)
        return Loss(
            said=said("mean squared error"),
            of_labels=lambda found, wanted: functional.mse_loss(
                found[name].float(), wanted.float().reshape(found[name].shape)
            ),
            classes=False,
            **common,
        )
    return Loss(said=said(kind), of_labels=_users_loss(kind, search_path), classes=False, **common)


def _users_loss(spelled: str, search_path: Path | None) -> Callable[[Outputs, Tensor], Tensor]:
    called = users_function(spelled, search_path)

    def loss(outputs: Outputs, labels: Tensor) -> Tensor:
        found = called(outputs, labels)
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            is_tensor = isinstance(found, torch.Tensor)
            raise SourceError(
                asked=f"train with {spelled}",
                found=f"a tensor {list(found.shape)}" if is_tensor else f"a {type(found).__name__}",
                fix="let it give one number for the batch, as a tensor [] that was computed from the outputs",
            )
        return found.reshape(())

    return loss


def evaluate_loss(
    loss: Loss,
    held_out: ArrayBatches,
    device: torch.device,
    of: Callable[[Mapping[str, Tensor]], tuple[Tensor, Outputs]],
) -> dict[str, float]:
    """The mean loss on what was held out, and the part of right classes where labels are classes.

    Args:
        loss: What labels are, and of which output.
        held_out: Samples.
        device: That batches go to.
        of: The loss [] of a batch, and the outputs.

    """
    total, right, count = 0.0, 0, len(held_out)
    for start in range(0, count, _EVALUATED_AT_ONCE):
        rows = list(range(start, min(start + _EVALUATED_AT_ONCE, count)))
        batch = {name: one.to(device) for name, one in held_out.batch(rows).items()}
        with torch.no_grad():
            value, outputs = of(batch)
        total += float(value) * len(rows)
        if loss.classes:
            right += int((outputs[loss.output].argmax(dim=1) == batch[LABELS]).sum())
    return {"loss": total / count, **({"top1": right / count} if loss.classes else {})}


def suggested_loss(labels: Array | None, scores: Array) -> str:
    """Of classes "cross-entropy", of numbers like the output's "mse", else "teacher": nothing is learned from labels.

    Args:
        labels: Of all samples; None for none.
        scores: The output that is judged, for some samples.

    """
    if labels is None or not scores.ndim:
        return "teacher"
    if labels.dtype.kind in "iu" and labels.ndim == 1 and scores.ndim == 2 and scores.shape[1] > 1:
        return "cross-entropy"
    if labels.dtype.kind == "f" and labels[:1].size == scores[:1].size:
        return "mse"
    return "teacher"  # labels of a kind that only the metric understands


def require_classes(labels: Array | None, scores: Array) -> None:
    """Makes sure that labels are classes of these scores.

    Raises:
        SamplesError: They are not.

    """
    if labels is None or labels.dtype.kind not in "iu" or labels.ndim != 1 or scores.ndim != 2:
        raise SamplesError(
            asked="train with cross-entropy",
            found=f"labels of {labels.dtype if labels is not None else None} and scores of {list(scores.shape[1:])}",
            fix="give one whole number per sample, and a score for each class; or another loss",
        )
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise SamplesError(
            asked="train with cross-entropy",
            found=f"labels of {labels.min()} to {labels.max()} for {scores.shape[1]} classes",
            fix=f"count classes from 0 to {scores.shape[1] - 1}; or take another loss, where these are no classes",
        )


def require_values(labels: Array | None, scores: Array) -> None:
    """Makes sure that labels are as many numbers as this output has.

    Raises:
        SamplesError: They are not.

    """
    if labels is None or labels.dtype.kind not in "iuf" or not scores.ndim or labels[:1].size != scores[:1].size:
        raise SamplesError(
            asked="train with the mean squared error",
            found=f"labels of {f'{labels.dtype} {list(labels.shape[1:])}' if labels is not None else None} "
            f"and an output of {list(scores.shape[1:])}",
            fix="give each sample as many numbers as the output has; or another loss",
        )


def users_function(
    spelled: str,
    search_path: Path | None,
    takes: str = "it gets the outputs by name and the labels, and gives a loss []",
) -> Callable[..., Any]:
    """A function of the user's.

    Args:
        spelled: `pkg.mod:fn`.
        search_path: Folder that it is imported from.
        takes: What it is called with and gives, for the message.

    Raises:
        SourceError: It can't be imported, or is no function.

    """
    try:
        found = user_function(spelled, search_path)
    except Exception as error:
        raise SourceError(
            asked=f"train with {spelled}",
            found=f"{type(error).__name__}: {error}",
            fix=f"give it as pkg.mod:fn; {takes}",
        ) from error
    if not callable(found):
        raise SourceError(asked=f"train with {spelled}", found=f"a {type(found).__name__}", fix="name a function")
    return found
