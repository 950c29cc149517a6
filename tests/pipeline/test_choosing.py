"""The rule that decides what ships."""

from dataclasses import replace

import pytest

from edgeport.contracts import (
    AccuracyResult,
    Artifact,
    Budget,
    Candidate,
    Change,
    Comparison,
    Interval,
    LatencySummary,
    NodePlacement,
    Outcome,
    Placement,
    Precision,
    Quantile,
    Refusal,
)
from edgeport.pipeline.choosing import best_float, challengers, conclude, judge, rivals


def interval(estimate, spread=0.0):
    return Interval(low=estimate * (1 - spread), estimate=estimate, high=estimate * (1 + spread))


def latency(ms, spread=0.01, outcome=Outcome.PASS, flags=()):
    quantiles = (Quantile(q=0.5, interval_ns=interval(ms * 1e6, spread)),)
    return LatencySummary(
        quantiles=quantiles,
        processes=10,
        calls=1000,
        effective_calls=500,
        correlation_time=2,
        steady=1,
        load_ns=1e6,
        first_inference_ns=5e6,
        peak_memory_bytes=100_000_000,
        outcome=outcome,
        flags=flags,
    )


def accuracy(outcome=Outcome.PASS, reason=""):
    return AccuracyResult(
        metric="top1", value=interval(0.99), drop=interval(0.001), samples=500, outcome=outcome, reason=reason
    )


def candidate(name, precision, ms, int8_nodes=3, **known):
    nodes = tuple(
        NodePlacement(name=f"n{i}", operator="Conv", device="CPU", precision="int8") for i in range(int8_nodes)
    )
    rest = NodePlacement(name="out", operator="Softmax", device="CPU", precision="fp32")
    values = {
        "name": name,
        "backend": name.split()[0],
        "precision": precision,
        "latency": latency(ms),
        "accuracy": accuracy(),
        "placement": Placement(nodes=(*nodes, rest), source="test"),
    }
    return Candidate(**(values | known))


def against(speedup, spread):
    return Comparison(speedup=interval(speedup, spread), change=Change.FASTER, pairs=10, delta=0.02)


FP32 = candidate("ort fp32", Precision.FP32, 10.0, int8_nodes=0)
BF16 = candidate("ov bf16", Precision.BF16, 6.0, int8_nodes=0)
INT8 = candidate("ort int8", Precision.INT8, 4.0)


def test_a_certain_gain_ships():
    done, chosen = conclude([FP32, BF16, INT8], BF16, {"ort int8": {"ov bf16": against(1.5, 0.05)}})
    assert chosen == "ort int8"
    assert done[0].name == "ort int8"
    assert done[0].outcome is Outcome.PASS
    assert {c.name: c.refusal.code for c in done[1:]} == {"ov bf16": "BEATEN", "ort fp32": "SLOWER"}


def test_an_equal_candidate_does_not_ship_as_a_gain():
    done, chosen = conclude([FP32, INT8], FP32, {"ort int8": {"ort fp32": against(1.0, 0.02)}})
    assert chosen == "ort fp32"
    refused = next(c for c in done if c.name == "ort int8")
    assert refused.refusal.code == "NO_GAIN"
    assert "0.980 to 1.020" in refused.refusal.reason


def test_a_gain_too_small_to_matter_does_not_ship():
    done, chosen = conclude([FP32, INT8], FP32, {"ort int8": {"ort fp32": against(1.006, 0.002)}})
    assert chosen == "ort fp32"
    assert next(c for c in done if c.name == "ort int8").refusal.code == "NO_GAIN"


def test_a_slower_candidate_is_refused():
    done, chosen = conclude([FP32, INT8], FP32, {"ort int8": {"ort fp32": against(0.97, 0.01)}})
    assert chosen == "ort fp32"
    assert next(c for c in done if c.name == "ort int8").refusal.code == "SLOWER"


def test_an_invalid_confirmation_does_not_ship():
    invalid = replace(against(1.5, 0.05), change=Change.UNKNOWN)
    _, chosen = conclude([FP32, INT8], FP32, {"ort int8": {"ort fp32": invalid}})
    assert chosen == "ort fp32"


def test_a_float_in_budget_ships_where_the_fastest_is_not():
    refused = replace(BF16, refusal=Refusal(code="BUDGET", reason="size"))
    _, chosen = conclude([FP32, refused], refused, {})
    assert chosen == "ort fp32"


def test_a_float_whose_latency_is_in_doubt_must_still_be_beaten():
    doubted = replace(BF16, latency=latency(6.0, outcome=Outcome.INVALID, flags=("coarse-clock",)))
    assert best_float([FP32, doubted]) is doubted


def test_most_of_what_was_planned_must_run_as_integers():
    held = judge(replace(INT8, kept=6, lost=("a", "b")), Budget())
    assert held.refusal is None
    broken = judge(replace(INT8, kept=2, lost=("a", "b", "c")), Budget())
    assert broken.refusal.code == "NOT_AS_PLANNED"
    assert "2 of 5 planned nodes" in broken.refusal.reason


def test_every_rival_float_must_be_beaten():
    confirmed = {"ort int8": {"ort fp32": against(1.4, 0.01), "ov bf16": against(1.0, 0.01)}}
    _, chosen = conclude([FP32, BF16, INT8], BF16, confirmed)
    assert chosen == "ov bf16"


def test_the_best_float_is_the_fastest_within_the_accuracy_budget():
    lossy = replace(BF16, accuracy=accuracy(Outcome.FAIL))
    assert best_float([FP32, BF16, INT8]) is BF16
    assert best_float([FP32, lossy, INT8]) is FP32
    assert best_float([INT8]) is None


def test_floats_that_screening_cannot_tell_apart_are_rivals():
    near = replace(FP32, latency=latency(6.2))
    assert [c.name for c in rivals([near, BF16, INT8])] == ["ov bf16", "ort fp32"]
    assert [c.name for c in rivals([FP32, BF16, INT8])] == ["ov bf16"]


def test_only_those_ahead_of_the_best_float_challenge_it():
    slow = candidate("ov int8", Precision.INT8, 7.0)
    assert [c.name for c in challengers([FP32, BF16, INT8, slow], BF16)] == ["ort int8"]


@pytest.mark.parametrize(
    ("change", "code", "outcome"),
    [
        pytest.param({"latency": None}, "UNMEASURED", Outcome.UNMEASURED, id="built-not-run"),
        pytest.param(
            {"latency": latency(4, outcome=Outcome.INVALID, flags=("throttled",))},
            "LATENCY_INVALID",
            Outcome.INVALID,
            id="invalid-latency",
        ),
        pytest.param({"accuracy": accuracy(Outcome.FAIL, "lost")}, "ACCURACY", Outcome.FAIL, id="accuracy-lost"),
        pytest.param(
            {"accuracy": accuracy(Outcome.INCONCLUSIVE, "thin")}, "ACCURACY", Outcome.INCONCLUSIVE, id="accuracy-thin"
        ),
        pytest.param(
            {"placement": Placement(nodes=(), source="test")}, "NOT_AS_PLANNED", Outcome.FAIL, id="no-int8-node"
        ),
    ],
)
def test_refusals_before_the_confirmation(change, code, outcome):
    judged = judge(replace(INT8, **change), Budget())
    assert judged.refusal.code == code
    assert judged.outcome is outcome


def test_an_earlier_refusal_stays():
    crashed = replace(INT8, latency=None, refusal=Refusal(code="BACKEND_CRASH", reason="SIGSEGV"))
    assert judge(crashed, Budget()).refusal.code == "BACKEND_CRASH"


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        pytest.param(Budget(latency_ns=3_000_000), Outcome.FAIL, id="latency-over"),
        pytest.param(Budget(latency_ns=4_000_000), Outcome.INCONCLUSIVE, id="latency-on-the-line"),
        pytest.param(Budget(latency_ns=5_000_000, latency_quantile=0.99), Outcome.INCONCLUSIVE, id="no-such-quantile"),
        pytest.param(Budget(peak_memory_bytes=1000), Outcome.FAIL, id="memory-over"),
        pytest.param(Budget(size_bytes=1000), Outcome.FAIL, id="size-over"),
        pytest.param(Budget(first_inference_ns=1000), Outcome.FAIL, id="first-inference-over"),
    ],
)
def test_budgets(budget, outcome, tmp_path):
    artifact = Artifact(
        backend="ort", folder=tmp_path, entry="m", session="s", precision=Precision.INT8, size_bytes=5000, digest="d"
    )
    judged = judge(replace(INT8, artifact=artifact), budget)
    assert judged.refusal.code == "BUDGET"
    assert judged.outcome is outcome
    assert judge(replace(INT8, artifact=artifact), Budget(latency_ns=5_000_000)).refusal is None


def test_nothing_ships_when_even_the_best_float_is_over_budget():
    budget = Budget(latency_ns=1_000_000)
    judged = [judge(c, budget) for c in (FP32, INT8)]
    _, chosen = conclude(judged, next(c for c in judged if c.is_float), {})
    assert chosen == ""
