"""Whether the user's arrays are what a recipe takes: names, dtypes, labels; said before anything is written."""

from __future__ import annotations

from edgeport.accuracy.metrics import METRICS, Truth
from edgeport.contracts.recipe import SamplesFunction
from edgeport.errors import SamplesError
from edgeport.recipe_init.choices import ProvidedSamples
from edgeport.recipe_init.draft import RecipePlan
from edgeport.recipe_init.sample_formats import UNNAMED, SampleFormat
from edgeport.recipe_init.samples import FoundSamples

__all__ = ["converted", "nothing_takes", "require_fitting"]


def nothing_takes(plan: RecipePlan, given: ProvidedSamples) -> list[str]:
    """Arrays of the evaluation set that are no input and no labels, and say nothing of lengths or sequences."""
    return _left(plan, given.evaluation) if given.evaluation is not None else []


def converted(plan: RecipePlan, given: ProvidedSamples) -> dict[str, tuple[str, str]]:
    """Inputs whose arrays the written module converts: from which dtype, and to which, of the same kind."""
    if given.evaluation is None or not given.split:
        return {}
    return {name: both for name, both in _other_dtypes(plan, given.evaluation).items() if _alike(*both)}


def require_fitting(plan: RecipePlan, given: ProvidedSamples) -> None:
    """Makes sure that all inputs are fed, and that a set which a run reads as it is holds nothing that it can't use.

    A set that is split is read by a module, which takes what is needed, and converts numbers of the same kind.

    Raises:
        SamplesError: It is not so.

    """
    of_each = given.evaluation is not None and given.evaluation.has_target
    metric = METRICS.get(plan.metric)
    if of_each and not plan.labels_fit and metric is not None and metric.truth is Truth.EITHER:
        raise SamplesError(
            asked=f"judge by {plan.metric} with the labels of each sample",
            found=f"labels of another shape than the output's, {list(next(iter(plan.outputs.values())))}",
            fix="give samples without labels, to compare with the float model, or a metric of your own "
            "(--metric pkg.mod:function)",
        )
    for found, which in ((given.evaluation, "evaluation"), (given.calibration, "calibration")):
        if found is None:
            continue
        _require_dtypes(plan, found, split=given.split)
        if found.form is not SampleFormat.NAMED:
            continue
        names = _arrays(plan, found)
        lacking = [name for name in _beside(plan) if name not in names]
        if lacking:
            raise SamplesError(
                asked=f"feed the model from {found.text}",
                found=f"the arrays {', '.join(names)}, and none called {', '.join(lacking)}",
                fix=f"name the arrays as the model's inputs: {', '.join(one.name for one in plan.fed)}",
            )
        left = _left(plan, found)
        if left and not given.split:
            raise SamplesError(
                asked=f"take {found.text} for the {which} samples",
                found=f"the arrays {', '.join(names)}, of which nothing takes {', '.join(left)}",
                fix=_fix(plan, found),
            )


def _require_dtypes(plan: RecipePlan, found: FoundSamples, *, split: bool) -> None:
    for name, (has, takes) in _other_dtypes(plan, found).items():
        if split and _alike(has, takes):
            continue
        fix = f'convert it as in training: {name}.astype("{takes}")'
        if _alike(has, takes) and not isinstance(found.location, SamplesFunction):
            fix += "; or give one file as --samples, which is converted"
        raise SamplesError(
            asked=f"feed input {name!r} of dtype {takes} from {found.text}", found=f"dtype {has}", fix=fix
        )


def _arrays(plan: RecipePlan, found: FoundSamples) -> dict[str, str]:
    """Name to dtype of the arrays that are no labels of each sample; one without a name is the only input's."""
    dtypes = {name: dtype for name, dtype in found.facts.get("dtypes", {}).items() if name}
    if list(dtypes) == [UNNAMED] and len(plan.fed) == 1:
        return {plan.fed[0].name: dtypes[UNNAMED]}
    return dtypes


def _other_dtypes(plan: RecipePlan, found: FoundSamples) -> dict[str, tuple[str, str]]:
    """Inputs that arrays of another dtype would feed: what they are, and what the model takes."""
    dtypes = _arrays(plan, found)
    wanted = {one.name: (dtypes.get(one.name, one.dtype), one.dtype) for one in plan.fed}
    return {name: (has, takes) for name, (has, takes) in wanted.items() if has != takes}


def _alike(one: str, other: str) -> bool:
    """Both are floats, or both whole numbers with a sign."""
    kinds = {dtype.rstrip("0123456789") for dtype in (one, other)}
    return len(kinds) == 1 and kinds < {"float", "int"}


def _fix(plan: RecipePlan, found: FoundSamples) -> str:
    labels = "" if plan.target else ", or name it as the labels (--target)"
    if isinstance(found.location, SamplesFunction):
        return "let the function leave it out" + (
            ", or yield (inputs, labels) where it is the labels" if labels else ""
        )
    return f"leave it out of the file{labels}; or give one file as --samples, of which no more is read than is needed"


def _beside(plan: RecipePlan) -> list[str]:
    """What every set must hold."""
    sequence = [plan.sequence] if isinstance(plan.sequence, str) and plan.sequence else []
    return [*(one.name for one in plan.fed), *plan.lengths.values(), *sequence]


def _left(plan: RecipePlan, found: FoundSamples) -> list[str]:
    if found.form is not SampleFormat.NAMED:
        return []
    return [name for name in _arrays(plan, found) if name not in (plan.target, *_beside(plan))]
