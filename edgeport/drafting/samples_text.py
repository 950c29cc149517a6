"""The Python file that is written beside a recipe: random samples, or a file of samples split in two."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgeport.drafting.guess import Guess, Kind

__all__ = ["MODULE", "random_samples", "split_counts", "split_samples"]

MODULE = "edgeport_samples"

_RANDOM = '''\
"""Stand-in samples: random numbers of the right names, dtypes and shapes, so that the recipe runs at once.

Random: an accuracy judged on them means nothing for your task. What they show is how far a candidate agrees with the
float model on random data, and how fast it is. Int8 ranges that come from them are not those of your data.

Replace both functions: let each yield batches, as arrays by input name, or (arrays, labels). They must give the same
samples each time they are called, and share none.
"""

import numpy as np

{constants}

def calibration():
    """{calibration} samples, where int8 ranges come from."""
    return draw(seed=1, count={calibration})


def evaluation():
    """{evaluation} others, on which candidates are compared with the float model."""
    return draw(seed=2, count={evaluation})


def draw(seed, count, batch={batch}):
    """Batches of arrays by input name; axis 0 counts samples."""
    random = np.random.default_rng(seed)
    for start in range(0, count, batch):
        rows = min(batch, count - start)
        yield {{
{arrays}
        }}
'''

_MASK = '''

def mask(random, shape, dtype):
    """Ones up to a length of each sample, then zeros."""
    lengths = random.integers(shape[-1] // 2, shape[-1], (*shape[:-1], 1), endpoint=True)
    return (np.arange(shape[-1]) < lengths).astype(dtype)
'''

_SPLIT = '''\
"""Splits {file} in two: {calibration} samples, drawn at random, are for calibration, the others for evaluation."""

from pathlib import Path

import numpy as np

FILE = Path({path}){beside}
INPUTS = {inputs}
TARGET = {target}


def calibration():
    """Where int8 ranges come from."""
    return batches(for_calibration=True)


def evaluation():
    """How accuracy is judged; shares no sample with the calibration."""
    return batches(for_calibration=False)


def batches(for_calibration, size=32):
    """Batches of (arrays by input name, labels)."""
    with np.load(FILE) as file:
        arrays = {{name: file[name] for name in INPUTS}}
        labels = file[TARGET] if TARGET else None
    count = len(arrays[INPUTS[0]])
    order = np.random.default_rng(0).permutation(count)  # the same each time
    rows = np.sort(order[:{calibration}] if for_calibration else order[{calibration}:])
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        feeds = {{name: array[some] for name, array in arrays.items()}}
        yield feeds if labels is None else (feeds, labels[some])
'''

_EVERY = 4
_MOST_CALIBRATION = 256


def random_samples(inputs: Sequence[Guess], *, calibration: int, evaluation: int) -> str:
    """Text of a module with `calibration` and `evaluation`, which draw samples of these inputs."""
    used = _free_sizes(inputs)
    constants = "".join(
        f"{name.upper()} = {size}  # any size will do: the model leaves this axis free\n" for name, size in used.items()
    )
    arrays = "\n".join(f"            {_text(one.name)}: {_drawn(one)}," for one in inputs)
    text = _RANDOM.format(
        constants=constants + "\n" if constants else "",
        calibration=calibration,
        evaluation=evaluation,
        batch=32,
        arrays=arrays,
    )
    text = text.replace("import numpy as np\n\n\n\n", "import numpy as np\n\n\n")
    return text + (_MASK if any(one.kind is Kind.MASK for one in inputs) else "")


def _free_sizes(inputs: Sequence[Guess]) -> dict[str, int]:
    return {
        axis: one.shape[index - 1]
        for one in inputs
        for index, axis in one.axes.items()
        if axis.isidentifier() and axis.isascii()
    }


def _drawn(one: Guess) -> str:
    free = _free_sizes([one])
    sizes = [
        one.axes[index + 1].upper() if one.axes.get(index + 1) in free else str(size)
        for index, size in enumerate(one.shape)
    ]
    shape = f"({', '.join(['rows', *sizes])}{',' if not sizes else ''})"
    if one.kind is Kind.MASK:
        return f"mask(random, {shape}, {_text(one.dtype)})"
    if one.kind is Kind.INTEGERS:
        return f"random.integers({int(one.low)}, {int(one.high)}, {shape}, endpoint=True).astype({_text(one.dtype)})"
    if one.low < one.high:
        return f"random.uniform({one.low:g}, {one.high:g}, {shape}).astype({_text(one.dtype)})"
    return f"random.standard_normal({shape}).astype({_text(one.dtype)})"


def split_samples(path: str, inputs: Sequence[str], target: str, *, count: int) -> str:
    """Text of a module that splits a `.npz`.

    Args:
        path: Of the file; a relative one lies beside the module.
        inputs: Names of the arrays that the model takes.
        target: Of the labels, or empty.
        count: Of all samples in it.

    """
    absolute = path.startswith("/")
    return _SPLIT.format(
        file=path.rpartition("/")[2].replace('"', "'").replace("\\", "/"),
        path=_text(path) if absolute else "__file__",
        beside="" if absolute else f".parent / {_text(path)}",
        inputs=f"[{', '.join(map(_text, inputs))}]",
        target=_text(target) if target else "None",
        calibration=split_counts(count)[0],
    )


def split_counts(count: int) -> tuple[int, int]:
    """Samples for calibration and for evaluation of a file of `count`."""
    calibration = min(-(-count // _EVERY), _MOST_CALIBRATION)
    return calibration, count - calibration


def _text(text: str) -> str:
    return json.dumps(text)
