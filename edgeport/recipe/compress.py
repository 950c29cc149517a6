"""[[compress]]: what is done to the PyTorch model, step by step, and which orders make no sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgeport.contracts import (
    CompressStep,
    FineTuning,
    ModelSource,
    Precision,
    Preprocessing,
    PruneStep,
    QatStep,
    StudentStep,
)
from edgeport.contracts.recipe import DataSpec, SamplesMade, Target
from edgeport.errors import ContractError, PruningError
from edgeport.options.declare import common_fields, from_keys, to_keys
from edgeport.options.prune import PruneOptions, PruneSettings
from edgeport.options.qat import QatOptions
from edgeport.options.training import SupervisedOptions
from edgeport.recipe.distill import check_made_inputs, distill_keys, read_distill
from edgeport.recipe.goals import goal_at, goal_text
from edgeport.recipe.locations import FILES

if TYPE_CHECKING:
    from edgeport.contracts import TensorSpec
    from edgeport.recipe.errors import KeyPath, RecipeText
    from edgeport.recipe.sections import RecipeFile

__all__ = ["LEARNING", "as_keys", "check_order", "steps_of"]

T = TypeVar("T")

LEARNING = tuple({**to_keys(SupervisedOptions, FineTuning()), "teacher": None})
"""Keys of a block that are settings of its training."""


def steps_of(
    recipe: RecipeText,
    sections: RecipeFile,
    *,
    source: ModelSource,
    data: DataSpec,
    targets: Sequence[Target],
    inputs: Sequence[TensorSpec],
) -> tuple[CompressStep, ...]:
    """The steps, each checked by itself, against the rest of the recipe, and against those before it.

    Raises:
        RecipeError: A goal that is none, an order that makes no sense, or no samples to learn from.

    """
    if not sections.compress:
        return ()
    _refuse_models(recipe, sections, inputs)
    steps: list[CompressStep] = []
    for index, section in enumerate(sections.compress):
        key = ("compress", index)
        steps.append(_READERS[section.method](recipe, key, section.model_dump(), source))
        _check_samples(recipe, key, steps[-1], data)
        if isinstance(steps[-1], StudentStep):
            check_made_inputs(recipe, key, steps[-1], inputs)
        _check_precision(recipe, key, steps[-1], targets)
    found = check_order(steps)
    if found is not None:
        index, why, fix = found
        raise recipe.error(("compress", index, "method"), why, fix)
    return tuple(steps)


def check_order(steps: Sequence[CompressStep]) -> tuple[int, str, str] | None:
    """Of the first step that stands in a senseless place: its index, why it is so, and what to do; None where none is.

    What a training with rounding gave fits one plan and one network: nothing may change the network after it. What is
    trained after single weights became zero would fill these again. A student learns from the model as it was, and what
    another network was made into before is of no use to it.
    """
    for index, step in enumerate(steps):
        if isinstance(step, StudentStep):
            if step.student is None and not steps[:index]:
                why = "distill stands first and names no student: who learns would be its own teacher"
                return index, why, 'put prune before it, or name a student: student = "pkg.mod:factory"'
            if step.student is not None and steps[:index]:
                why = (
                    f"distill takes another student ({step.student.location}) than what {steps[index - 1].method} "
                    "left, which would be thrown away"
                )
                return index, why, "put distill first, or leave student and scale out: what is left learns then"
        for before in steps[:index]:
            if isinstance(before, QatStep):
                why = (
                    f"{step.method} stands after qat: what qat learned are ranges and integers of the network as it "
                    "was then, and what comes after would change it"
                    if not isinstance(step, QatStep)
                    else "qat stands after qat: the second one would learn away from the integers of the first"
                )
                return index, why, "put qat last, and once"
            if isinstance(before, PruneStep) and before.leaves_zeros and _changes_weights(step):
                why = (
                    f"{step.method} stands after prune {before.what}: what trains or takes out units next would fill "
                    "or scatter the zeros that it left"
                )
                return index, why, f"put prune {before.what} last; it may train itself (epochs), its zeros stay zero"
    return None


def _changes_weights(step: CompressStep) -> bool:
    return not isinstance(step, PruneStep) or step.trains or not step.leaves_zeros


def _refuse_models(recipe: RecipeText, sections: RecipeFile, inputs: Sequence[TensorSpec]) -> None:
    source = sections.model.source
    if source.endswith(FILES):
        raise recipe.error(
            ("compress",),
            f"changes a PyTorch model, and {source} is a graph whose sizes and weights are fixed",
            'give the model: source = "pkg.mod:factory", with its weights',
        )
    if sections.state:
        raise recipe.error(
            ("compress",),
            "does not know models with a state, whose steps follow each other",
            "remove it; edgeport prune takes single steps of such a model",
        )
    folded = [one.name for one in inputs if isinstance(one.preprocessing, Preprocessing) and one.preprocessing.fold]
    if folded:
        raise recipe.error(
            ("compress",),
            f"learns from what the float model takes, and the preprocessing of {folded[0]!r} is folded into its graph",
            "remove fold from its preprocessing; it is done before the model then",
        )


def _check_samples(recipe: RecipeText, key: KeyPath, step: CompressStep, data: DataSpec) -> None:
    samples = data.learned_from
    if not step.takes_samples:
        return
    if samples is None:
        raise recipe.error(
            (*key, "method"), "has no samples to look at", 'give [data] training = "train.npz", or calibration'
        )
    if step.trains and isinstance(samples, SamplesMade):
        raise recipe.error(
            (*key, "method"),
            f"learns, and the samples are made up ([data] calibration = {samples.made!r})",
            'give [data] training = "train.npz"; without any data, leave training out (epochs = 0)',
        )


def _check_precision(recipe: RecipeText, key: KeyPath, step: CompressStep, targets: Sequence[Target]) -> None:
    if isinstance(step, QatStep) and not any(step.precision in target.precisions for target in targets):
        raise recipe.error(
            (*key, "precision"),
            f"is {step.precision}, and no target builds it",
            f'add "{step.precision}" to the precisions of a [[target]]',
        )


def _prune(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any], model: ModelSource) -> PruneStep:
    from edgeport.exporter.prune.steps import check_step

    del model
    goal = goal_at(recipe, (*key, "target"), values["target"])
    if "amount" in goal and values["structure"] in ("weights", "blocks"):
        raise recipe.wrong_value(
            (*key, "target"),
            f"is no goal for {values['structure']}",
            "give amount instead, such as amount = 0.5",
        )
    if values["amount"] is not None:
        if goal:
            raise recipe.error((*key, "amount"), "and target are both given", "remove one of the two")
        goal = {"amount": values["amount"]}
    options = PruneOptions(**from_keys(PruneOptions, values))
    step = _made(recipe, key, lambda: PruneStep.from_options(options, **goal))
    try:
        check_step(step)
    except PruningError as error:
        raise recipe.error((*key, "method"), f"can't be done: {error.asked}: {error.found}", error.fix) from error
    return step


def _qat(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any], model: ModelSource) -> QatStep:
    from edgeport.exporter.qat.options import default_rate, default_teacher

    del model
    options = QatOptions(**from_keys(QatOptions, values))
    precision = Precision(options.precision)
    chosen = replace(
        options,
        rate=default_rate(precision) if options.rate is None else options.rate,
        teacher=default_teacher(precision, options.loss) if options.teacher is None else options.teacher,
    )
    return _made(
        recipe,
        key,
        lambda: QatStep(
            precision=precision,
            training=FineTuning(**common_fields(FineTuning, chosen)),
            learn_ranges=options.learn_ranges,
            device=options.device,
        ),
    )


def _made(recipe: RecipeText, key: KeyPath, make: Callable[[], T]) -> T:
    try:
        return make()
    except ContractError as error:
        raise recipe.error((*key, "method"), f"can't be done: {error.asked}: {error.found}", error.fix) from error


_READERS: Mapping[str, Callable[[RecipeText, KeyPath, Mapping[str, Any], ModelSource], CompressStep]] = {
    "prune": _prune,
    "distill": read_distill,
    "qat": _qat,
}
"""Method to what reads its keys; each has its keys in `sections.COMPRESS`."""


def as_keys(step: CompressStep, folder: Path) -> dict[str, Any]:
    """The step as a block of a recipe in this folder says it, by key; None for what is not given."""
    return {"method": step.method, **_WRITERS[step.method](step, folder)}


def _training_keys(cls: type[Any], training: FineTuning | None) -> dict[str, Any]:
    return {"epochs": 0} if training is None else to_keys(cls, training)


def _prune_keys(step: PruneStep, folder: Path) -> dict[str, Any]:
    del folder
    return {
        **to_keys(PruneSettings, step),
        "target": goal_text(step),
        **_training_keys(PruneOptions, step.training),
    }


def _qat_keys(step: QatStep, folder: Path) -> dict[str, Any]:
    del folder
    return {
        **to_keys(QatOptions, step),
        "precision": str(step.precision),
        **_training_keys(QatOptions, step.training),
    }


_WRITERS: Mapping[str, Callable[[Any, Path], dict[str, Any]]] = {
    "prune": _prune_keys,
    "distill": distill_keys,
    "qat": _qat_keys,
}
"""Method to its keys, the reverse of `_READERS`."""
