"""Of several range methods the one whose integers come nearest the float model's outputs, as measured.

What a range costs a tensor can be expected from its histogram (`ranges/automatic.py`), but not what that does to the
outputs: errors of clipping stand in the few places where a network's answer is decided, and add up there. So each
method makes a plan, the plan is written and run on some calibration samples, and the noise at the outputs decides.

Two numbers have to be better, for each misses something. What a typical sample loses: the sum of noise alone is that of
the loudest samples. And the sum: on a ResNet-18, least expected error brought typical samples 0.8 dB nearer, and took
so much from the few with large activations that the whole was 1.2 dB worse.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeport.calibration.mixed_precision.sensitivity import noise_over_signal, noises
from edgeport.calibration.plan import make_plans
from edgeport.calibration.ranges import MEASURED, RangeMethod, form_of, observers_of
from edgeport.contracts import Arrays, Calibration, OnnxModel, OpenModel, QuantizationPlan, QuantizationRules, RunModel
from edgeport.errors import EdgeportError
from edgeport.isolation.memory import give_back

__all__ = ["MeasuredMethods", "measure_methods"]

_SURELY = 0.95
"""A method with at least so much of the noise of one before it is no better: that is what few samples can tell."""


_MOST_ROWS, _MOST_BYTES = 8, 256 << 10
"""Samples, and bytes of feeds, in one call: what is gained by more is little, and memory grows with them."""

_AS_ALONE = 1e-6
"""Noise over signal of a sample in a batch against the same sample alone: above it is no rounding any more."""


@dataclass(frozen=True, kw_only=True)
class MeasuredMethods:
    """What was found.

    Attributes:
        chosen: The method to take.
        plan: By it.
        noise: Over the signal, by the method as a recipe names it; infinite where something broke.

    """

    chosen: RangeMethod
    plan: QuantizationPlan
    noise: Mapping[str, float]


def measure_methods(  # noqa: PLR0913 (what a plan is made from, and what runs it)
    model: OnnxModel,
    calibration: Calibration,
    rules: QuantizationRules,
    batches: Sequence[Arrays],
    open_model: OpenModel,
    write: Callable[[OnnxModel, QuantizationPlan, Path], Path],
    *,
    methods: Sequence[RangeMethod] = MEASURED,
) -> MeasuredMethods:
    """Makes a plan by each method, and runs it; takes the first, or of the others one that is surely better in both.

    Args:
        model: Float.
        calibration: Of this very model.
        rules: The dialect.
        batches: Feeds of some calibration samples.
        open_model: Opens an ONNX file with some runtime.
        write: The dialect's writer: to a file in a folder that is empty, or to another that is removed here.
        methods: Those before win where there is little between them. One whose observers did not watch is left out.

    Raises:
        CalibrationError, PlanError: As `make_plans` with the first method.

    """
    watched = set.intersection(*map(set, calibration.statistics.values())) if calibration.statistics else set()
    methods = [method for method in methods if watched.issuperset(observers_of(method))] or methods[:1]
    plans = list(make_plans(model, calibration, rules, methods))  # before anything is run: a graph is held no longer
    give_back()
    calls, reference = _reference(model, batches, open_model)
    chosen, least = (methods[0], plans[0]), (float("inf"), float("inf"))
    noise: dict[str, float] = {}
    tried: dict[str, tuple[float, float]] = {}
    for method, plan in zip(methods, plans, strict=True):
        same = str(sorted(plan.activations.items()))
        if same not in tried:
            tried[same] = _noise(model, plan, calls, reference, open_model, write)
        noise[form_of(method)], _ = tried[same]
        if all(mine < _SURELY * best for mine, best in zip(tried[same], least, strict=True)):
            chosen, least = (method, plan), tried[same]
    return MeasuredMethods(chosen=chosen[0], plan=chosen[1], noise=noise)


def _reference(
    model: OnnxModel, batches: Sequence[Arrays], open_model: OpenModel
) -> tuple[list[tuple[Arrays, int]], list[Arrays]]:
    """The calls as `_stacked` has them, and the float outputs of each sample; the runtime is gone when this returns."""
    with open_model(model.path) as run:
        calls = _stacked(model, batches, run)
        return calls, [row for feeds, rows in calls for row in _rows(run(feeds), rows)]


def _noise(
    model: OnnxModel,
    plan: QuantizationPlan,
    calls: Sequence[tuple[Arrays, int]],
    reference: Sequence[Arrays],
    open_model: OpenModel,
    write: Callable[[OnnxModel, QuantizationPlan, Path], Path],
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="edgeport-ranges-") as folder:
        written = write(model, plan, Path(folder))
        give_back()  # the graphs that were read to write it
        try:
            with open_model(written) as run:
                return noises(reference, (row for feeds, rows in calls for row in _rows(run(feeds), rows)))
        except EdgeportError:  # the runtime that looks can't run what another one may
            return float("inf"), float("inf")
        finally:
            written.unlink(missing_ok=True)


def _stacked(model: OnnxModel, batches: Sequence[Arrays], run: RunModel) -> list[tuple[Arrays, int]]:
    """The calls, several as one where the model takes them so: a call of one sample computes little for what it costs.

    Returns:
        Feeds, and how many of the calls they are.

    """
    alone = [(feeds, 1) for feeds in batches]
    if model.state or model.fixed_batch is not None or not all(_of_one(feeds) for feeds in batches):
        return alone
    held = max((sum(array.nbytes for array in feeds.values()) for feeds in batches), default=0)
    most = min(_MOST_ROWS, _MOST_BYTES // max(held, 1))
    runs = [list(each) for _, each in itertools.groupby(batches, key=_kinds)]
    parts = [each[start : start + most] for each in runs for start in range(0, len(each), most)] if most > 1 else []
    if not any(len(part) > 1 for part in parts):
        return alone
    together: list[tuple[Arrays, int]] = [
        ({name: np.concatenate([one[name] for one in part]) for name in part[0]}, len(part)) for part in parts
    ]
    feeds, rows = next(each for each in together if each[1] > 1)
    one = {name: array[:1] for name, array in feeds.items()}
    try:
        true, found = run(one), _rows(run(feeds), rows)[0]
    except EdgeportError:  # a batch that is free by name alone
        return alone
    return together if noise_over_signal([true], iter([found])) < _AS_ALONE else alone


def _of_one(feeds: Arrays) -> bool:
    return all(array.ndim and len(array) == 1 for array in feeds.values())


def _kinds(feeds: Arrays) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(name, str(array.dtype), array.shape) for name, array in feeds.items()]


def _rows(outputs: Arrays, rows: int) -> list[Arrays]:
    """Of each call in it; an output that has no row for each, as many as were found for example, is whole in all."""
    if rows == 1:
        return [outputs]
    cut = {name: array.ndim > 0 and len(array) == rows for name, array in outputs.items()}
    return [
        {name: array[index : index + 1] if cut[name] else array for name, array in outputs.items()}
        for index in range(rows)
    ]
