"""What is done to a PyTorch model: one step of a recipe's [[compress]] or of a command."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeport.contracts.distillation import StudentStep, uneven
from edgeport.errors import ContractError
from edgeport.options.declare import common_fields
from edgeport.options.precision import Precision
from edgeport.options.prune import PRUNED, PruneOptions, PruneSettings
from edgeport.options.training import LOSSES, SupervisedOptions

__all__ = ["LOSSES", "PRUNED", "CompressStep", "FineTuning", "PruneStep", "QatStep", "TrainedStep"]

_UNITS = PRUNED[:4]

_COUNTS = ("epochs", "batch_size", "processes")


@dataclass(frozen=True, kw_only=True)
class FineTuning(SupervisedOptions):
    """How a module is trained on.

    Attributes:
        epochs: Walks over the samples.
        rate: Learning rate of AdamW (Loshchilov and Hutter, 2019) at its highest; it falls as a cosine.
        teacher: Weight of the original model's outputs beside the labels, 0..1 (Hinton et al., "Distilling the
            Knowledge in a Neural Network", 2015).
        output: The output that the loss is of; empty for the first one.

    """

    epochs: int = 3
    rate: float = 1e-3
    teacher: float = 0.0
    output: str = ""

    def __post_init__(self) -> None:
        wrong = [f"{name} = {getattr(self, name)}" for name in _COUNTS if getattr(self, name) < 1]
        wrong += [] if self.batch_size % max(self.processes, 1) == 0 else [uneven(self.batch_size, self.processes)]
        wrong += [] if 0 < self.rate < math.inf else [f"a rate of {self.rate}"]
        wrong += [] if 0 <= self.weight_decay < math.inf else [f"a weight decay of {self.weight_decay}"]
        wrong += [] if 0 <= self.teacher <= 1 else [f"a teacher of weight {self.teacher}"]
        wrong += [] if self.temperature > 0 else [f"a temperature of {self.temperature}"]
        wrong += [] if 0 < self.held_out <= 0.5 else [f"{self.held_out} of the samples held out"]
        wrong += [] if self.mixed in ("fp32", "bf16", "fp16") else [f"the precision {self.mixed!r}"]
        if self.loss not in LOSSES and ":" not in self.loss:
            wrong.append(f"the loss {self.loss!r}")
        if wrong:
            raise ContractError(
                asked="train on",
                found=", ".join(wrong),
                fix=f"take a loss of {', '.join(LOSSES)} or pkg.mod:fn, counts of 1 or more, a batch that the "
                "processes share evenly, a positive rate and temperature, a teacher of 0 to 1, and hold out at most "
                "half of the samples",
            )


@dataclass(frozen=True, kw_only=True)
class TrainedStep:
    """What a training gave, on the samples that were held out of it.

    Attributes:
        before, after: `loss`, and `top1` where labels are classes.
        best_step, steps: When the best weights were found, and how many steps were done.

    """

    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    best_step: int = 0
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class PruneStep(PruneSettings):
    """A pruning.

    Attributes:
        method: As a recipe calls it.
        training: How it is trained after the last step, instead of by `fine_tune`; None for no training.

    """

    method: Literal["prune"] = "prune"
    training: FineTuning | None = None

    @classmethod
    def from_options(cls, options: PruneOptions, **goal: float | None) -> PruneStep:
        """The step that these options ask for, with another goal where one is given.

        Raises:
            ContractError: They can't be.

        """
        training = FineTuning(**common_fields(FineTuning, options)) if options.epochs else None
        return cls(**{**common_fields(PruneSettings, options), **goal}, training=training)

    def __post_init__(self) -> None:
        asked = f"prune {self.what}"
        if self.what not in PRUNED:
            raise ContractError(asked=asked, found="no such thing", fix=f"give one of {', '.join(PRUNED)}")
        goals = [goal for goal in (self.amount, self.latency_ns, self.speedup) if goal is not None]
        if self.what in ("2:4", "4:8"):
            if goals:
                raise ContractError(asked=asked, found="an amount, which the pattern says itself", fix="leave it out")
        elif len(goals) != 1:
            raise ContractError(
                asked=asked,
                found=f"{len(goals) or 'no'} goal{'s' if goals else ''}",
                fix="give one of amount, latency and speedup",
            )
        if self.measured:
            self._require_choice(f"{asked} for a latency")
        self._require_effect()
        if any(not 0 < goal < math.inf for goal in goals) or (self.speedup is not None and self.speedup <= 1):
            raise ContractError(
                asked=asked, found=f"a goal of {goals[0]:g}", fix="give a number above 0; a speedup above 1"
            )
        if self.fine_tune and self.training is not None:
            raise ContractError(
                asked=asked, found="a function that trains, and epochs", fix="give one of fine_tune and epochs"
            )
        if self.epochs_between < 0:
            raise ContractError(asked=asked, found=f"{self.epochs_between} epochs between steps", fix="give 0 or more")
        if self.samples < 2:
            raise ContractError(asked=asked, found=f"{self.samples} samples", fix="look at 2 or more")

    def _require_choice(self, asked: str) -> None:
        """Makes sure that latency can decide what goes."""
        if self.what not in _UNITS:
            raise ContractError(
                asked=asked,
                found="that only whole units make a network faster by a known amount",
                fix="prune units, or give an amount",
            )
        if self.scope != "global":
            raise ContractError(
                asked=asked,
                found=f"the scope {self.scope!r}, though units of all layers compete by the time that they save",
                fix="leave the scope out, or give an amount",
            )

    def _require_effect(self) -> None:
        """Makes sure that nothing is asked which would change nothing."""
        at_once = "units for a latency" if self.measured else self.what
        if self.schedule != "one-shot" and (self.measured or self.what not in (*_UNITS, "weights")):
            raise ContractError(
                asked=f"prune {at_once} by the schedule {self.schedule}",
                found="that they go one by one anyway" if self.what == "blocks" else "that they go all at once",
                fix="leave the schedule out" + (", or give an amount" if self.measured else ""),
            )
        if self.what == "blocks" and self.by != "l2":
            raise ContractError(
                asked=f"prune blocks by {self.by}",
                found="that blocks go by how little they change what runs through them",
                fix="leave the criterion out",
            )

    @property
    def variant(self) -> str:
        """What a model is after it, in a word."""
        return "pruned"

    @property
    def said(self) -> str:
        """In a few words."""
        goal = ""
        if self.latency_ns is not None:
            goal = f" to p50 <= {self.latency_ns / 1e6:.4g} ms"
        elif self.speedup is not None:
            goal = f" to {self.speedup:.4g}x the speed"
        elif self.amount is not None:
            goal = f" ({self.amount:.0f})" if self.what == "blocks" else f" ({self.amount:.0%})"
        by = "" if self.what == "blocks" else f" by {self.by}"
        learns = f", then {_epochs(self.training)}" if self.training is not None else ""
        return f"prune {self.what}{by}{goal}{learns}"

    @property
    def trains(self) -> bool:
        """Weights learn in it."""
        return self.training is not None or bool(self.fine_tune)

    @property
    def takes_samples(self) -> bool:
        """It looks at samples, or learns from them."""
        return True

    @property
    def functions(self) -> tuple[str, ...]:
        """What it may call of the user, as `pkg.mod:fn`; others among them are names of what is there."""
        return (self.fine_tune, self.training.loss if self.training is not None else "")

    @property
    def leaves_zeros(self) -> bool:
        """What it gives are zeros among the weights, which a later training would fill."""
        return self.what in ("weights", "2:4", "4:8")

    @property
    def measured(self) -> bool:
        """Whether measured latency decides how much goes."""
        return self.latency_ns is not None or self.speedup is not None


def _epochs(training: FineTuning) -> str:
    return f"{training.epochs} epoch{'' if training.epochs == 1 else 's'}"


def _qat_training() -> FineTuning:
    return FineTuning(epochs=3, rate=2e-5, weight_decay=0.0, teacher=1.0, average=0.99)


@dataclass(frozen=True, kw_only=True)
class QatStep:
    """A training with the rounding of each target's own plan; what comes of it is quantized by what it learned.

    Attributes:
        method: As a recipe calls it.
        precision: Of the plan: static int8, or integer weights alone.
        training: How.
        learn_ranges: The ranges of activations are learned too.
        device: That trains: "cpu", "cuda" or "auto".

    """

    method: Literal["qat"] = "qat"
    precision: Precision = Precision.INT8
    training: FineTuning = field(default_factory=_qat_training)
    learn_ranges: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.precision.has_fixed_integers:
            raise ContractError(
                asked=f"train with the rounding of {self.precision}",
                found="a precision without fixed integers",
                fix="take int8, int8-weights, or int4-weights-32 and its like",
            )

    @property
    def variant(self) -> str:
        """What a model is after it, in a word."""
        return "trained"

    @property
    def said(self) -> str:
        """In a few words."""
        return f"train with the rounding of {self.precision}, {_epochs(self.training)}"

    @property
    def trains(self) -> bool:
        """Weights learn in it."""
        return True

    @property
    def takes_samples(self) -> bool:
        """It learns from samples."""
        return True

    @property
    def functions(self) -> tuple[str, ...]:
        """As in `PruneStep`."""
        return (self.training.loss,)


CompressStep = PruneStep | StudentStep | QatStep
"""What may stand in a recipe's [[compress]]."""
