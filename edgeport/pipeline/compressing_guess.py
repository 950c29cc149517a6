"""What the steps of a recipe's [[compress]] are called in progress, and how long each may take."""

from __future__ import annotations

from edgeport.contracts import CompressStep, PruneStep, QatStep
from edgeport.contracts.recipe import Recipe
from edgeport.exporter.prune.steps import trainings_of
from edgeport.pipeline.context import process_s
from edgeport.pipeline.pruning import MOST_TRIALS

__all__ = ["guess_s", "stage_names"]

_FIRST_GUESS_S = 12.0
_EXPORT_S = 15.0
_SAMPLES_PER_S = 1000.0
"""That a small network trains on; a guess until it runs."""
_GUESSED_SAMPLES = 5000


def stage_names(steps: tuple[CompressStep, ...]) -> list[str]:
    """One name for each step, as progress calls it: "prune", "qat", and "prune 2" for a second one."""
    names: list[str] = []
    for step in steps:
        count = sum(name.partition(" ")[0] == step.method for name in names)
        names.append(f"{step.method} {count + 1}" if count else step.method)
    return names


def guess_s(recipe: Recipe, samples: int = _GUESSED_SAMPLES) -> dict[str, float]:
    """Stage (with `_` for a space) to the seconds that it may take, for a small network on a small machine."""
    search = recipe.search
    found: dict[str, float] = {}
    for name, step in zip(stage_names(recipe.compress), recipe.compress, strict=True):
        seconds = _FIRST_GUESS_S
        if isinstance(step, QatStep):
            plans = sum(step.precision in target.precisions for target in recipe.targets)
            seconds += plans * step.training.epochs * samples / _SAMPLES_PER_S
        else:
            seconds += _EXPORT_S
            if isinstance(step, PruneStep) and step.measured:
                seconds += MOST_TRIALS * (_EXPORT_S / 2 + 2 * search.screening_rounds * process_s(search))
            if isinstance(step, PruneStep) and step.training is not None:
                seconds += sum(trainings_of(step)) * samples / _SAMPLES_PER_S
        found[name.replace(" ", "_")] = seconds
    return found
