"""Floats that the recipe does not name, and that what is quantized must beat all the same."""

import numpy as np
import pytest

from edgeport.contracts import Capabilities, ExecutionConfig, Limits, Precision, Support
from edgeport.contracts.recipe import Target
from edgeport.devices.latency.comparison import paired_interval
from edgeport.pipeline import run_recipe
from edgeport.pipeline.benchmarking.screening import _CONFIRMATIONS, _least_rounds
from edgeport.pipeline.compilation.candidates import list_candidates

FP32, BF16, FP16, INT8 = Precision.FP32, Precision.BF16, Precision.FP16, Precision.INT8


def able(*precisions, can_run=True):
    known = {one: Support(available=one in precisions, reason="not here") for one in Precision}
    return Capabilities(backend="any", installed=True, can_run=can_run, precisions=known)


def target(backend, *precisions, threads=1):
    return Target(backend=backend, precisions=precisions, execution=ExecutionConfig(threads=threads))


X86 = {"ort": able(FP32, INT8), "ov": able(FP32, BF16, INT8)}


@pytest.mark.parametrize(
    ("targets", "known", "added"),
    [
        pytest.param(
            [target("ort", FP32), target("ov", INT8)], X86, ["ov fp32", "ov bf16"], id="a-float-of-another-runtime"
        ),
        pytest.param([target("ort", BF16, INT8)], X86, ["ort fp32"], id="the-only-float-is-not-here"),
        pytest.param([target("ov", FP32, INT8)], X86, ["ov bf16"], id="a-faster-float-not-named"),
        pytest.param([target("ov", FP32, BF16, INT8)], X86, [], id="all-named"),
        pytest.param([target("ov", FP32)], X86, [], id="nothing-quantized"),
        pytest.param([target("ov", INT8), target("ov", FP32, BF16)], X86, [], id="named-by-another-target"),
        pytest.param(
            [target("ort", INT8), target("ort", FP32, threads=2)], X86, ["ort fp32 #2"], id="named-with-other-threads"
        ),
        pytest.param([target("ort", INT8), target("ort", Precision.INT8_DYNAMIC)], X86, ["ort fp32"], id="added-once"),
        pytest.param([target("trt", INT8)], {"trt": able(FP32, FP16, INT8, can_run=False)}, [], id="can-not-run"),
        pytest.param([target("trt", INT8)], {"trt": able(FP32, FP16, INT8)}, ["trt fp32", "trt fp16"], id="fp16"),
    ],
)
def test_every_float_of_a_quantized_candidates_runtime_is_a_candidate(targets, known, added):
    listed = list_candidates(tuple(targets), known)
    assert [one.name for one in listed if one.baseline] == added
    asked = [(one.backend, precision, one.execution) for one in targets for precision in one.precisions]
    assert [(one.backend, one.precision, one.execution) for one in listed if not one.baseline] == asked
    assert len({one.name for one in listed}) == len(listed)
    assert all(one.is_float for one in listed if one.baseline)


def test_a_candidates_name_says_where_its_runtime_computes():
    on_gpu = Target(backend="ov", precisions=(FP32, INT8), execution=ExecutionConfig(runtime_device="GPU"))
    listed = list_candidates((target("ov", FP32, BF16), on_gpu), X86)
    assert [one.name for one in listed] == ["ov fp32", "ov bf16", "ov on GPU fp32", "ov on GPU int8", "ov on GPU bf16"]


def test_a_baseline_runs_as_its_target_does():
    (baseline,) = (one for one in list_candidates((target("ort", INT8, threads=2),), X86) if one.baseline)
    assert baseline.execution.threads == 2


def test_no_confirmation_is_started_that_can_prove_nothing():
    assert [_least_rounds(alpha) for alpha in _CONFIRMATIONS] == [6, 8, 10]
    for alpha in _CONFIRMATIONS:
        rounds = _least_rounds(alpha)
        gains = -0.5 - 0.01 * np.arange(rounds)
        assert paired_interval(gains, confidence=1 - alpha)[2] < 0
        assert paired_interval(gains[1:], confidence=1 - alpha)[2] == float("inf")


def test_what_is_slower_than_a_float_that_nobody_named_does_not_ship(make_recipe, tmp_path):
    recipe = make_recipe("base", "brain", precisions=(FP32,), rounds=6)
    limits = Limits(time_s=20.0, memory_bytes=2 << 30)
    result = run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store", limits=limits)
    assert {one.name for one in result.candidates if one.baseline} == {"planted:brain fp32", "planted:brain bf16"}
    assert result.best_float == "planted:brain bf16"
    assert result.candidate("planted:brain bf16").refusal.code == "BASELINE"
    assert result.candidate("planted:brain int8-dynamic").refusal.code in ("SLOWER", "NO_GAIN")  # on a busy machine
    assert result.chosen == "planted:base fp32"
    notes = " ".join(result.notes)
    assert "added as baselines: planted:brain bf16, planted:brain fp32" in notes
    assert "planted:brain bf16 would be faster than planted:base fp32" in notes
    assert 'add "bf16" to the precisions of planted:brain' in notes
