"""What can be asked of quantization-aware training, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeport.contracts import LOSSES, OnnxModel, Precision, QuantizationPlan
from edgeport.contracts.distillation import uneven
from edgeport.errors import ContractError
from edgeport.exporter.train import TrainingSettings

__all__ = ["LOSSES", "QatOptions", "QatResult", "default_rate", "default_teacher"]


@dataclass(frozen=True, kw_only=True)
class QatOptions:
    """How to learn.

    Attributes:
        training: Of the loop.
        rate: Learning rate of AdamW (Loshchilov and Hutter, 2019) at its highest.
        loss: "cross-entropy" (labels are classes), "mse" (labels are what the output should be), `pkg.mod:fn` (called
            with outputs by name and labels, gives a loss []), "teacher" (no labels: the float model alone says what is
            right), or "auto": by what the labels are.
        teacher: Weight of the float model's own outputs beside the labels, 0..1 (Hinton et al., "Distilling the
            Knowledge in a Neural Network", 2015).
        temperature: That class scores are divided by before they are compared with the teacher's.
        output: The output that the loss is of; empty for the first one.
        learn_ranges: The ranges of activations are learned too, from those of the plan on.
        held_out: Part of the samples that is not trained on, and says which weights are best.
        processes: Of a child that trains, which share each batch: one per GPU, or on the CPU any number.

    """

    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(epochs=3, average=0.99))
    rate: float = 2e-5
    loss: str = "auto"
    teacher: float = 0.5
    temperature: float = 2.0
    output: str = ""
    learn_ranges: bool = True
    held_out: float = 0.1
    processes: int = 1

    def __post_init__(self) -> None:
        wrong = [] if self.rate > 0 else [f"a rate of {self.rate}"]
        wrong += [] if 0 <= self.teacher <= 1 else [f"a teacher of weight {self.teacher}"]
        wrong += [] if self.temperature > 0 else [f"a temperature of {self.temperature}"]
        wrong += [] if 0 < self.held_out <= 0.5 else [f"{self.held_out} of the samples held out"]
        if self.processes < 1 or self.training.batch_size % self.processes:
            wrong.append(uneven(self.training.batch_size, self.processes))
        if self.loss not in LOSSES and ":" not in self.loss:
            wrong.append(f"the loss {self.loss!r}")
        if wrong:
            raise ContractError(
                asked="train with the plan's rounding",
                found=", ".join(wrong),
                fix=f"take a loss of {', '.join(LOSSES)} or pkg.mod:fn, a positive rate and temperature, a teacher of "
                "0 to 1, a batch that the processes share evenly, and hold out at most half of the samples",
            )


def default_rate(precision: Precision) -> float:
    """A rate to begin with; of 4 bits weights have farther to go.

    On held-out training images of CIFAR-10, ResNet-20 learned nothing in int8 at 1e-4, and diverged in 4 bits at 3e-3.
    """
    form = precision.weight_form
    return 3e-4 if form is not None and form.stored == "int4" else 2e-5


def default_teacher(precision: Precision, loss: str) -> float:
    """How much the float model says beside the labels, where nobody asks for a share or a loss.

    Of 8 bits all of it: only the rounding is to be undone, and labels of samples that the network knows already lead it
    away from there. On 5,000 training images of CIFAR-10 that nobody learned from, ResNet-20 in int8 came from 0.16
    points below the float to 0.14 with half of it, and to 0.00 with all of it: one seed, one epoch, 8,000 samples at
    1e-5, by `edgeport qat --teacher`. More of it is `benchmarks.pruning --part qat`.
    """
    form = precision.weight_form
    wide = form is None or form.stored != "int4"
    return 1.0 if wide and loss == "auto" else 0.5


@dataclass(frozen=True, kw_only=True)
class QatResult:
    """What was learned.

    Attributes:
        model: The float model with the learned weights, each on the grid that the plan rounds it to, so that whoever
            quantizes it by the plan gets the very integers that were trained.
        plan: For that model, with the learned ranges.
        loss: Which loss was used, in words.
        before, after: Numbers on the samples that were held out, with the plan's rounding: `loss`, and `top1` where
            labels are classes.
        best_step, steps: When the best weights were found, and how many steps were done.
        stopped_early: No better ones came for a while.
        left_float: Nodes of the plan that could not be found in the PyTorch graph, and run in float now.
        fixed: How many weights could not be trained, since the export computes them from others.

    """

    model: OnnxModel
    plan: QuantizationPlan
    loss: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    best_step: int
    steps: int
    stopped_early: bool = False
    left_float: tuple[str, ...] = ()
    fixed: int = 0
    schema_version: int = 1
