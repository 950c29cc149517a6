"""An input of which all is known that samples of it can be drawn from, and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from edgeport.contracts import Array

__all__ = ["Guess", "Kind", "draw", "guess_from_json"]


class Kind(StrEnum):
    """How values of an input are drawn."""

    VALUES = "values"
    """Real numbers: normal around 0, or even over the range where there is one."""
    INTEGERS = "integers"
    """Whole numbers of the range: tokens, classes, positions."""
    MASK = "mask"
    """Ones up to a length of each sample, then zeros."""
    STATE = "state"
    """Zeros: what a state begins with."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One input.

    Attributes:
        name: Of the parameter of `forward`, or of the ONNX input.
        dtype: numpy's name of it.
        shape: Of one sample, without the batch.
        kind: How values are drawn.
        low, high: Smallest and largest value; both 0 where that is not known.
        axes: Axis (1 for the first behind the batch) to its name, where it may be free.
        why: How that is known, for the recipe's comment.
        batch_axis: Where the batch stands; 0 but for states.

    """

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    kind: Kind = Kind.VALUES
    low: float = 0.0
    high: float = 0.0
    axes: Mapping[int, str] = field(default_factory=dict)
    why: str = ""
    batch_axis: int = 0

    @property
    def declared(self) -> tuple[int | str, ...]:
        """The shape as a recipe has it, with a free batch."""
        return self.batched("batch")

    def batched(self, batch: int | str) -> tuple[int | str, ...]:
        """The shape with this batch, and names for free axes."""
        sizes: list[int | str] = [self.axes.get(index + 1, size) for index, size in enumerate(self.shape)]
        return (*sizes[: self.batch_axis], batch, *sizes[self.batch_axis :])

    def resized(self, sizes: Mapping[str, int]) -> Guess:
        """The same with other sizes of its free axes, by their names."""
        shape = tuple(sizes.get(self.axes.get(index + 1, ""), size) for index, size in enumerate(self.shape))
        return replace(self, shape=shape)


def guess_from_json(values: Mapping[str, Any]) -> Guess:
    """What `to_jsonable` made of one."""
    return Guess(
        name=values["name"],
        dtype=values["dtype"],
        shape=tuple(values["shape"]),
        kind=Kind(values["kind"]),
        low=values["low"],
        high=values["high"],
        axes={int(index): name for index, name in values["axes"].items()},
        why=values["why"],
        batch_axis=values["batch_axis"],
    )


def draw(guesses: Iterable[Guess], batch: int, seed: int = 0) -> dict[str, Array]:
    """Random samples: arrays [batch, ...] by input name; the same for the same seed."""
    random = np.random.default_rng(seed)
    return {
        guess.name: _drawn(guess, (*guess.shape[: guess.batch_axis], batch, *guess.shape[guess.batch_axis :]), random)
        for guess in guesses
    }


def _drawn(guess: Guess, shape: Sequence[int], random: np.random.Generator) -> Array:
    if guess.kind is Kind.STATE:
        return np.zeros(shape, guess.dtype)
    if guess.kind is Kind.MASK:
        lengths = random.integers(max(1, shape[-1] // 2), shape[-1] + 1, (*shape[:-1], 1))
        return np.asarray(np.arange(shape[-1]) < lengths).astype(guess.dtype)
    if guess.kind is Kind.INTEGERS:
        return random.integers(int(guess.low), int(guess.high) + 1, shape).astype(guess.dtype)
    if guess.low < guess.high:
        return random.uniform(guess.low, guess.high, shape).astype(guess.dtype)
    return random.standard_normal(shape).astype(guess.dtype)
