"""Feeds in, outputs out, and whether the outputs are what they should be."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Dict, Sequence

import numpy as np

from edgeport.devices.agent.failure import JobError

Arrays = Dict[str, np.ndarray]


def load_arrays(path: str) -> Arrays:
    """The arrays of an `.npz` by name; nothing in it is unpickled.

    Raises:
        JobError: It is missing, damaged, or holds objects.

    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        raise JobError(
            "DEVICE_FAILED",
            "read arrays from " + Path(path).name,
            f"{type(error).__name__}: {error}",
            "push the file again",
        ) from error


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Writes an `.npz` in one step; unlike `numpy.savez` it takes any name, "file" too."""
    partial = path.with_name(path.name + ".part")
    with zipfile.ZipFile(str(partial), "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, values in arrays.items():
            with archive.open(name + ".npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(values), allow_pickle=False)
    partial.replace(path)


# Behind the name of an array whose samples differ in shape: int64 [N, axes] with the shape of each. The samples
# themselves are padded.
SHAPE = "#shape"


def sample_count(feeds: Arrays, state: Sequence[str] = ()) -> int:
    """Length of axis 0, which all feeds share but what a state begins with.

    Raises:
        JobError: There are no feeds, or their lengths differ.

    """
    lengths = {name: int(array.shape[0]) if array.ndim else -1 for name, array in feeds.items() if name not in state}
    if len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
        raise JobError(
            "SAMPLES_INVALID",
            "feed samples along axis 0",
            f"lengths {lengths}",
            "give each input the same number of samples, at least one",
        )
    return next(iter(lengths.values()))


def batch_of(feeds: Arrays, start: int, batch: int, state: Sequence[str] = ()) -> Arrays:
    """`batch` samples from `start` on; the last sample is repeated where there are fewer left.

    Every call has the same shape, because artifacts compiled for one batch size take no other. Padding is cut off, and
    what a state begins with is handed on as it is.

    Raises:
        JobError: The samples of the batch differ in shape.

    """
    count = sample_count(feeds, state)
    indexes = np.minimum(np.arange(start, start + batch), count - 1)
    taken = {}
    for name, array in feeds.items():
        if name.endswith(SHAPE):
            continue
        if name in state:
            taken[name] = array
            continue
        rows = array[indexes]
        if name + SHAPE in feeds:
            shapes = feeds[name + SHAPE][indexes]
            if (shapes != shapes[0]).any():
                raise JobError(
                    "SAMPLES_INVALID",
                    f"run a batch of {batch} samples",
                    f"shapes {sorted(set(map(tuple, shapes.tolist())))} of {name} in it",
                    "run samples of several shapes one at a time",
                )
            rows = rows[(slice(None), *tuple(slice(0, int(size)) for size in shapes[0]))]
        taken[name] = np.ascontiguousarray(rows)
    return taken


def joined(parts: list[Arrays]) -> Arrays:
    """Outputs of one call after the other; padded, with their shapes beside them, where samples differ in shape."""
    whole = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        shapes = [array.shape[1:] for array in arrays]
        if len(set(shapes)) == 1:
            whole[name] = np.concatenate(arrays)
            continue
        if len(set(map(len, shapes))) > 1:
            raise JobError(
                "BACKEND_FAILED",
                "keep output " + name + " of every sample",
                "another number of axes from sample to sample",
                "export the model with the same number of axes for all",
            )
        largest = tuple(int(size) for size in np.max(np.asarray(shapes), axis=0))
        padded = np.zeros((sum(map(len, arrays)), *largest), arrays[0].dtype)
        start = 0
        for array in arrays:
            padded[(slice(start, start + len(array)), *tuple(slice(0, size) for size in array.shape[1:]))] = array
            start += len(array)
        whole[name] = padded
        whole[name + SHAPE] = np.concatenate(
            [np.tile(np.asarray(array.shape[1:], np.int64), (len(array), 1)) for array in arrays]
        )
    return whole


def has_nan(outputs: Arrays) -> bool:
    """Some floating-point output holds NaN."""
    return any(array.dtype.kind in "fc" and np.isnan(array).any() for array in outputs.values())


def has_new_infinity(outputs: Arrays, before: Arrays) -> bool:
    """Some output holds an infinity where `before` has none; a mask that the model adds may be one rightly."""
    for name, array in outputs.items():
        infinite = np.isinf(array) if array.dtype.kind in "fc" else np.zeros(array.shape, dtype=bool)
        known = before.get(name)
        if known is not None and known.shape == array.shape and known.dtype.kind in "fc":
            infinite &= ~np.isinf(known)
        if infinite.any():
            return True
    return False


def largest_difference(outputs: Arrays, reference: Arrays, row: int = 0) -> tuple[float | None, list[str]]:
    """How far outputs are from the reference.

    Args:
        outputs: Of a call.
        reference: Expected; may hold more samples along axis 0, of which those from `row` on count.
        row: Index in the reference of the first sample of the outputs.

    Returns:
        Largest |output - reference| relative to the largest |reference| of that output (0 where both are equal), None
        where they can't be compared; and what can't be compared, in words.

    """
    worst = 0.0
    faults = []
    for name, wanted in sorted(reference.items()):
        if name.endswith(SHAPE):
            continue
        got = outputs.get(name)
        if got is not None and name + SHAPE in reference:
            shape = reference[name + SHAPE][row]
            wanted = wanted[(slice(None), *tuple(slice(0, int(size)) for size in shape))]  # noqa: PLW2901 (no padding)
        if got is not None and got.ndim == wanted.ndim - 1 == 0:
            got = got.reshape(1)  # a call of one sample gave one number
        if got is None:
            faults.append(f"output {name} is missing")
            continue
        if got.ndim and wanted.ndim and wanted.shape[0] > got.shape[0]:
            wanted = wanted[row : row + got.shape[0]]  # noqa: PLW2901 (the rows that this call computed)
        if got.shape != wanted.shape or (got.dtype.kind in "US") != (wanted.dtype.kind in "US"):
            faults.append(f"output {name} is {got.dtype} {got.shape}, not {wanted.dtype} {wanted.shape}")
            continue
        worst = max(worst, _relative_difference(got, wanted))
    return (None if faults else worst), faults


def _relative_difference(got: np.ndarray, wanted: np.ndarray) -> float:
    if got.size == 0 or np.array_equal(got, wanted):
        return 0.0
    if wanted.dtype.kind not in "fiu" or got.dtype.kind not in "fiu":
        return 1.0  # strings and booleans are equal or wrong
    wide_got, wide_wanted = got.astype(np.float64), wanted.astype(np.float64)
    if not np.array_equal(np.isfinite(wide_got), np.isfinite(wide_wanted)):
        return float(np.finfo(np.float64).max)  # a NaN or infinity where there was none, or the other way round
    finite = np.isfinite(wide_wanted)
    if not np.array_equal(wide_got[~finite], wide_wanted[~finite], equal_nan=True):
        return float(np.finfo(np.float64).max)  # an infinity of the other sign
    distance = float(np.max(np.abs(wide_got[finite] - wide_wanted[finite]), initial=0.0))
    scale = float(np.max(np.abs(wide_wanted[finite]), initial=0.0))
    return min(distance / max(scale, float(np.finfo(np.float32).tiny)), float(np.finfo(np.float64).max))
