"""Output side, variational: a VAE models the teacher's outputs; its samples and its likelihood train the student."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport.exporter.distill.learned_losses.formulas import (
    evidence_bound,
    gaussian_divergence,
    gaussian_log_likelihood,
)
from edgeport.exporter.distill.learned_losses.networks import dense
from edgeport.exporter.distill.learned_losses.scaling import Scaling, adapter_to
from edgeport.exporter.distill.learned_losses.terms import Held, Outputs, built, outputs_of
from edgeport.exporter.distill.objective import BatchOutputs, Tap
from edgeport.exporter.train.teacher_losses import soft_targets

__all__ = ["OutputVae", "Variational"]

_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE = -6.0, 2.0


class OutputVae(nn.Module):
    """Outputs, given their class: codes to outputs, and back.

    Kingma and Welling, "Auto-Encoding Variational Bayes" (2014); with a class, Sohn et al., "Learning Structured Output
    Representation using Deep Conditional Generative Models" (2015). Normal outputs, whose variance is learned, one for
    each number.

    Args:
        size: Numbers of an output.
        classes: 0 for none.
        latent: Numbers of a code.
        hidden: Width.

    """

    def __init__(self, size: int, classes: int, latent: int, hidden: int) -> None:
        super().__init__()
        self._classes = classes
        self.encoder = dense(size + classes, hidden, 2 * latent, layers=1)
        self.decoder = dense(latent + classes, hidden, size, layers=1)
        self.log_variance = nn.Parameter(torch.zeros(size))

    def forward(self, values: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values float32 [N, size], classes int64 [N]: their bounds, nats [N], and a sample for each [N, size]."""
        mean, log_variance = self.encoder(self._with(values, classes)).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        decoded = self.decoder(self._with(code, classes)).float()
        spread = self.log_variance.clamp(_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE)
        bound = evidence_bound(
            gaussian_log_likelihood(values, decoded, spread), gaussian_divergence(mean, log_variance)
        )
        return bound, decoded + torch.randn_like(decoded) * (0.5 * spread).exp()

    def _with(self, values: Tensor, classes: Tensor | None) -> Tensor:
        if not self._classes or classes is None:
            return values
        return torch.cat([values, functional.one_hot(classes, self._classes).to(values.dtype)], dim=1)


@dataclass(frozen=True, kw_only=True)
class Variational:
    """A term of L: the student fits outputs that the VAE draws around the teacher's, and should be likely under it.

    Two parts. A sample is drawn for the code of the teacher's output, anew in each step: the student fits it (soft
    targets for classes, squared difference for all else). And the student's own output is looked at by the VAE: minus
    its bound of the log likelihood, per number, given the class that the teacher says. The VAE itself learns from the
    teacher's outputs alone.

    Attributes:
        weight: Of both.
        samples: Of the samples' part.
        likelihood: Of the other.
        temperature: Of the soft targets.
        latent: Numbers of a code.
        hidden: Width.
        rate: Learning rate of the VAE's Adam.
        output: Name of the output; empty for the first.
        taps: Features instead of the output.
        classes: As in `Adversarial`.

    """

    weight: float = 1.0
    samples: float = 1.0
    likelihood: float = 0.1
    temperature: float = 4.0
    latent: int = 8
    hidden: int = 64
    rate: float = 2e-3
    output: str = ""
    taps: tuple[Tap, ...] = ()
    classes: bool | None = None
    held: Held = field(default_factory=Held, init=False, repr=False, compare=False)

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`; of the student."""
        model: Any = built(self)
        with torch.set_grad_enabled(self.held.note(seen)):
            return self._loss(self._outputs(seen), model)

    def _loss(self, outputs: Outputs, model: Any) -> Tensor:
        parts = [outputs.student.sum() * 0.0]
        if self.samples:
            with torch.no_grad():
                _, drawn = model(outputs.teacher, outputs.classes)
            parts.append(self.samples * self._difference(outputs, model.scaling.back(drawn), model.scaling))
        if self.likelihood:
            bound, _ = model(outputs.student, outputs.classes)
            parts.append(-self.likelihood * bound.mean() / outputs.student.shape[1])
        return torch.stack(parts).sum()

    def build(self, seen: BatchOutputs) -> nn.Module:
        """See `LearningTerm`."""
        outputs = self._outputs(seen)
        classes = seen.output(self.output).shape[1] if outputs.classes is not None else 0
        return _Scaled(outputs, classes, self.latent, self.hidden)

    def own_loss(self, seen: BatchOutputs, module: Any) -> Tensor:
        """See `LearningTerm`."""
        outputs = self._outputs(seen)
        bound: Tensor = module(outputs.teacher, outputs.classes)[0]
        return -bound.mean() / outputs.teacher.shape[1]

    def adapter(self, student: Tensor, teacher: Tensor | None) -> nn.Module | None:
        """See `FeatureTerm`."""
        return adapter_to(student, teacher)

    def _outputs(self, seen: BatchOutputs) -> Outputs:
        return outputs_of(self, seen, self.output, self.taps, classes=self.classes)

    def _difference(self, outputs: Outputs, drawn: Tensor, scaling: Scaling) -> Tensor:
        if outputs.scores:
            return soft_targets(outputs.student, drawn, self.temperature)
        own: Tensor = scaling(outputs.student)
        other: Tensor = scaling(drawn)
        return functional.mse_loss(own, other)


class _Scaled(nn.Module):
    def __init__(self, outputs: Outputs, classes: int, latent: int, hidden: int) -> None:
        super().__init__()
        self.scaling = Scaling(outputs.teacher, centred=outputs.scores)
        self.model = OutputVae(outputs.teacher.shape[1], classes, latent, hidden)

    def forward(self, outputs: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs as they are: their bounds, and scaled samples."""
        found: tuple[Tensor, Tensor] = self.model(self.scaling(outputs), classes)
        return found
