"""What a candidate lacks, and which comes nearest; pure."""

from dataclasses import replace
from pathlib import Path

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
    Outcome,
    Precision,
    Quantile,
    Refusal,
    Throughput,
)
from edgeport.pipeline.selection.near_misses import budget_lacks, nearest
from edgeport.pipeline.selection.select import judge


def around(value, share=0.02):
    return Interval(low=value * (1 - share), estimate=value, high=value * (1 + share))


def candidate(name="ort int8", ms=7.2, *, per_s=None, flags=(), **known):
    precision = Precision(name.split()[1])
    values = {
        "name": name,
        "backend": name.split()[0],
        "precision": precision,
        "artifact": Artifact(
            backend="ort", folder=Path("a"), entry="m", session="s", precision=precision, size_bytes=12_340_000,
            digest="d",
        ),
        "accuracy": AccuracyResult(
            metric="top1", value=around(0.9), drop=around(0.002), samples=900, outcome=Outcome.PASS
        ),
        "latency": LatencySummary(
            quantiles=(Quantile(q=0.5, interval_ns=around(ms * 0.9e6)), Quantile(q=0.9, interval_ns=around(ms * 1e6))),
            processes=10, calls=1000, effective_calls=500, correlation_time=2, steady=1, load_ns=1e6,
            first_inference_ns=5e6, peak_memory_bytes=100_000_000, outcome=Outcome.PASS,
        ),
        "throughput": None
        if per_s is None
        else Throughput(
            per_s=around(per_s), streams=2, processes=6, flags=flags,
            outcome=Outcome.INCONCLUSIVE if flags else Outcome.PASS,
        ),
    }  # fmt: skip
    return Candidate(**(values | known))


def p90(ms):
    return Budget(latency_quantile=0.9, latency_ns=round(ms * 1e6))


@pytest.mark.parametrize(
    ("budget", "text", "change", "sure"),
    [
        pytest.param(
            p90(5), "p90 7.2 ms, budget 5 ms: 1.44 times too slow",
            '1.44 times the speed, or latency = "p90 <= 7.4 ms"', True, id="latency",
        ),
        pytest.param(
            p90(7.2), "p90 is 7.056 ms to 7.344 ms, on both sides of 7.2 ms",
            'a longer measurement ([search] duration_s and rounds), or latency = "p90 <= 7.4 ms"', False, id="open",
        ),
        pytest.param(
            Budget(size_bytes=10_000_000), "size 12.34 MB, budget 10 MB: 1.23 times too large",
            'size = "13 MB", or 1.23 times less', True, id="size",
        ),
        pytest.param(
            Budget(peak_memory_bytes=50_000_000), "peak memory 100 MB, budget 50 MB: 2 times too much",
            'peak_memory = "100 MB", or 2 times less', True, id="memory",
        ),
        pytest.param(
            Budget(first_inference_ns=4_000_000), "first inference 5 ms, budget 4 ms: 1.25 times too slow",
            'first_inference = "5 ms", or 1.25 times less', True, id="first",
        ),
        pytest.param(
            Budget(throughput_per_s=200), "throughput 100 per s, budget 200 per s: 2 times too slow",
            '2 times the speed, or throughput = "98/s"', True, id="throughput",
        ),
    ],
)  # fmt: skip
def test_each_bound_says_by_how_much_and_what_would_do(budget, text, change, sure):
    (lack,) = budget_lacks(candidate(per_s=100), budget)
    assert (lack.text, lack.change, lack.sure) == (text, change, sure)
    judged = judge(candidate(per_s=100, placement=None), budget)
    assert judged.refusal == Refusal(code="BUDGET", reason=text)
    assert judged.outcome is (Outcome.FAIL if sure else Outcome.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("limit", "flags", "outcome"),
    [
        pytest.param(90, (), None, id="kept"),
        pytest.param(99, (), Outcome.INCONCLUSIVE, id="straddles"),
        pytest.param(110, (), Outcome.FAIL, id="surely-below"),
        pytest.param(90, ("rival-load",), Outcome.INCONCLUSIVE, id="disturbed"),
        pytest.param(110, ("rival-load",), Outcome.INCONCLUSIVE, id="disturbed-below"),
    ],
)
def test_a_throughput_is_judged_by_its_interval(limit, flags, outcome):
    judged = judge(candidate(per_s=100, flags=flags), Budget(throughput_per_s=limit))
    assert (judged.refusal is None) is (outcome is None)
    if outcome is not None:
        assert judged.outcome is outcome


def test_a_memory_that_nobody_tells_keeps_to_no_budget():
    one = candidate()
    untold = replace(one, latency=replace(one.latency, peak_memory_bytes=0), placement=None)
    judged = judge(untold, Budget(peak_memory_bytes=50_000_000))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert judged.refusal.reason == "peak memory against 50 MB can't be told: the device does not tell it"
    assert budget_lacks(untold, Budget()) == ()


def test_the_suggested_limits_would_be_kept():
    one = candidate(per_s=100)
    enough = Budget(
        latency_quantile=0.9, latency_ns=7_400_000, size_bytes=13_000_000, throughput_per_s=98, peak_memory_bytes=10**8,
        first_inference_ns=5_000_000,
    )  # fmt: skip
    assert budget_lacks(one, enough) == ()


def test_the_nearest_come_first_and_every_bound_is_named():
    slow, big = candidate("ort fp32", 20.0), candidate("ov fp32", 6.0)
    lossy = candidate(
        "ov int8", 4.0,
        accuracy=AccuracyResult(
            metric="top1", value=around(0.8), drop=Interval(low=0.07, estimate=0.09, high=0.113), samples=900,
            outcome=Outcome.FAIL, reason="top1 drops by 0.07 to 0.113, 0.01 is allowed",
        ),
    )  # fmt: skip
    crashed = candidate("ov bf16", latency=None, refusal=Refusal(code="BACKEND_CRASH", reason="SIGSEGV"))
    broken = candidate("ort bf16", accuracy=replace(lossy.accuracy, outcome=Outcome.INVALID))
    budget = Budget(latency_quantile=0.9, latency_ns=5_000_000, size_bytes=10_000_000)

    found = nearest([slow, lossy, crashed, broken, big], budget)

    assert [one.name for one in found] == ["ov fp32", "ort fp32", "ov int8"]
    assert [lack.of for lack in found[0].lacks] == ["size", "p90"]
    assert found[0].kept == ("accuracy drop",)
    assert [lack.of for lack in found[2].lacks] == ["accuracy drop", "size"]
    assert found[2].lacks[0].change == "a smaller loss, or accuracy_drop = 0.12"
    assert found[2].kept == ("p90",)


def test_what_only_lacks_speed_or_a_request_is_near():
    slower = candidate(
        "ort int8", 4.0, refusal=Refusal(code="SLOWER", reason="slower: 0.8x"),
        against_float=Comparison(speedup=around(0.8), change=Change.SLOWER, pairs=10, delta=0.02),
    )  # fmt: skip
    baseline = candidate("ov bf16", 4.0, refusal=Refusal(code="BASELINE", reason="a baseline"), baseline=True)

    found = nearest([slower, baseline], Budget())

    assert [one.name for one in found] == ["ov bf16", "ort int8"]
    assert found[0].lacks[0].change == '"bf16" among the precisions of ov'
    assert (found[1].lacks[0].of, found[1].lacks[0].sure) == ("speed", True)
