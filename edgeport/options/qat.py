"""How a model learns with the rounding of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeport.options.declare import option
from edgeport.options.precision import Precision
from edgeport.options.training import SupervisedOptions, device_option

__all__ = ["QatOptions"]

_LEARNED = tuple(str(one) for one in Precision if one is Precision.INT8 or one.weight_form is not None)


@dataclass(frozen=True, kw_only=True)
class QatOptions(SupervisedOptions):
    """Of `edgeport.api.qat`.

    Attributes:
        backend: Of the target; the recipe's first if empty.
        precision: "int8", or one of weights alone ("int4-weights-32", ...).
        samples: To learn from: `.npz` (the labels are the recipe's `target` in it), a folder, or `pkg.mod:fn`, from
            which ranges come too; None for the recipe's training samples, or where it has none its calibration
            samples.
        epochs: Walks over the samples.
        rate: Highest learning rate, of AdamW; None for 2e-5, and 3e-4 for weights of 4 bits.
        teacher: Weight of the float model's outputs beside the labels, 0..1; None, where the loss is "auto", for 1 of
            8 bits, else for 0.5.
        learn_ranges: The ranges of activations are learned too.
        device: That trains: "cpu", "cuda" or "auto".

    """

    backend: str = option("", "Of the target [default: the recipe's first].")
    precision: str = option("int8", choices=_LEARNED, recipe="of the plan; one that the targets build")
    samples: Path | str | None = option(
        None, "To learn from: .npz, a folder or pkg.mod:fn [default: the recipe's training samples].", parse="samples"
    )
    epochs: int = option(3, least=1, recipe="walks over the training samples")
    rate: float | None = option(
        None,
        "Highest learning rate [default: 2e-5; 3e-4 for 4 bits].",
        above=0,
        recipe="learning rate of AdamW at its highest",
        within={"le": 10},
    )
    weight_decay: float = option(0.0, least=0, recipe="of AdamW", within={"le": 1})
    teacher: float | None = option(
        None,
        "Weight of the float model's outputs beside the labels [default: 1; 0.5 for 4 bits, and beside a --loss].",
        least=0,
        most=1,
        recipe="weight of the float model's outputs beside the labels; by precision and loss",
    )
    average: float | None = option(0.99, above=0, below=1, recipe="decay of the moving average of the weights")
    learn_ranges: bool = option(default=True, recipe="the ranges of activations are learned too")
    device: str = device_option()
