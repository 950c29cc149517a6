"""The Python file that is written beside a recipe where no samples were given: random ones."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgeport.recipe_init.input_spec import Guess, Kind

__all__ = ["random_samples"]

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


def _text(text: str) -> str:
    return json.dumps(text)
