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
    "Recovery",
    "Row",
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


Recovery = BiasCorrection


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method of the table.

    Attributes:
        name: In recipes and on the command line.
        arguments: Numbers behind the name: how many it may have.
        form: An example of it as text, for messages.
        before_calibration: It leaves the float model's outputs as they are, and the calibration sees what it made.

    """

    name: str
    arguments: tuple[int, ...] = (0,)
    form: str
    before_calibration: bool = False


RECOVERIES: Mapping[type, Row] = {
    BiasCorrection: Row(name="bias-correction", form="bias-correction"),
}
"""Method to its row, in the order in which they are applied."""


def recoveries_named(texts: Iterable[str]) -> tuple[Recovery, ...]:
    """The methods of a recipe, in the order in which they are applied, whatever the order of their names.

    Raises:
        CalibrationError: No such method, the same one twice, or numbers that it does not take.

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
    """The method as a recipe names it, with every number ("smoothing:0.5")."""
    values = [f"{value:.12g}" for value in vars(recovery).values()]
    return ":".join([RECOVERIES[type(recovery)].name, *values])


def _named(text: str) -> Recovery:
    name, *arguments = text.split(":")
    chosen = next((known for known, row in RECOVERIES.items() if row.name == name), None)
    try:
        if chosen is None:
            raise ValueError("no such method")
        if len(arguments) not in RECOVERIES[chosen].arguments:
            raise ValueError(f"{len(arguments)} numbers behind {name!r}")
        made: Recovery = chosen(*map(float, arguments))
    except ValueError as error:
        near = difflib.get_close_matches(name, [row.name for row in RECOVERIES.values()], n=1)
        nearest = f"did you mean {near[0]!r}? " if near and near[0] != name else ""
        raise CalibrationError(
            asked=f"recover accuracy by {text!r}",
            found=str(error),
            fix=f"{nearest}give one of {', '.join(row.form for row in RECOVERIES.values())}",
        ) from error
    return made
