"""[[compress]] with method = "distill": who learns, how, and from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import DistillStep, ModelSource, Scale, StudentStep, TensorSpec, WithoutDataStep
from edgeport.errors import ContractError, DistillationError
from edgeport.options.declare import from_keys, to_keys
from edgeport.options.distill import DistillSettings, WithoutDataSettings
from edgeport.recipe.goals import goal_at, goal_text
from edgeport.recipe.locations import FILES, relative_text, spelled_location
from edgeport.recipe.source import named_source

if TYPE_CHECKING:
    from edgeport.recipe.errors import KeyPath, RecipeText

__all__ = ["check_made_inputs", "distill_keys", "read_distill"]

_OF_DATA = ("generations", "epochs", "augment", "clip_norm", "patience", "held_out", "processes")
_WITHOUT = ("steps", "values", "mirror")


def read_distill(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any], model: ModelSource) -> StudentStep:
    """The step that these keys say.

    Args:
        recipe: Whose folder paths start at.
        key: Of the block.
        values: By key, those that were not given too.
        model: That the recipe names.

    Raises:
        RecipeError: Keys that contradict each other, a student that is none, a term that is none.

    """
    _check_terms(recipe, key, values)
    try:
        return StudentStep(
            student=_student(recipe, key, values, model),
            scale=_scale(recipe, key, values),
            learning=_learning(recipe, key, values),
            device=values["device"],
            **_goal(recipe, key, values),
        )
    except ContractError as error:
        raise recipe.error((*key, "method"), f"can't be done: {error.asked}: {error.found}", error.fix) from error


def check_made_inputs(recipe: RecipeText, key: KeyPath, step: StudentStep, inputs: Sequence[TensorSpec]) -> None:
    """Makes sure that a generator knows what it is to make, where there is one.

    Raises:
        RecipeError: Not one input of float32 with a size for every axis but the batch, and a range.

    """
    if step.takes_samples:
        return
    shown = ", ".join(f"{one.name}: {one.dtype} {list(one.shape)}, range {one.value_range}" for one in inputs)
    whole = [
        one
        for one in inputs
        if one.dtype == "float32" and one.value_range is not None and all(isinstance(n, int) for n in one.shape[1:])
    ]
    if len(inputs) != 1 or len(whole) != 1 or len(whole[0].shape) <= 1:
        raise recipe.error(
            (*key, "without_data"),
            "needs to know what to make: one float32 input, its sizes, and the range of its values; "
            f"declared is {shown or 'nothing'}",
            'declare it: [inputs.image] with shape = ["batch", 3, 32, 32] and range = [0, 1]',
        )


def distill_keys(step: Any, folder: Path) -> dict[str, Any]:
    """What a block says of the step, by key; None for what is not given."""
    learning, student = step.learning, step.student
    weights = student.weights if student is not None else None
    return {
        "student": spelled_location(student.location, folder) if student is not None else None,
        "student_weights": relative_text(weights, folder) if weights is not None else None,
        "student_arguments": dict(student.arguments) if student is not None else {},
        "scale": {step.scale.argument: list(step.scale.values)} if step.scale is not None else {},
        "target": goal_text(step),
        **to_keys(DistillSettings, learning),
        **to_keys(WithoutDataSettings, learning),
        "L": list(learning.L),
        "R": list(learning.R),
        "device": step.device,
        "without_data": None if step.takes_samples else learning.method,
    }


def _check_terms(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any]) -> None:
    from edgeport.exporter.distill.loss_spec import REGULARISERS, TERMS, check_augment, check_term

    for name, known in (("L", TERMS), ("R", REGULARISERS)):
        for text in values[name]:
            try:
                check_term(text, known, labels=not values["without_data"])
            except DistillationError as error:
                raise recipe.wrong_value((*key, name), f"has {error.found}", error.fix) from error
    try:
        check_augment(values["augment"])
    except DistillationError as error:
        raise recipe.wrong_value((*key, "augment"), f"is {error.found}", error.fix) from error


def _student(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any], model: ModelSource) -> ModelSource | None:
    """The one that is named; of a scaled one that is not, the model's own code with random weights."""
    keys = {
        "source": (*key, "student"),
        "arguments": (*key, "student_arguments"),
        "weights": (*key, "student_weights"),
    }
    arguments, weights = values["student_arguments"], values["student_weights"]
    if values["student"] is None:
        for name in ("student_weights", "student_arguments"):
            if values[name] and not values["scale"]:
                raise recipe.error((*key, name), "is given, and no student", 'name it: student = "pkg.mod:factory"')
        if weights is not None:
            raise recipe.error((*key, "student_weights"), "can't suit every size", "remove it: weights are random")
        if not values["scale"]:
            return None
        return replace(model, weights=None, arguments={**model.arguments, **arguments})
    if values["student"].endswith(FILES):
        raise recipe.wrong_value(keys["source"], "is a graph, whose weights are fixed", "give pkg.mod:factory")
    return named_source(recipe, keys, values["student"], arguments=arguments, weights=weights)


def _scale(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any]) -> Scale | None:
    if values["target"] is not None and not values["scale"]:
        raise recipe.error(
            (*key, "target"),
            "is given, and nothing about the student that may be changed",
            "give an argument of its factory to choose: scale = { width = [8, 16, 32] }; or prune before, to a target",
        )
    for argument, sizes in values["scale"].items():
        return Scale(argument=argument, values=tuple(sizes))
    return None


def _goal(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any]) -> dict[str, Any]:
    goal = goal_at(recipe, (*key, "target"), values["target"])
    if "amount" in goal:
        raise recipe.wrong_value((*key, "target"), "is no latency", 'give "4x" or "p50 <= 5 ms"')
    return goal


def _learning(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any]) -> DistillStep | WithoutDataStep:
    given = recipe.values["compress"][key[1]]
    without = values["without_data"]
    for name in _OF_DATA if without else _WITHOUT:
        if name in given:
            why = "needs data" if without else "says how inputs are made without data"
            fix = "remove it, or without_data" if without else 'remove it, or add without_data = "fast"'
            raise recipe.error((*key, name), why, fix)
    if not without:
        return DistillStep(**from_keys(DistillSettings, values))
    from edgeport.exporter.distill.data_free.methods import method_named

    if values["mixed"] == "fp16":
        raise recipe.wrong_value((*key, "mixed"), "is nothing that a generator learns in", 'take "fp32" or "bf16"')
    names = [field.name for field in fields(WithoutDataSettings)]
    both = from_keys(DistillSettings, values) | from_keys(WithoutDataSettings, values)
    step = WithoutDataStep(**{name: both[name] for name in names if name in both}, method=without)
    method_named(step.method, step.values, step.steps)  # a value that it does not have
    return step
