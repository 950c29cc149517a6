"""What the steps of a recipe's [[compress]] are called in progress, and how long each may take."""

from __future__ import annotations

import math

from edgeport.contracts import CompressStep, DistillStep, QatStep, StudentStep
from edgeport.contracts.recipe import Recipe
from edgeport.exporter.prune.steps import trainings_of
from edgeport.pipeline.compression.prune import MOST_TRIALS
from edgeport.pipeline.engine.context import process_s

__all__ = ["guess_s", "stage_names"]

_FIRST_GUESS_S = 12.0
_EXPORT_S = 15.0
_SAMPLES_PER_S = 1000.0
"""That a small network trains on; a guess until it runs."""
_GUESSED_SAMPLES = 5000
_WITH_TEACHER, _WITH_GENERATOR = 1.5, 4.0
"""Of the time without."""


def stage_names(steps: tuple[CompressStep, ...]) -> list[str]:
    """One name for each step, as progress calls it: "prune", "qat", and "prune 2" for a second one."""
    names: list[str] = []
    for step in steps:
        count = sum(name.partition(" ")[0] == step.method for name in names)
        names.append(f"{step.method} {count + 1}" if count else step.method)
    return names


def guess_s(recipe: Recipe, samples: int = _GUESSED_SAMPLES) -> dict[str, float]:
    """Stage (with `_` for a space) to the seconds that it may take, for a small network on a small machine."""
    return {
        name.replace(" ", "_"): _FIRST_GUESS_S + _of(step, recipe, samples)
        for name, step in zip(stage_names(recipe.compress), recipe.compress, strict=True)
    }


def _of(step: CompressStep, recipe: Recipe, samples: int) -> float:
    trial_s = _EXPORT_S / 2 + 2 * recipe.search.screening_rounds * process_s(recipe.search)
    if isinstance(step, QatStep):
        plans = sum(step.precision in target.precisions for target in recipe.targets)
        return plans * step.training.epochs * samples / _SAMPLES_PER_S
    if isinstance(step, StudentStep):
        trials = math.ceil(math.log2(len(step.scale.values) + 1)) + 1 if step.scale is not None else 0
        return _EXPORT_S + trials * trial_s + _learning_s(step, samples)
    seconds = _EXPORT_S + (MOST_TRIALS * trial_s if step.measured else 0.0)
    if step.training is not None:
        seconds += sum(trainings_of(step)) * samples / _SAMPLES_PER_S
    return seconds


def _learning_s(step: StudentStep, samples: int) -> float:
    how = step.learning
    if isinstance(how, DistillStep):
        return _WITH_TEACHER * how.generations * how.epochs * samples / _SAMPLES_PER_S
    return _WITH_GENERATOR * how.steps * how.batch_size / _SAMPLES_PER_S
