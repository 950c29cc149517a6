"""What becomes of one file on one runtime, and how good its numbers are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import sqnr_db

LEAST_DB = 20.0
"""Integers of a single operator are some 30 to 45 dB from its floats where ranges fit; below this they are wrong."""
_MOST_LOST_DB = 12.0
_NOISE_DB = 6.0


class Outcome(StrEnum):
    """What becomes of a file."""

    INTEGERS = "int8"
    """It runs with integers, and its outputs are near those of the float file."""
    LOSSY = "int8, far from float"
    """So does this, and noise that grew from layer to layer drowns its last outputs: a run refuses it by accuracy."""
    FLOAT = "nothing to quantize"
    """Nothing gains by integers; the float file that is made then gives what the given one gives."""
    RUNTIME = "the runtime refuses the float file"
    LOW = "no float file"
    """An input or output is of 8-bit floats, or of integers or floats of 4 bits or fewer; refused by that name."""
    REFUSED = "refused"
    """By an error of Edgeport's own, though the runtime takes the float file."""
    WRONG = "wrong"
    """It ran, and gave something else."""
    FAULT = "fault"
    """An error that is none of Edgeport's own, a crash, or no end."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one file.

    Attributes:
        name: Of the case.
        runtime: That it was made for.
        outcome: See `Outcome`.
        step: At which it ended, where it was not the last.
        code: Of the error that refused it.
        found: What that error found, or what differs.
        sqnr_db: Of the worst float output of a node test, of the last one of an architecture; None without any.
        nodes: That run with integers.

    """

    name: str
    runtime: str
    outcome: Outcome
    step: str = ""
    code: str = ""
    found: str = ""
    sqnr_db: float | None = None
    nodes: int = 0


def share_refused(rows: Iterable[Row]) -> float:
    """Of the float files that a runtime takes, those that Edgeport refuses; 0 without any.

    Files that are no float files (`Outcome.LOW`) count on neither side.
    """
    taken = [row for row in rows if row.outcome not in (Outcome.RUNTIME, Outcome.LOW)]
    return sum(row.outcome is Outcome.REFUSED for row in taken) / max(len(taken), 1)


def compared(
    found: Mapping[str, NDArray[np.generic]], wanted: Mapping[str, NDArray[np.generic]]
) -> tuple[dict[str, float], list[str]]:
    """The signal-to-noise ratio of each float output in dB, in the order of `wanted`; and what can't be right.

    Integers, booleans and text must be equal, and what is not finite must be so in the same places.
    """
    if set(found) != set(wanted):
        return {}, [f"outputs {sorted(found)} instead of {sorted(wanted)}"]
    ratios: dict[str, float] = {}
    wrong: list[str] = []
    for name, right in wanted.items():
        got = found[name]
        if got.shape != right.shape or got.dtype.kind != right.dtype.kind:
            wrong.append(f"{name}: {got.dtype} {got.shape} instead of {right.dtype} {right.shape}")
        elif right.dtype.kind not in "fc":
            if not np.array_equal(got, right):
                wrong.append(f"{name}: {int(np.count_nonzero(got != right))} of {right.size} values differ")
        else:
            ratio = _ratio(got.astype(np.float64).ravel(), right.astype(np.float64).ravel())
            if ratio is None:
                wrong.append(f"{name}: other values than the float file's are not finite")
            else:
                ratios[name] = ratio
    return ratios, wrong


def _ratio(got: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    finite = np.isfinite(right)
    if not np.array_equal(np.isfinite(got), finite) or not np.array_equal(got[~finite], right[~finite], equal_nan=True):
        return None
    return sqnr_db(got[finite], right[finite])


def sudden(ratios: Sequence[float]) -> bool:
    """Whether some layer adds more noise than rounding does, of layers in the order of computation.

    The noise of a random network grows from layer to layer, slowly, until nothing else is left. A layer that is
    computed with the wrong integers leaves nothing of what came to it in good order.
    """
    if not ratios or ratios[0] < LEAST_DB:
        return True
    return any(after < min(_NOISE_DB, before - _MOST_LOST_DB) for before, after in pairwise(ratios))


def lossy(ratios: Sequence[float]) -> bool:
    """Whether the last output is mostly noise."""
    return ratios[-1] < _NOISE_DB
