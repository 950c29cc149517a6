"""What the steps of a recipe's [[compress]] are called in progress, and how long each may take."""

from __future__ import annotations

import math

from edgeport.contracts import CompressStep, DistillStep, QatStep, StudentStep
from edgeport.contracts.recipe import Recipe, Search
from edgeport.exporter.prune.latency_search import MOST_TRIALS
from edgeport.exporter.prune.steps import trainings_of
from edgeport.pipeline.engine.context import RunContext

__all__ = ["guess_s", "guess_target", "process_s", "stage_names"]

_FIRST_GUESS_S = 12.0
_EXPORT_S = 15.0
_SAMPLES_PER_S = 1000.0
"""That a small network trains on; a guess until it runs."""
_GUESSED_SAMPLES = 5000
_WITH_TEACHER, _WITH_GENERATOR = 1.5, 4.0
"""Of the time without."""

_START_S = 0.9
"""Starting a process and loading a runtime."""


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


def process_s(search: Search) -> float:
    """Seconds that one measured process may take, for a guess of the time that many take."""
    return _START_S + search.cool_down_s + search.warmup_s + search.duration_s


def guess_stages(context: RunContext, count: int) -> None:
    """First guesses in seconds, for `count` candidates on a small machine; they are corrected while it runs."""
    context.clock.expect(samples=1, export=12, verify=2, calibrate=4)
    if context.recipe.compress:
        context.clock.expect(**guess_s(context.recipe))
    if any(target.tune_s for target in context.recipe.targets):
        context.clock.expect(tune=sum(target.tune_s or 0.0 for target in context.recipe.targets))
    guess_target(context, count, later=0)


def guess_target(context: RunContext, count: int, *, later: int) -> None:
    """As `guess_stages`, for the `count` candidates of one name, and `later` ones of those that come after it."""
    search = context.recipe.search
    each_s = process_s(search)
    context.clock.expect(compile=1.5 * count, validate=1.5 * count, bundle=3, roofline=6)
    context.clock.expect(screen=search.screening_rounds * count * each_s, confirm=search.rounds * 2.5 * each_s)
    if context.recipe.budget.throughput_per_s is not None:
        context.clock.expect(throughput=search.screening_rounds * min(count, 3) * each_s)
    context.clock.expect(later_targets=later * (3 + search.screening_rounds * each_s))
