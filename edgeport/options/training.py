"""How something is trained, whatever it is: pruned models, students, and models that learn a plan's rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgeport.options.declare import option

__all__ = ["LOSSES", "SEEDS", "SupervisedOptions", "TrainingOptions", "device_option"]

LOSSES = ("auto", "cross-entropy", "mse", "teacher")
"""Losses that have a name; any other one is `pkg.mod:fn`."""

SEEDS = 2**63


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Of every training on samples.

    Attributes:
        batch_size: Samples per step.
        weight_decay: Of the optimizer; for weights alone, not for biases and norms.
        mixed: Precision of the forward pass: "fp32", "bf16" or "fp16".
        average: Decay of the moving average of the weights; None for none.
        clip_norm: Largest norm of the gradient; None for any.
        patience: Evaluations without better weights after which it stops; None: never.
        held_out: Part of the samples that is not trained on, and says which weights are best.
        seed: Of the order of the samples, and of that part.
        processes: That share each batch: one per GPU, or on the CPU any number; more than one need Lightning Fabric.

    """

    batch_size: int = option(64, least=1, recipe="samples per step of a training")
    weight_decay: float = option(1e-4, least=0, recipe="of AdamW", within={"le": 1})
    mixed: Literal["fp32", "bf16", "fp16"] = option(
        "fp32", "While training.", recipe="of the forward pass while training"
    )
    average: float | None = option(
        None, "Decay of averaged weights.", above=0, below=1, recipe="decay of the moving average of the weights"
    )
    clip_norm: float | None = option(
        None,
        "Largest norm of the gradient.",
        above=0,
        recipe="largest norm of the gradient; any if missing",
        within={"le": 1e6},
    )
    patience: int | None = option(
        None,
        "Stop after so many epochs without better weights.",
        least=1,
        recipe="epochs without better weights after which a training stops; never if missing",
    )
    held_out: float = option(
        0.1, "That judges.", above=0, most=0.5, recipe="part of the samples that says which weights are best"
    )
    seed: int = option(0, recipe="of the order of the samples", within={"ge": 0, "lt": SEEDS})
    processes: int = option(
        1,
        "That share a batch: one per GPU.",
        least=1,
        recipe="of the training, which share each batch: one per GPU",
        within={"le": 4096},
    )


@dataclass(frozen=True, kw_only=True)
class SupervisedOptions(TrainingOptions):
    """Of a training with labels, with the outputs of the model as it was, or with both.

    Attributes:
        loss: "cross-entropy" (labels are classes), "mse" (labels are what the output should be), `pkg.mod:fn` (called
            with outputs by name and labels, gives a loss []), "teacher" (no labels: the original alone says what is
            right), or "auto": by what the labels are.
        temperature: That class scores are divided by before they are compared with the teacher's.

    """

    loss: str = option(
        "auto",
        "cross-entropy, mse, pkg.mod:fn, teacher (no labels), auto.",
        recipe="cross-entropy, mse, pkg.mod:fn (outputs by name and labels to a loss []), teacher (no labels), or "
        "auto: by what the labels are",
    )
    temperature: float = option(2.0, above=0, recipe="that class scores of both are divided by", within={"le": 1000})


def device_option(text: str = "") -> Any:
    """The field for the device that trains, with its help on the command line."""
    return option("auto", text, choices=("auto", "cpu", "cuda"), recipe="that trains")
