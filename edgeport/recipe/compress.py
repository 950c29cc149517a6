"""[[compress]]: what is done to the PyTorch model, step by step, and which orders make no sense."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from edgeport.contracts import CompressStep, FineTuning, Precision, Preprocessing, PruneStep, QatStep
from edgeport.contracts.recipe import DataSpec, SamplesMade, Target
from edgeport.errors import ContractError, PruningError, UsageError
from edgeport.recipe.quantities import NotAQuantity, parse_latency, parse_share

if TYPE_CHECKING:
    from edgeport.contracts import TensorSpec
    from edgeport.recipe.mistakes import KeyPath, RecipeText
    from edgeport.recipe.sections import RecipeFile

__all__ = ["LEARNING", "as_keys", "check_order", "median_ns", "read_goal", "steps_of", "trained_from"]

T = TypeVar("T")

LEARNING = (
    "batch_size",
    "weight_decay",
    "loss",
    "teacher",
    "temperature",
    "mixed",
    "average",
    "patience",
    "held_out",
    "seed",
)
"""Keys of a block that are settings of its training, by the same names."""

_GRAPHS = (".onnx", ".pt2")


def median_ns(text: str) -> float:
    """Nanoseconds of "p50 <= 5 ms" or "5 ms".

    Raises:
        UsageError: Another quantile, or no latency at all.

    """
    try:
        quantile, limit = parse_latency(text)
    except NotAQuantity as error:
        raise UsageError(asked=f"prune for the latency {text!r}", found="no latency", fix=f"give {error}") from error
    if quantile != 0.5:
        raise UsageError(
            asked=f"prune for the latency {text!r}",
            found="another quantile than the median",
            fix="give the median, and keep the others as a budget of the run",
        )
    return float(limit)


def read_goal(text: str) -> dict[str, float]:
    """The goal of a `PruneStep` that "macs <= 50 %", "2x" or "p50 <= 5 ms" says.

    Raises:
        UsageError: None of these.

    """
    speedup = re.fullmatch(r"\s*(?:speedup\s*(?:>=)?\s*)?(\d+(?:\.\d+)?)\s*[x×]\s*", text)  # noqa: RUF001 (people write it)
    if speedup is not None:
        return {"speedup": float(speedup[1])}
    macs = re.fullmatch(r"\s*macs\s*(?:<=|≤|<)\s*(.*)", text)
    if macs is not None:
        try:
            return {"amount": 1.0 - parse_share(macs[1])}
        except NotAQuantity as error:
            raise UsageError(asked=f"prune to {text!r}", found="no share", fix=f"give {error}") from error
    return {"latency_ns": median_ns(text)}


def steps_of(
    recipe: RecipeText,
    sections: RecipeFile,
    *,
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
        steps.append(_READERS[section.method](recipe, key, section.model_dump()))
        _check_samples(recipe, key, steps[-1], data)
        _check_precision(recipe, key, steps[-1], targets)
    found = check_order(steps)
    if found is not None:
        index, why, fix = found
        raise recipe.error(("compress", index, "method"), why, fix)
    return tuple(steps)


def check_order(steps: Sequence[CompressStep]) -> tuple[int, str, str] | None:
    """Of the first step that stands in a senseless place: its index, why it is so, and what to do; None where none is.

    What a training with rounding gave fits one plan and one network: nothing may change the network after it. What is
    trained after single weights became zero would fill these again.
    """
    for index, step in enumerate(steps):
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


def trained_from(steps: Sequence[CompressStep]) -> bool:
    """Some step learns."""
    return any(step.trains for step in steps)


def _refuse_models(recipe: RecipeText, sections: RecipeFile, inputs: Sequence[TensorSpec]) -> None:
    source = sections.model.source
    if source.endswith(_GRAPHS):
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


def _prune(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any]) -> PruneStep:
    from edgeport.exporter.prune.steps import check_step

    goal: dict[str, float] = {}
    if values["target"] is not None:
        try:
            goal = read_goal(values["target"])
        except UsageError as error:
            raise recipe.wrong_value((*key, "target"), f"is {error.found}", error.fix) from error
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
    step = _made(
        recipe,
        key,
        lambda: PruneStep(
            what=values["structure"],
            by=values["criterion"],
            schedule=values["schedule"],
            scope=values["scope"],
            round_to=values["round_to"],
            least=values["least"],
            samples=values["samples"],
            recalibrate=values["recalibrate"],
            fine_tune=values["fine_tune"],
            training=_training(values) if values["epochs"] else None,
            epochs_between=values["epochs_between"],
            device=values["device"],
            amount=goal.get("amount"),
            latency_ns=goal.get("latency_ns"),
            speedup=goal.get("speedup"),
        ),
    )
    try:
        check_step(step)
    except PruningError as error:
        raise recipe.error((*key, "method"), f"can't be done: {error.asked}: {error.found}", error.fix) from error
    return step


def _qat(recipe: RecipeText, key: KeyPath, values: Mapping[str, Any]) -> QatStep:
    from edgeport.exporter.qat.options import default_rate

    precision = Precision(values["precision"])
    rate = values["rate"] if values["rate"] is not None else default_rate(precision)
    return _made(
        recipe,
        key,
        lambda: QatStep(
            precision=precision,
            training=_training({**values, "rate": rate}),
            learn_ranges=values["learn_ranges"],
            device=values["device"],
        ),
    )


def _made(recipe: RecipeText, key: KeyPath, make: Callable[[], T]) -> T:
    try:
        return make()
    except ContractError as error:
        raise recipe.error((*key, "method"), f"can't be done: {error.asked}: {error.found}", error.fix) from error


def _training(values: Mapping[str, Any]) -> FineTuning:
    return FineTuning(epochs=values["epochs"], rate=values["rate"], **{name: values[name] for name in LEARNING})


_READERS: Mapping[str, Callable[[RecipeText, KeyPath, Mapping[str, Any]], CompressStep]] = {
    "prune": _prune,
    "qat": _qat,
}
"""Method to what reads its keys; each has its keys in `sections.COMPRESS`."""


def as_keys(step: CompressStep) -> dict[str, Any]:
    """The step as a block says it, by key; None for what is not given."""
    return {"method": step.method, **_WRITERS[step.method](step)}


def _keys_of_training(training: FineTuning | None) -> dict[str, Any]:
    if training is None:
        return {"epochs": 0}
    return {"epochs": training.epochs, "rate": training.rate, **{name: getattr(training, name) for name in LEARNING}}


def _pruned(step: Any) -> dict[str, Any]:
    goal = f"{step.speedup:.15g}x" if step.speedup is not None else None
    if step.latency_ns is not None:
        goal = f"p50 <= {step.latency_ns:.15g} ns"
    return {
        "structure": step.what,
        "criterion": step.by,
        "target": goal,
        "amount": step.amount,
        **{name: getattr(step, name) for name in ("schedule", "scope", "round_to", "least", "samples", "recalibrate")},
        "epochs_between": step.epochs_between,
        "fine_tune": step.fine_tune,
        "device": step.device,
        **_keys_of_training(step.training),
    }


def _learned(step: Any) -> dict[str, Any]:
    return {
        "precision": str(step.precision),
        "learn_ranges": step.learn_ranges,
        "device": step.device,
        **_keys_of_training(step.training),
    }


_WRITERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {"prune": _pruned, "qat": _learned}
"""Method to its keys, the reverse of `_READERS`."""
