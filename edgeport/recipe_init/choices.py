"""What is chosen from what was found: metric, budget, number of samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeport.accuracy import METRICS, least_samples
from edgeport.contracts import Capabilities, ModelSource
from edgeport.recipe_init.assign import LENGTHS
from edgeport.recipe_init.columns import Columns
from edgeport.recipe_init.draft import InitRequest, RecipePlan
from edgeport.recipe_init.image_preprocessing import Pixels
from edgeport.recipe_init.input_spec import Guess, guess_from_json
from edgeport.recipe_init.sample_formats import SampleFormat
from edgeport.recipe_init.samples import FoundSamples
from edgeport.recipe_init.split_text import split_counts
from edgeport.recipe_init.state_detection import SEQUENCES, first_quarter

__all__ = ["DROPS", "ProvidedSamples", "choose"]

DROPS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Of metrics of right and wrong; the smallest that the samples can prove is taken."""

_SECONDS, _SECONDS_QUICK = 20.0, 3.0
_MOST_BYTES = 128 << 20
_STEPS = 8
"""Of a sequence of random samples."""
_FEWEST, _MOST, _MOST_QUICK = 40, 512, 128


@dataclass(frozen=True, kw_only=True)
class ProvidedSamples:
    """The samples that the user gave, if any; `split` where one file is to be both."""

    calibration: FoundSamples | None = None
    evaluation: FoundSamples | None = None
    split: bool = False


def choose(
    asked: InitRequest,
    written: str,
    source: ModelSource,
    given: ProvidedSamples,
    found: Mapping[str, Any],
    backends: tuple[Capabilities, ...],
) -> RecipePlan:
    """All that the recipe says; `found` is what the child that looked at the model returned."""
    inputs = tuple(guess_from_json(one) for one in found["inputs"])
    outputs = {name: tuple(shape) for name, shape in found["outputs"].items()}
    labels, sequence = _sequence(asked, given, found)
    output = "logits" if "logits" in outputs and next(iter(outputs)) != "logits" else ""
    judged = outputs[output or next(iter(outputs))]
    taken = _labels(asked, given, labels, judged)
    classes = _classes(given)
    metric, why = _metric(asked, judged, labelled=taken.given and taken.fit, classes=len(classes))
    count, independent = _counts(asked, given, inputs, found, sequence)
    whole = given.evaluation is not None and not given.split
    lengths = _lengths(inputs) if found["lengths"] else {}
    return RecipePlan(
        asked=asked,
        written=written,
        source=source,
        inputs=inputs,
        outputs=outputs,
        dynamic_batch=found["dynamic_batch"],
        fixed_batch=found["fixed_batch"],
        legacy=found["legacy"],
        ranges={name: (low, high) for name, (low, high) in found["ranges"].items()},
        calibration=_calibration(asked, given),
        evaluation=given.evaluation.text
        if whole and given.evaluation is not None
        else f"{asked.samples_module}:evaluation",
        stand_in=given.evaluation is None,
        count=count,
        independent=independent,
        target=taken.key,
        labels_fit=taken.fit,
        lengths=lengths,
        form=SampleFormat.NAMED if given.evaluation is None else given.evaluation.form,
        columns=_columns(found["columns"]),
        pixels=None if found["pixels"] is None else Pixels(**found["pixels"]),
        # A function gives sounds one by one, so that a model of any length hears each as it is.
        cut=bool(found["cut"]) and not (given.split and inputs[0].axes),
        sample_rate=given.evaluation.facts.get("rate") if whole and given.evaluation is not None else None,
        classes=classes,
        metric=metric,
        output=output,
        accuracy_drop=_drop(asked, metric, independent, float(found["spread"]), sequences=bool(found["state"])),
        why_metric=why,
        backends=backends,
        state=found["state"],
        sequence=sequence,
        constants=found["constants"],
        stateful=found["stateful"],
        notes=tuple(found["notes"]),
    )


def _calibration(asked: InitRequest, given: ProvidedSamples) -> str:
    if given.evaluation is None or given.split:
        return f"{asked.samples_module}:calibration"
    return given.calibration.text if given.calibration is not None else ""


def _sequence(asked: InitRequest, given: ProvidedSamples, found: Mapping[str, Any]) -> tuple[list[str], str | int]:
    """Arrays that may be labels, and what says where sequences begin; a whole set is one where nothing does."""
    labels: list[str] = list(found["labels"])
    if not found["state"]:
        return labels, ""
    named = (name for name in labels if name.lower() in SEQUENCES and name != asked.target)
    key = next(named, "") if found["columns"] is None else found["columns"]["sequence"]
    if given.evaluation is None:
        return labels, _STEPS
    return [name for name in labels if name != key], key or given.evaluation.count


@dataclass(frozen=True, kw_only=True)
class _Labels:
    """Labels that samples come with.

    Attributes:
        key: Array or column that holds them; empty where each sample comes with its own, or there are none.
        given: There are some.
        fit: The output can be judged by them: an index or a one-hot row per sample for scores of classes, as many
            values as it has for other outputs.

    """

    key: str
    given: bool
    fit: bool


def _labels(asked: InitRequest, given: ProvidedSamples, arrays: Sequence[str], shape: tuple[int, ...]) -> _Labels:
    """Where the labels are; values that fit no output but scores are for nothing, unless the user says otherwise."""
    found = given.evaluation
    of_each = found is not None and found.has_target
    key = "" if of_each or found is None else asked.target or next(iter(arrays), "")
    if found is not None and not found.facts.get("by_key", True):
        key = ""
    shapes = found.facts.get("arrays", {}) if found is not None else {}
    if found is None or not (of_each or key) or key not in shapes:
        return _Labels(key=key, given=of_each or bool(key), fit=True)
    if _are_scores(shape):
        return _Labels(key=key, given=True, fit=found.facts["labels"].get(key) in (1, shape[0]))
    fit = math.prod(shapes[key]) == math.prod(shape)
    named = bool(asked.target or asked.metric)
    return _Labels(key=key if fit or named else "", given=fit or named or of_each, fit=fit)


def _are_scores(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 and shape[0] >= 2


def _counts(
    asked: InitRequest, given: ProvidedSamples, inputs: Sequence[Guess], found: Mapping[str, Any], sequence: str | int
) -> tuple[int, int]:
    """Evaluation samples, and how many of them are independent of each other: the sequences, where they are steps."""
    count = _count(asked, given, inputs, float(found["seconds"]))
    if not found["state"]:
        return count, count
    if given.evaluation is None:
        count = max(count, _FEWEST * _STEPS)
        count -= count % _STEPS
        return count, count // _STEPS
    every = given.evaluation.count
    known = given.evaluation.facts.get("sequences", {})
    total, behind, rest = known.get(sequence, (1, 1, every - first_quarter([], every)))
    return (rest, behind) if given.split else (count, total)


def _classes(given: ProvidedSamples) -> tuple[str, ...]:
    return tuple(given.evaluation.facts.get("classes") or ()) if given.evaluation is not None else ()


def _columns(found: Mapping[str, Any] | None) -> Columns | None:
    if found is None:
        return None
    inputs = {name: of if isinstance(of, str) else tuple(of) for name, of in found["inputs"].items()}
    return Columns(
        inputs=inputs,
        target=found["target"],
        lengths=found["lengths"],
        left=tuple(found["left"]),
        sequence=found["sequence"],
    )


def _lengths(inputs: Sequence[Guess]) -> dict[str, str]:
    """The first free axis that the export kept has the sizes which the samples say."""
    axes = [name for one in inputs for _, name in sorted(one.axes.items()) if "*" not in name]
    return dict.fromkeys(axes[:1], LENGTHS)


def _metric(asked: InitRequest, shape: tuple[int, ...], *, labelled: bool, classes: int) -> tuple[str, str]:
    """The metric, and why: labels and class scores, class scores, a vector, a number."""
    if asked.metric:
        return asked.metric, "as --metric says"
    scores = _are_scores(shape)
    if scores and classes > shape[0]:
        return (
            "agreement",
            f"{classes} class folders are more than the {shape[0]} scores, so they are no labels of them",
        )
    if labelled and scores:
        return "top1", "labels, and one score per class"
    if scores:
        return "agreement", "is the largest score the float model's? With labels: top1"
    truth = "labels" if labelled else "float model's"
    if math.prod(shape) > 1:
        return "cosine", f"of the outputs with the {truth}"
    return "mae", f"of the output against the {truth}"


def _count(asked: InitRequest, given: ProvidedSamples, inputs: Sequence[Guess], seconds: float) -> int:
    """Evaluation samples: as many as there are; of random ones as many as take half a minute, at most 512."""
    if given.evaluation is not None:
        return split_counts(given.evaluation.count)[1] if given.split else given.evaluation.count
    size = sum(8 * math.prod(one.shape) for one in inputs)
    affordable = (_SECONDS_QUICK if asked.quick else _SECONDS) / max(seconds, 1e-6)
    most = _MOST_QUICK if asked.quick else _MOST
    return max(_FEWEST, min(most, int(affordable), _MOST_BYTES // max(size, 1)))


def _drop(asked: InitRequest, metric: str, count: int, spread: float, *, sequences: bool) -> float:
    """The smallest usual drop that so many samples, or sequences, can prove; of an error, 5 % of outputs' spread."""
    if asked.accuracy_drop is not None:
        return asked.accuracy_drop
    known = METRICS.get(metric)
    if metric in ("mae", "mse"):
        return float(f"{max(0.05 * spread, 1e-6) ** (2 if metric == 'mse' else 1):.2g}")
    if metric == "sqnr":
        return 120.0
    if known is None or not known.proportion:
        return 0.01
    needed = {drop: least_samples(drop, sequences=sequences) or count + 1 for drop in DROPS}
    return next((drop for drop in DROPS if needed[drop] <= count), DROPS[-1])
