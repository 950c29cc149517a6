"""What is chosen from what was found: metric, budget, number of samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeport.accuracy import METRICS, least_samples
from edgeport.contracts import Capabilities, ModelSource
from edgeport.drafting.assign import LENGTHS
from edgeport.drafting.columns import Columns
from edgeport.drafting.draft import Asked, Plan
from edgeport.drafting.forms import Form
from edgeport.drafting.guess import Guess, guess_from_json
from edgeport.drafting.pixels import Pixels
from edgeport.drafting.samples import FoundSamples
from edgeport.drafting.split_text import split_counts
from edgeport.drafting.states import SEQUENCES

__all__ = ["DROPS", "Given", "choose"]

DROPS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Of metrics of right and wrong; the smallest that the samples can prove is taken."""

_SECONDS, _SECONDS_QUICK = 20.0, 3.0
_MOST_BYTES = 128 << 20
_STEPS = 8
"""Of a sequence of random samples."""
_FEWEST, _MOST, _MOST_QUICK = 40, 512, 128


@dataclass(frozen=True, kw_only=True)
class Given:
    """The samples that the user gave, if any; `split` where one file is to be both."""

    calibration: FoundSamples | None = None
    evaluation: FoundSamples | None = None
    split: bool = False


def choose(
    asked: Asked,
    written: str,
    source: ModelSource,
    given: Given,
    found: Mapping[str, Any],
    backends: tuple[Capabilities, ...],
) -> Plan:
    """All that the recipe says; `found` is what the child that looked at the model returned."""
    inputs = tuple(guess_from_json(one) for one in found["inputs"])
    outputs = {name: tuple(shape) for name, shape in found["outputs"].items()}
    labels, sequence = _sequence(asked, given, found)
    target = asked.target or next(iter(labels), "")
    labelled = bool(target) or (given.evaluation is not None and given.evaluation.has_target)
    output = "logits" if "logits" in outputs and next(iter(outputs)) != "logits" else ""
    classes = _classes(given)
    metric, why = _metric(asked, outputs[output or next(iter(outputs))], labelled=labelled, classes=len(classes))
    count = _count(asked, given, inputs, float(found["seconds"]))
    if found["state"] and given.evaluation is None:
        count = max(count, _FEWEST * _STEPS)
        count -= count % _STEPS
    independent = -(-count // sequence) if isinstance(sequence, int) else count
    whole = given.evaluation is not None and not given.split
    lengths = _lengths(inputs) if found["lengths"] else {}
    return Plan(
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
        target=target if whole and given.evaluation is not None and not given.evaluation.has_target else "",
        lengths=lengths,
        form=Form.NAMED if given.evaluation is None else given.evaluation.form,
        columns=_columns(found["columns"]),
        pixels=None if found["pixels"] is None else Pixels(**found["pixels"]),
        # A function gives sounds one by one, so that a model of any length hears each as it is.
        cut=bool(found["cut"]) and not (given.split and inputs[0].axes),
        sample_rate=given.evaluation.facts.get("rate") if whole and given.evaluation is not None else None,
        classes=classes,
        metric=metric,
        output=output,
        accuracy_drop=_drop(asked, metric, independent, float(found["spread"])),
        why_metric=why,
        backends=backends,
        state=found["state"],
        sequence=sequence,
        constants=found["constants"],
        stateful=found["stateful"],
        notes=tuple(found["notes"]),
    )


def _calibration(asked: Asked, given: Given) -> str:
    if given.evaluation is None or given.split:
        return f"{asked.samples_module}:calibration"
    return given.calibration.text if given.calibration is not None else ""


def _sequence(asked: Asked, given: Given, found: Mapping[str, Any]) -> tuple[list[str], str | int]:
    """Arrays that may be labels, and what says where sequences begin; a whole set is one where nothing does."""
    labels: list[str] = list(found["labels"])
    if not found["state"]:
        return labels, ""
    named = (name for name in labels if name.lower() in SEQUENCES and name != asked.target)
    key = next(named, "") if found["columns"] is None else found["columns"]["sequence"]
    if given.evaluation is None:
        return labels, _STEPS
    return [name for name in labels if name != key], key or given.evaluation.count


def _classes(given: Given) -> tuple[str, ...]:
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


def _metric(asked: Asked, shape: tuple[int, ...], *, labelled: bool, classes: int) -> tuple[str, str]:
    """The metric, and why: labels and class scores, class scores, a vector, a number."""
    if asked.metric:
        return asked.metric, "as --metric says"
    scores = len(shape) == 1 and shape[0] >= 2
    if scores and classes > shape[0]:
        return (
            "agreement",
            f"{classes} class folders are more than the {shape[0]} scores, so they are no labels of them",
        )
    if labelled and scores:
        return "top1", "labels, and one score per class"
    if scores:
        return "agreement", "is the largest score the float model's? With labels: top1"
    if math.prod(shape) > 1:
        return "cosine", "of the outputs with the float model's"
    return "mae", "of the output against the float model's"


def _count(asked: Asked, given: Given, inputs: Sequence[Guess], seconds: float) -> int:
    """Evaluation samples: as many as there are; of random ones as many as take half a minute, at most 512."""
    if given.evaluation is not None:
        return split_counts(given.evaluation.count)[1] if given.split else given.evaluation.count
    size = sum(8 * math.prod(one.shape) for one in inputs)
    affordable = (_SECONDS_QUICK if asked.quick else _SECONDS) / max(seconds, 1e-6)
    most = _MOST_QUICK if asked.quick else _MOST
    return max(_FEWEST, min(most, int(affordable), _MOST_BYTES // max(size, 1)))


def _drop(asked: Asked, metric: str, count: int, spread: float) -> float:
    """The smallest usual drop that so many samples can prove; of an error, 5 % of how far the outputs spread."""
    if asked.accuracy_drop is not None:
        return asked.accuracy_drop
    known = METRICS.get(metric)
    if metric in ("mae", "mse"):
        return float(f"{max(0.05 * spread, 1e-6) ** (2 if metric == 'mse' else 1):.2g}")
    if metric == "sqnr":
        return 120.0
    if known is None or not known.proportion:
        return 0.01
    return next((drop for drop in DROPS if (least_samples(drop) or count + 1) <= count), DROPS[-1])
