"""Output side, adversarial: a discriminator tells the teacher's outputs from the student's, who learns to fool it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport.exporter.distill.learned_losses.formulas import discriminator_loss, fooling_loss
from edgeport.exporter.distill.learned_losses.networks import Discriminator
from edgeport.exporter.distill.learned_losses.scaling import Scaling, adapter_to
from edgeport.exporter.distill.learned_losses.terms import Held, Outputs, built, condition_of, outputs_of
from edgeport.exporter.distill.objective import BatchOutputs, Tap

__all__ = ["Adversarial"]


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """A term of L: the student's outputs, or features, should be such as the teacher's could be for this input.

    Xu, Hsu and Huang, "Training Shallow and Thin Networks for Acceleration via Knowledge Distillation with Conditional
    Adversarial Networks" (ICLR workshop 2018), section 3: a discriminator instead of a fixed distance, which names the
    class as well. Of features: Chung et al., "Feature-map-level Online Adversarial Knowledge Distillation" (ICML 2020).
    Beside soft targets or labels, not alone.

    Attributes:
        weight: Of the loss.
        conditional: The discriminator sees the input.
        names_classes: The discriminator also names the class, and the student's outputs should let it.
        hidden: Its width.
        rate: Learning rate of its Adam.
        output: Name of the output; empty for the first.
        taps: Features instead of the output; the student's are brought to the teacher's width.
        classes: The output is a score of each class; None where it is [N, C] and the labels, if any, are no floats.
            False for embeddings.

    """

    weight: float = 1.0
    conditional: bool = True
    names_classes: bool = True
    hidden: int = 128
    rate: float = 1e-3
    output: str = ""
    taps: tuple[Tap, ...] = ()
    classes: bool | None = None
    held: Held = field(default_factory=Held, init=False, repr=False, compare=False)

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`; of the student."""
        critic: Any = built(self)
        with torch.set_grad_enabled(self.held.note(seen)):
            outputs, condition = self._outputs(seen)
            source, classes = critic(outputs.student, condition)
            loss = fooling_loss(source)
            return loss if classes is None else loss + functional.cross_entropy(classes.float(), _labels(outputs))

    def build(self, seen: BatchOutputs) -> nn.Module:
        """See `LearningTerm`."""
        outputs, condition = self._outputs(seen)
        named = seen.output(self.output).shape[1] if self.names_classes and outputs.classes is not None else 0
        return _Critic(outputs, condition.shape[1], self.hidden, named)

    def own_loss(self, seen: BatchOutputs, module: Any) -> Tensor:
        """See `LearningTerm`."""
        outputs, condition = self._outputs(seen)
        both = torch.cat([outputs.teacher, outputs.student.detach()])
        source, classes = module(both, torch.cat([condition, condition]))
        count = len(condition)
        loss = discriminator_loss(source[:count], source[count:])
        if classes is None:
            return loss
        return loss + functional.cross_entropy(classes.float(), _labels(outputs).repeat(2))

    def adapter(self, student: Tensor, teacher: Tensor | None) -> nn.Module | None:
        """See `FeatureTerm`."""
        return adapter_to(student, teacher)

    def _outputs(self, seen: BatchOutputs) -> tuple[Outputs, Tensor]:
        outputs = outputs_of(self, seen, self.output, self.taps, classes=self.classes)
        count = len(outputs.student)
        condition = condition_of(seen.feeds, count) if self.conditional else outputs.student.new_zeros((count, 0))
        return outputs, condition


class _Critic(nn.Module):
    def __init__(self, outputs: Outputs, condition: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.scaling = Scaling(outputs.teacher, centred=outputs.scores)
        self.net = Discriminator(outputs.teacher.shape[1], condition, hidden, classes)

    def forward(self, outputs: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores of where outputs [N, size] come from, and of their classes."""
        found: tuple[Tensor, Tensor | None] = self.net(self.scaling(outputs), condition)
        return found


def _labels(outputs: Outputs) -> Tensor:
    if outputs.labels is None:
        raise TypeError("no classes")
    return outputs.labels
