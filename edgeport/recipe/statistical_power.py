"""What a recipe's samples and rounds can prove at all, said before hours of work."""

from __future__ import annotations

from dataclasses import replace

from edgeport.accuracy import METRICS, least_samples
from edgeport.accuracy.agreement import are_class_scores
from edgeport.contracts import Precision, TensorSpec
from edgeport.contracts.recipe import DataSpec, Recipe, SamplesFolder, SamplesFunction, SamplesTable
from edgeport.errors import SamplesError, UnsafeFileError

__all__ = ["evaluation_count", "least_p_value", "thin_by_target", "thin_evidence"]

_CONFIDENCE = 0.95


def least_p_value(pairs: int) -> float:
    """Of Wilcoxon's signed-rank test over this many pairs, two-sided: all signs alike, 2 of 2^pairs outcomes."""
    return min(1.0, 2.0 ** (1 - pairs))


def evaluation_count(data: DataSpec) -> int | None:
    """Number of evaluation samples, from headers, names or lines; None where only reading the samples would tell.

    Where samples are the steps of sequences it is the number of these, for they are what counts as independent.
    """
    from edgeport.calibration.data import NpySamples, NpzSamples, TableSamples, list_folder

    location = data.evaluation
    if isinstance(location, SamplesFunction) or data.sequence != "":  # which begin anywhere
        return None
    try:
        if isinstance(location, SamplesFolder):
            return len(list_folder(location.path).files)
        if isinstance(location, SamplesTable):
            return len(TableSamples(location.path, {}))
        one = location.path.suffix.lower() == ".npy"
        return len(NpySamples(location.path, "input") if one else NpzSamples(location.path))
    except (SamplesError, UnsafeFileError):  # the run reads all of it, and says what is wrong
        return None


def thin_by_target(recipe: Recipe, count: int | None, *, quantized: bool = False) -> dict[str, str]:
    """`thin_evidence` of each name's own targets and budget; a sentence begins with the name where there is one."""
    found = {}
    for group in recipe.groups:
        own = replace(recipe, targets=group.targets, budget=group.budget, target_budgets={})
        thin = thin_evidence(own, count, quantized=quantized)
        found[group.name] = f"{group.name}: {thin}" if thin and group.name else thin
    return found


def thin_evidence(
    recipe: Recipe, count: int | None, judged: TensorSpec | None = None, *, quantized: bool = False
) -> str:
    """A sentence where so few samples can't prove the accuracy budget, even if every answer stays the same; else empty.

    Args:
        recipe: With its metric and budget.
        count: Of evaluation samples; None where it is not known.
        judged: The output that is judged, where the model is known already. Agreement counts right and wrong answers
            only where that are class scores.
        quantized: The model came so, and each runtime gets it as it is.

    """
    metric = METRICS.get(recipe.data.metric)
    # float32 that agrees with PyTorch needs no proof; everything else does.
    others = any(precision is not Precision.FP32 for target in recipe.targets for precision in target.precisions)
    if count is None or metric is None or not metric.proportion or not (others or quantized):
        return ""
    agreement = metric.name == "agreement"
    if agreement and (recipe.data.decode or (judged is not None and not are_class_scores(judged.dtype, judged.shape))):
        return ""
    drop = recipe.budget.accuracy_drop
    needed = least_samples(drop, sequences=bool(recipe.state))
    if needed is not None and count >= needed:
        return ""
    where = ", where outputs are class scores" if agreement and judged is None else ""
    wanted = f"{needed} or more are needed" if needed is not None else "no sensible number would do"
    what = "sequences" if recipe.state else "samples"
    then = (
        "The model came quantized: on every runtime it will be inconclusive, and ships all the same"
        if quantized
        else "Candidates other than fp32 will be inconclusive and not ship"
    )
    return (
        f"{count} evaluation {what} can't prove that {metric.name} drops by {drop:g} at most, even if no answer "
        f"changes{where}: {wanted}. {then}; give more samples, or allow a larger "
        "[budget] accuracy_drop."
    )
