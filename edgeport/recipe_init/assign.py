"""Which arrays of a sample set are inputs, which are labels, and which says how long each sample is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from edgeport.contracts import Array, Arrays
from edgeport.errors import SamplesError, did_you_mean
from edgeport.exporter.nested_inputs import argument_paths
from edgeport.recipe_init.input_spec import Guess, Kind

__all__ = [
    "FROM_SAMPLES",
    "LABELS",
    "LENGTHS",
    "feeds_for",
    "kind_of",
    "labels_among",
    "require_target",
    "without_lengths",
]

LENGTHS = "lengths"
"""Name of an array that says how much of each sample is no padding."""

LABELS = ("label", "labels", "target", "targets", "y", "class", "classes")
"""Names that labels usually have."""

FROM_SAMPLES = "from the samples"
"""Why an input is known."""


def kind_of(name: str, dtype: str) -> tuple[Kind, float]:
    """How an input of this name and dtype is drawn, and its largest value."""
    if dtype == "bool" or "mask" in name.lower():
        return Kind.MASK, 1.0
    if "int" in dtype:
        return Kind.INTEGERS, 1.0
    return Kind.VALUES, 0.0


def feeds_for(
    arrays: Arrays, parameters: Sequence[str], required: Sequence[str], target: str = ""
) -> tuple[tuple[Guess, ...], list[str]]:
    """The inputs among arrays [N, ...], and the names of the others.

    By name where names are those of `forward`'s parameters, or of what lies in them ("batch.tokens" in a dict or
    dataclass `batch`); else in their order, labels left out.

    Args:
        arrays: The first samples.
        parameters: All names that the model takes, in order.
        required: Those that it must be given.
        target: Key of the labels, where the user named it.

    Raises:
        SamplesError: Fewer or more arrays than the model takes.

    """
    rest = {name: array for name, array in arrays.items() if name != target}
    if LENGTHS not in parameters and len(rest) > len(required):
        rest.pop(LENGTHS, None)
    paths = argument_paths(list(rest), parameters)
    parts = {name: [name] if name in rest else list(paths.get(name, {}).values()) for name in parameters}
    if all(parts.get(name) for name in required):
        chosen = [one for each in parts.values() for one in each]
    else:
        labels = labels_among(rest, count=len(rest) - len(required))
        chosen = [name for name in rest if name not in labels]
    if len(chosen) < len(required) or not chosen:
        raise SamplesError(
            asked=f"feed the samples' arrays {', '.join(arrays)} to the model",
            found=f"that it takes {', '.join(required)}",
            fix="name the arrays as the model's inputs, and give one for each (batch.tokens for what lies in a dict or "
            "dataclass `batch`); --target names the labels",
        )
    inputs = tuple(_guess(name, rest[name]) for name in chosen)
    return inputs, [name for name in arrays if name not in chosen]


def require_target(target: str, names: Collection[str], where: str) -> None:
    """Refuses a key of the labels, as the user named it, that is none of the names.

    Args:
        target: Empty where none was named.
        names: Of what there is.
        where: What has these names, for the error: "a table with the columns".

    Raises:
        SamplesError: It is none of them.

    """
    if not target or target in names:
        return
    raise SamplesError(
        asked=f"read the labels {target!r} (--target)",
        found=f"{where} {', '.join(map(repr, names))}",
        fix=did_you_mean(target, names, "name one of them"),
    )


def without_lengths(others: Sequence[str], inputs: Sequence[Guess], target: str = "") -> tuple[list[str], bool]:
    """The arrays that may be labels, the likeliest first; and whether `lengths` says how long samples are.

    It does where an input is of any length. Arrays that are called as labels are come before others, and `lengths` that
    says nothing of an input comes last.

    Args:
        others: Names of arrays that are no input.
        inputs: With the axes that may be free.
        target: Key of the labels, where the user named it.

    """
    likely = sorted(others, key=lambda name: (name == LENGTHS, name.lower() not in LABELS))
    if LENGTHS not in others or target == LENGTHS or not any(one.axes for one in inputs):
        return likely, False
    return [name for name in likely if name != LENGTHS], True


def labels_among(arrays: Mapping[str, Array], *, count: int) -> list[str]:
    """Up to `count` arrays that look like labels: whole numbers, one per sample; well-named ones first."""
    likely = [name for name, array in arrays.items() if _is_labels(array)]
    likely.sort(key=lambda name: name.lower() not in LABELS)
    return likely[: max(0, count)]


def _is_labels(array: Array) -> bool:
    return array.dtype.kind in "iu" and (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1))


def _guess(name: str, array: Array) -> Guess:
    kind, _ = kind_of(name, str(array.dtype))
    low, high = (float(array.min()), float(array.max())) if array.size and array.dtype.kind in "fiu" else (0.0, 1.0)
    finite = np.isfinite(low) and np.isfinite(high)
    return Guess(
        name=name,
        dtype=str(array.dtype),
        shape=tuple(array.shape[1:]),
        kind=kind,
        low=low if finite else 0.0,
        high=high if finite else 0.0,
        axes=_maybe_free(array),
        why=FROM_SAMPLES,
    )


def _maybe_free(array: Array) -> dict[int, str]:
    """The axis of a sequence: of tokens [N, T], and of frames [N, T, features]."""
    sequence = (array.ndim == 2 and array.dtype.kind in "iub") or array.ndim == 3
    return {1: "time"} if sequence else {}
