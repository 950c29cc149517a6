"""What is known of a model that a recipe is written for."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.options.declare import option
from edgeport.options.source import SourceOptions

__all__ = ["InitOptions"]


@dataclass(frozen=True, kw_only=True)
class InitOptions(SourceOptions):
    """Of `edgeport.api.init`; what is not said is found.

    Attributes:
        samples: A `.npz`, `.npy`, `.csv` or folder to be split into calibration and evaluation; or a function.
        calibration: Samples that int8 ranges come from, instead.
        evaluation: Samples that candidates are judged on.
        target: Key of the labels.
        metric: Its name, or `pkg.mod:fn`.
        inputs: "NAME=batch,3,224,224" or "NAME=batch,time:int64", one per input.
        backends: Empty for those that can run here.
        accuracy_drop: Of the budget; None for what the samples can prove.
        latency: Of the budget, as "p50 <= 5 ms"; empty for none.
        quick: Few and short measurements, for a first look.
        force: Replace files that are there.

    """

    samples: str = option(
        "", ".npz, .npy, .csv or folder of images or .wav files, split for calibration and evaluation."
    )
    calibration: str = option("", "Instead: samples that int8 ranges come from.")
    evaluation: str = option("", "Instead: other samples, that candidates are judged on.")
    target: str = option("", "Key or column of the labels [default: found].")
    metric: str = option("", "As in a recipe [default: top1 with labels, else against the float model].")
    inputs: tuple[str, ...] = option(
        (), "image=batch,3,224,224 or ids=batch,16:int64.", flag="--input", metavar="NAME=SHAPE"
    )
    backends: tuple[str, ...] = option((), "A runtime, once for each [default: all that run here].", flag="--backend")
    accuracy_drop: float | None = option(None, "Largest loss against the float model [default: what can be proved].")
    latency: str = option("", 'Of the budget: "p50 <= 5 ms".')
    quick: bool = option(default=False, text="Few and short measurements, for a first look.")
    force: bool = option(default=False, text="Replace files that are there.")
