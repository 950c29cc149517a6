"""Calibration in a child process: statistics of every activation, and the range methods that come nearest.

Functions take and return JSON values; `edgeport.isolation.run_isolated` calls them by name.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeport.contracts import (
    Calibration,
    OnnxModel,
    OnProgress,
    ProgressEvent,
    QuantizationRules,
    TensorSpec,
    load_json,
    silent,
)
from edgeport.contracts import to_jsonable as plain
from edgeport.pipeline.datasets.layout import Layout

__all__ = ["calibrate", "collected"]

_AT_ONCE = 2
"""Calls that are on their way together where they can't be larger, with half the threads each. What sums up tensors are
many small operators: a detector's call took 7 ms on one thread, and no less on two; two of EfficientNet-Lite0 took
11 ms, one after the other 17."""


def calibrate(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Writes what `collected` finds.

    Args:
        payload: What `collected` takes, `output` (file), and where wanted `measure` (dialect to its `backend` and
            `rules`, for which the best range method is measured).
        on_progress: Told of every batch.

    Returns:
        `digest` and `sample_count` of the calibration, `warnings` about the samples, and `methods`, a `MethodFound` by
        dialect. A part without samples writes no file.

    """
    model = load_json(OnnxModel, json.dumps(payload["model"]))
    calibration, warnings = collected(model, payload, on_progress)
    if calibration is None:
        return {"digest": "", "sample_count": 0, "warnings": warnings}
    calibration.save(Path(payload["output"]))
    return {
        "digest": calibration.digest,
        "sample_count": calibration.sample_count,
        "warnings": warnings,
        "methods": _methods(model, calibration, payload),
    }


def collected(
    model: OnnxModel, payload: dict[str, Any], on_progress: OnProgress = silent
) -> tuple[Calibration | None, list[str]]:
    """Statistics of every activation over the calibration samples, from ONNX Runtime in float.

    Args:
        model: Float.
        payload: `samples` (a location), `target`, `observers` (names), and where wanted `batch_size` (samples per call
            of a model with a free batch), `arrangement` (an `Arrangement`), `preparation` (of raw samples), `rules` (of
            the dialects whose plans read it, else all tensors are watched), `transforms` (what was done to the float
            model before), `part` (index, parts), `threads` (inside one call), and of a model with a state `states` (its
            inputs) and `initial` (what fills them).
        on_progress: Told of every batch.

    Returns:
        The statistics, None of a part without samples; and warnings about the samples.

    Raises:
        SamplesError: Samples that do not fit the model.
        AlreadyQuantizedError: The model is not float.

    """
    import psutil

    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.calibration.collect import collect
    from edgeport.calibration.data import CheckedSamples, rebatch, shard_of
    from edgeport.calibration.observers import OBSERVERS
    from edgeport.pipeline.datasets.calibration_samples import calibration_samples

    samples = calibration_samples(payload, model)
    checked = CheckedSamples(samples, model.fed)
    index, parts = payload.get("part") or (0, 1)
    grouped = not model.state and model.fixed_batch is not None
    observers = {name: OBSERVERS[name] for name in payload["observers"]}
    states = tuple(load_json(TensorSpec, json.dumps(spec)) for spec in payload.get("states", ()))
    initial = Layout(states=states, initial=payload.get("initial", {})).begins()
    if index == 0 and (parts > 1 or "function" in payload["samples"]):
        deque(checked, maxlen=0)  # a part sees some of them only, and of a function nothing else tells how many
    if parts > 1:
        samples = shard_of(samples if model.fixed_batch is None else rebatch(samples, model.fixed_batch), index, parts)
        if not len(samples):
            on_progress(ProgressEvent(stage="calibrate"))
            return None, [lint.message for lint in checked.lints]
    threads = payload.get("threads")
    processors = psutil.cpu_count(logical=False) or 1
    at_once = 1 if threads is not None else min(_AT_ONCE, processors)
    calibration = collect(
        model,
        samples if parts > 1 else checked,
        partial(open_reference, threads=threads),
        observers=observers,
        tensors=_watched(model, payload.get("rules")),
        initial=initial,
        at_once=at_once,
        open_side_by_side=partial(open_reference, threads=threads or processors // at_once),
        on_progress=on_progress,
    )
    warnings = [lint.message for lint in checked.lints]
    if index == 0 and grouped and (repeats := -len(checked) % (model.fixed_batch or 1)):
        warnings.append(
            f"the model's batch is fixed to {model.fixed_batch}: beside the last of {len(checked)} samples, "
            f"{repeats} repeats of them were calibrated with"
        )
    transforms = tuple(payload.get("transforms", ()))
    calibration = replace(calibration, data_free=bool(payload["samples"].get("made")), transforms=transforms)
    return calibration, warnings


def _methods(model: OnnxModel, calibration: Calibration, payload: dict[str, Any]) -> dict[str, Any]:
    from edgeport.pipeline.datasets.calibration_samples import MANY, few_calls
    from edgeport.pipeline.quantization.range_search import find_method

    wanted = payload.get("measure", {})
    calls = list(few_calls(model, payload, MANY)) if wanted else []
    found = {}
    for dialect, one in wanted.items():
        rules = load_json(QuantizationRules, json.dumps(one["rules"]))
        found[dialect] = plain(find_method(one["backend"], model, calibration, rules, calls))
    return found


def _watched(model: OnnxModel, rules: list[Any] | None) -> list[str] | None:
    from edgeport.calibration.plan import needed_tensors

    return needed_tensors(model, [load_json(QuantizationRules, json.dumps(each)) for each in rules]) if rules else None
