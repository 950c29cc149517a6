"""The recovery methods: what a recipe or a caller chooses. What each does is in the files beside this one.

Two kinds: those that leave the float model's outputs as they are and are applied before the calibration, once for all
targets; and those that fit the constants to one target's plan.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeport.errors import CalibrationError

__all__ = [
    "RECOVERIES",
    "BiasCorrection",
    "Equalization",
    "Recovery",
    "Rounding",
    "Row",
    "Smoothing",
    "after_plan",
    "before_calibration",
    "describe",
    "recoveries_named",
]


@dataclass(frozen=True)
class BiasCorrection:
    """Each layer's bias takes up what the quantization of everything before shifted its mean output by.

    Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2 and
    appendix D (empirical bias correction); Banner et al., "Post Training 4-bit Quantization of Convolutional Networks
    for Rapid-Deployment" (2019), section 3.3.
    """


@dataclass(frozen=True)
class Equalization:
    """The weights of consecutive layers are made equally large, channel by channel.

    Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), section 4.1.

    Attributes:
        activation: "relu6" takes a Clip from 0 to an upper limit for a Relu where it stands between two layers; else
            such layers stay as they are. Empty for that.

    """

    activation: str = ""

    def __post_init__(self) -> None:
        if self.activation not in ("", "relu6"):
            raise CalibrationError(
                asked="equalize layers", found=f"{self.activation!r} behind equalization", fix="give relu6 or nothing"
            )


@dataclass(frozen=True)
class Smoothing:
    """What is hard to quantize in the inputs of products goes over to their weights.

    Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models" (2022).

    Attributes:
        strength: How much goes over, 0..1; the paper's alpha.

    """

    strength: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise CalibrationError(
                asked="smooth activations", found=f"a strength of {self.strength}", fix="give a number from 0 to 1"
            )


@dataclass(frozen=True)
class Rounding:
    """Weights are rounded up or down so that each layer's outputs stay near the float model's.

    Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (2020).

    Attributes:
        steps: Of the search, per layer.

    """

    steps: int = 500

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CalibrationError(asked="learn the rounding", found=f"{self.steps} steps", fix="give 1 or more")


Recovery = Equalization | Smoothing | Rounding | BiasCorrection


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method of the table.

    Attributes:
        name: In recipes and on the command line.
        arguments: What may stand behind the name: how many.
        kind: Of what stands there.
        form: An example of it as text, for messages.
        before_calibration: It leaves the float model's outputs as they are, and the calibration sees what it made.

    """

    name: str
    arguments: tuple[int, ...] = (0,)
    kind: type = float
    form: str
    before_calibration: bool = False


RECOVERIES: Mapping[type, Row] = {
    Equalization: Row(name="equalization", arguments=(0, 1), kind=str, form="equalization", before_calibration=True),
    Smoothing: Row(name="smoothing", arguments=(0, 1), form="smoothing:0.5", before_calibration=True),
    Rounding: Row(name="rounding", arguments=(0, 1), kind=int, form="rounding:500"),
    BiasCorrection: Row(name="bias-correction", form="bias-correction"),
}
"""Method to its row, in the order in which they are applied."""


def recoveries_named(texts: Iterable[str]) -> tuple[Recovery, ...]:
    """The methods of a recipe, in the order in which they are applied, whatever the order of their names.

    Raises:
        CalibrationError: No such method, the same one twice, or values that it does not take.

    """
    found = [_named(text) for text in texts]
    kinds = [type(one) for one in found]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise CalibrationError(
                asked=f"recover accuracy by {RECOVERIES[kind].name!r}", found="it named twice", fix="name it once"
            )
    return tuple(sorted(found, key=lambda one: list(RECOVERIES).index(type(one))))


def before_calibration(recoveries: Sequence[Recovery]) -> tuple[Recovery, ...]:
    """Those that the calibrated model is made by."""
    return tuple(one for one in recoveries if RECOVERIES[type(one)].before_calibration)


def after_plan(recoveries: Sequence[Recovery]) -> tuple[Recovery, ...]:
    """Those that fit the model to a plan."""
    return tuple(one for one in recoveries if not RECOVERIES[type(one)].before_calibration)


def describe(recovery: Recovery) -> str:
    """The method as a recipe names it, with all that may stand behind its name."""
    values = [value if isinstance(value, str) else f"{value:.12g}" for value in vars(recovery).values() if value != ""]
    return ":".join([RECOVERIES[type(recovery)].name, *values])


def _named(text: str) -> Recovery:
    name, *arguments = text.split(":")
    chosen = next((known for known, row in RECOVERIES.items() if row.name == name), None)
    try:
        if chosen is None:
            raise ValueError("no such method")
        if len(arguments) not in RECOVERIES[chosen].arguments:
            raise ValueError(f"{len(arguments)} values behind {name!r}")
        made: Recovery = chosen(*map(RECOVERIES[chosen].kind, arguments))
    except ValueError as error:
        near = difflib.get_close_matches(name, [row.name for row in RECOVERIES.values()], n=1)
        nearest = f"did you mean {near[0]!r}? " if near and near[0] != name else ""
        raise CalibrationError(
            asked=f"recover accuracy by {text!r}",
            found=str(error),
            fix=f"{nearest}give one of {', '.join(row.form for row in RECOVERIES.values())}",
        ) from error
    return made
