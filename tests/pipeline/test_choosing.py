"""The rule that decides what ships."""

from dataclasses import replace

import pytest

from edgeport.contracts import (
    AccuracyResult,
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
from edgeport.pipeline.selection.constraints import judge_bounds
from edgeport.pipeline.selection.select import (
    best_float,
    challengers,
    conclude,
    faster_yardstick,
    judge,
    rivals,
    weakest,
)
from edgeport.testing.synthetic import SyntheticSession, simulate


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
    slower = replace(FP32, against_float=against(0.6, 0.05))
    done, chosen = conclude([slower, BF16, INT8], BF16, {"ort int8": {"ov bf16": against(1.5, 0.05)}})
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


def test_a_compressed_float_must_beat_that_of_the_original():
    """It is no float that the others must beat, and its own accuracy is judged: it ships by a sure gain alone."""
    original = candidate("onnxruntime fp32", Precision.FP32, 2.0)
    pruned = candidate("onnxruntime fp32, pruned", Precision.FP32, 1.0, int8_nodes=0, variant="pruned")
    judged = [judge(one) for one in (original, pruned)]
    assert best_float(judged) == original
    assert challengers(judged, original) == (pruned,)

    done, chosen = conclude(judged, original, {pruned.name: {original.name: against(2.0, 0.02)}})
    assert chosen == pruned.name
    assert [one.refusal.code for one in done if one.refusal] == ["BEATEN"]

    worse = judge(replace(pruned, accuracy=accuracy(Outcome.FAIL, "too much is lost")))
    _, chosen = conclude([judged[0], worse], original, {})
    assert (chosen, worse.refusal.code) == (original.name, "ACCURACY")

    done, chosen = conclude(judged, original, {pruned.name: {original.name: against(1.0, 0.02)}})
    assert chosen == original.name
    assert {one.name: one.refusal.code for one in done if one.refusal} == {pruned.name: "NO_GAIN"}


def test_a_slower_candidate_is_refused():
    done, chosen = conclude([FP32, INT8], FP32, {"ort int8": {"ort fp32": against(0.97, 0.01)}})
    assert chosen == "ort fp32"
    assert next(c for c in done if c.name == "ort int8").refusal.code == "SLOWER"


def test_an_invalid_confirmation_does_not_ship():
    invalid = replace(against(1.5, 0.05), change=Change.UNKNOWN)
    done, chosen = conclude([FP32, INT8], FP32, {"ort int8": {"ort fp32": invalid}}, {"ort int8": "throttled"})
    assert chosen == "ort fp32"
    row = next(c for c in done if c.name == "ort int8")
    assert (row.refusal.code, row.outcome) == ("CONFIRMATION_INVALID", Outcome.INVALID)
    assert row.refusal.reason == "the confirmation must not be used: throttled"


def test_a_float_in_budget_ships_where_the_fastest_is_not():
    refused = replace(BF16, refusal=Refusal(code="BUDGET", reason="size"))
    _, chosen = conclude([FP32, refused], refused, {})
    assert chosen == "ort fp32"


def test_a_float_whose_latency_is_in_doubt_must_still_be_beaten():
    doubted = replace(BF16, latency=latency(6.0, outcome=Outcome.INVALID, flags=("coarse-clock",)))
    assert best_float([FP32, doubted]) is doubted


def test_most_of_what_was_planned_must_run_as_integers():
    held = judge(replace(INT8, kept=6, lost=("a", "b")))
    assert held.refusal is None
    broken = judge(replace(INT8, kept=2, lost=("a", "b", "c")))
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
    judged = judge(replace(INT8, **change))
    assert judged.refusal.code == code
    assert judged.outcome is outcome


def test_an_earlier_refusal_stays():
    crashed = replace(INT8, latency=None, refusal=Refusal(code="BACKEND_CRASH", reason="SIGSEGV"))
    assert judge(crashed).refusal.code == "BACKEND_CRASH"


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        pytest.param(Budget(latency_ns=3_000_000), Outcome.FAIL, id="latency-over"),
        pytest.param(Budget(latency_ns=4_000_000), Outcome.INCONCLUSIVE, id="latency-on-the-line"),
        pytest.param(Budget(latency_ns=5_000_000, latency_quantile=0.999), Outcome.INCONCLUSIVE, id="no-such-quantile"),
        pytest.param(Budget(peak_memory_bytes=1000), Outcome.FAIL, id="memory-over"),
        pytest.param(Budget(size_bytes=1000), Outcome.FAIL, id="size-over"),
        pytest.param(Budget(first_inference_ns=1000), Outcome.FAIL, id="first-inference-over"),
    ],
)
def test_budgets(budget, outcome):
    judged = judge(held_to(INT8, budget))
    assert judged.refusal.code == "BUDGET"
    assert judged.outcome is outcome
    assert judge(held_to(INT8, Budget(latency_ns=5_000_000))).refusal is None


def held_to(one, budget):
    """With verdicts from traces that have its median and take 100 MB, of an artifact of 5000 bytes."""
    traces = simulate(SyntheticSession(median_ns=one.latency.quantile(0.5).interval_ns.estimate, process_sd=0.01))
    traces = replace(traces, traces=tuple(replace(trace, peak_memory_bytes=10**8) for trace in traces.traces))
    return replace(one, bounds=judge_bounds(budget, traces, size_bytes=5000))


def test_what_surely_misses_one_bound_fails_though_another_is_open():
    judged = judge(held_to(INT8, Budget(first_inference_ns=4_000_000, latency_ns=1_000_000)))
    assert [one.outcome for one in judged.bounds] == [Outcome.INCONCLUSIVE, Outcome.FAIL]
    assert judged.outcome is Outcome.FAIL
    assert judged.refusal.reason.startswith("p50 ")


UNASKED_BF16 = replace(BF16, baseline=True)


def test_a_float_that_nobody_asked_for_must_be_beaten():
    assert best_float([FP32, UNASKED_BF16, INT8]) is UNASKED_BF16
    assert [c.name for c in rivals([FP32, UNASKED_BF16, INT8])] == ["ov bf16"]
    done, chosen = conclude([FP32, UNASKED_BF16, INT8], UNASKED_BF16, {"ort int8": {"ov bf16": against(1.5, 0.05)}})
    assert chosen == "ort int8"
    assert next(c for c in done if c.name == "ov bf16").refusal.code == "BASELINE"
    assert faster_yardstick(done, "ov bf16", chosen) == ""


def test_a_float_that_nobody_asked_for_does_not_ship():
    slower = replace(FP32, against_float=against(0.6, 0.05))
    done, chosen = conclude([slower, UNASKED_BF16, INT8], UNASKED_BF16, {"ort int8": {"ov bf16": against(0.9, 0.05)}})
    assert chosen == "ort fp32"
    note = faster_yardstick(done, "ov bf16", chosen)
    assert "ov bf16 would be faster than ort fp32, 6 ms against 10 ms" in note
    assert 'add "bf16"' in note


@pytest.mark.parametrize("precision", [pytest.param(p, id=str(p)) for p in (Precision.BF16, Precision.FP16)])
def test_nothing_ships_where_only_a_yardstick_could(precision):
    only = candidate("ov half", precision, 6.0, int8_nodes=0, baseline=True)
    assert conclude([only], only, {})[1] == ""


def test_float32_ships_though_nobody_asked_for_it():
    assert conclude([replace(FP32, baseline=True)], FP32, {})[1] == "ort fp32"


def test_the_float_hardest_to_beat_is_told_by_the_bound_that_decides():
    wide, narrow = against(1.5, 0.4), against(1.2, 0.01)
    assert weakest({"ort fp32": wide, "ov bf16": narrow}) is wide


def reason_of(name, *arguments):
    done, _ = conclude(*arguments)
    refusal = next(c for c in done if c.name == name).refusal
    return refusal.code, refusal.reason


SCREENED = replace(INT8, against_float=against(1.72, 0.5))
SECOND = candidate("ov int8", Precision.INT8, 3.0)


def test_what_was_never_measured_again_says_so():
    lost = {"ov int8": {"ort fp32": against(1.0, 0.02)}}
    code, reason = reason_of("ort int8", [FP32, SCREENED, SECOND], FP32, lost)
    assert code == "UNCONFIRMED"
    assert "not confirmed: 1 challenger before it was measured again, none with a certain gain" in reason
    assert "lower median" not in reason


def test_what_stood_behind_the_winner_is_not_said_to_have_no_gain():
    won = {"ov int8": {"ort fp32": against(3.0, 0.02)}}
    code, reason = reason_of("ort int8", [FP32, SCREENED, SECOND], FP32, won)
    assert code == "NOT_FASTEST"
    assert "ov int8, with the lower median, was measured again before it and ships" in reason
    assert "1.72x" in reason


def test_a_challenger_whose_floats_failed_in_the_confirmation_is_not_confirmed():
    code, reason = reason_of("ort int8", [FP32, SCREENED], FP32, {"ort int8": {}})
    assert code == "UNCONFIRMED"
    assert "no float could be measured beside it" in reason


def test_what_the_screening_saw_behind_the_best_float_is_not_called_unconfirmed():
    behind = candidate("ov int8", Precision.INT8, 10.5, against_float=against(0.98, 0.1))
    code, reason = reason_of("ov int8", [FP32, behind], FP32, {})
    assert code == "NO_GAIN"
    assert "no gain when screened" in reason


def test_a_gain_that_few_rounds_can_not_bound_has_no_bounds_in_its_reason():
    unbounded = replace(against(0.97, 0.0), speedup=Interval(low=0.0, estimate=0.97, high=float("inf")))
    behind = candidate("ov int8", Precision.INT8, 10.5, against_float=unbounded)
    _, reason = reason_of("ov int8", [FP32, behind], FP32, {})
    assert "in too few rounds for an interval" in reason
    assert "to inf" not in reason


@pytest.mark.parametrize(
    ("comparison", "code", "words"),
    [
        pytest.param(against(0.6, 0.05), "SLOWER", "slower: 0.60x", id="apart"),
        pytest.param(against(0.97, 0.05), "NOT_FASTEST", "the pairs can't tell them apart (0.97x", id="spans-one"),
        pytest.param(
            replace(against(0.97, 0.0), speedup=Interval(low=0.0, estimate=0.97, high=float("inf"))),
            "NOT_FASTEST",
            "no faster than ov bf16",
            id="too-few-pairs",
        ),
        pytest.param(None, "NOT_FASTEST", "no faster than ov bf16, which has the lower median", id="not-compared"),
    ],
)
def test_a_float_is_called_slower_only_where_that_is_known(comparison, code, words):
    found, reason = reason_of("ort fp32", [replace(FP32, against_float=comparison), BF16], BF16, {})
    assert found == code
    assert words in reason


def test_nothing_ships_when_even_the_best_float_is_over_budget():
    budget = Budget(latency_ns=1_000_000)
    judged = [judge(held_to(c, budget)) for c in (FP32, INT8)]
    _, chosen = conclude(judged, next(c for c in judged if c.is_float), {})
    assert chosen == ""
