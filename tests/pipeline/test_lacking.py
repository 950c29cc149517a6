"""What a candidate lacks, and which comes nearest; pure."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgeport.contracts import (
    AccuracyResult,
    Artifact,
    BoundVerdict,
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
)
from edgeport.pipeline.selection.constraints import judge_bounds
from edgeport.pipeline.selection.near_misses import bound_lack, nearest
from edgeport.pipeline.selection.select import judge
from edgeport.recipe.quantities import parse_bytes, parse_latency, parse_rate, parse_time
from edgeport.testing.synthetic import SyntheticSession, simulate


def around(value, share=0.02):
    return Interval(low=value * (1 - share), estimate=value, high=value * (1 + share))


def candidate(name="ort int8", ms=7.2, **known):
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
    }  # fmt: skip
    return Candidate(**(values | known))


def verdict(of, limit, value=None, outcome=Outcome.FAIL, **known):
    return BoundVerdict(
        of=of, limit=limit, outcome=outcome, interval=value if value is None else around(value), **known
    )


def counted(of, limit, value):
    interval = Interval(low=value, estimate=value, high=value, confidence=1.0)
    return BoundVerdict(of=of, limit=limit, outcome=Outcome.FAIL, interval=interval)


OPEN = Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("bound", "text", "change"),
    [
        pytest.param(
            verdict("p90", 5e6, 7.2e6), "p90 7.2 ms, budget 5 ms: 1.44 times too slow",
            '1.44 times the speed, or latency = "p90 <= 7.4 ms"', id="latency",
        ),
        pytest.param(
            verdict("p90", 7.2e6, 7.2e6, OPEN), "p90 is 7.056 ms to 7.344 ms, on both sides of 7.2 ms",
            'a longer measurement ([search] duration_s and rounds), or latency = "p90 <= 7.4 ms"', id="open",
        ),
        pytest.param(
            verdict("p90", 7.4e6, 7.2e6, OPEN),
            "p90 is 7.056 ms to 7.344 ms, within 7.4 ms, but so few calls can't prove it",
            "a longer measurement ([search] duration_s and rounds)", id="too-few-calls",
        ),
        pytest.param(
            verdict("p90", 5e6, 7.2e6, OPEN, flags=("rival-load", "steal")),
            "p90 is 7.056 ms to 7.344 ms, but against 5 ms nothing can be told: rival-load, steal",
            'a machine with nothing else at work, or latency = "p90 <= 7.4 ms"', id="disturbed",
        ),
        pytest.param(
            verdict("p99.9", 5e6, None, OPEN, reason="300 calls; p99.9 needs 7378 independent ones"),
            "p99.9 against 5 ms can't be told: 300 calls; p99.9 needs 7378 independent ones",
            "a longer measurement ([search] duration_s and rounds)", id="no-interval",
        ),
        pytest.param(
            verdict("p99", 5e6, reason="even the fastest calls of every process are over 5 ms"),
            "p99: even the fastest calls of every process are over 5 ms",
            "a longer measurement ([search] duration_s and rounds)", id="hopeless",
        ),
        pytest.param(
            counted("size", 10_000_000, 12_340_000), "size 12.34 MB, budget 10 MB: 1.23 times too large",
            'size = "13 MB", or 1.23 times less', id="size",
        ),
        pytest.param(
            counted("peak memory", 50_000_000, 100_000_000), "peak memory 100 MB, budget 50 MB: 2 times too much",
            'peak_memory = "100 MB", or 2 times less', id="memory",
        ),
        pytest.param(
            verdict("peak memory", 50_000_000, None, OPEN, reason="nobody tells it"),
            "peak memory against 50 MB can't be told: nobody tells it", "a device that tells it (Linux)",
            id="memory-untold",
        ),
        pytest.param(
            verdict("first inference", 4e6, 5e6), "first inference 5 ms, budget 4 ms: 1.25 times too slow",
            'first_inference = "5.1 ms", or 1.25 times less', id="first",
        ),
        pytest.param(
            verdict("throughput", 200, 100), "throughput 100 per s, budget 200 per s: 2 times too slow",
            '2 times the speed, or throughput = "98/s"', id="throughput",
        ),
        pytest.param(
            verdict("throughput", 200, 100, Outcome.INVALID, flags=("throttled",)),
            "throughput against 200 per s can't be told: throttled",
            "a longer measurement ([search] duration_s and rounds)", id="invalid",
        ),
    ],
)  # fmt: skip
def test_each_bound_says_by_how_much_and_what_would_do(bound, text, change):
    lack = bound_lack(bound)
    assert (lack.text, lack.change, lack.sure) == (text, change, bound.outcome is Outcome.FAIL)
    judged = judge(candidate(bounds=(bound,), placement=None))
    assert judged.refusal == Refusal(code="BUDGET", reason=text)
    assert judged.outcome is bound.outcome


def test_the_suggested_limits_would_be_kept():
    measured = simulate(SyntheticSession(median_ns=7e6, sigma=0.2))
    counted = tuple(
        replace(trace, peak_memory_bytes=123_456_789, samples=300, elapsed_ns=sum(trace.latency_ns))
        for trace in measured.traces
    )
    measured = replace(measured, traces=counted)
    tight = Budget(
        latency_quantile=0.9, latency_ns=10**6, size_bytes=10**6, throughput_per_s=1e4, peak_memory_bytes=10**6,
        first_inference_ns=10**6,
    )  # fmt: skip

    def judged(budget):
        return [
            one
            for offline in (False, True)
            for one in judge_bounds(budget, measured, size_bytes=12_345_678, offline=offline)
        ]

    def proposed(one):
        return re.search(r'= "([^"]*)"', bound_lack(one).change)[1]

    size, memory, first, p90, per_s = map(proposed, judged(tight))
    q, latency_ns = parse_latency(p90)
    enough = Budget(
        latency_quantile=q, latency_ns=latency_ns, size_bytes=parse_bytes(size), throughput_per_s=parse_rate(per_s),
        peak_memory_bytes=parse_bytes(memory), first_inference_ns=parse_time(first),
    )  # fmt: skip
    assert [one.outcome for one in judged(tight)] == [Outcome.FAIL] * 5
    assert [one.outcome for one in judged(enough)] == [Outcome.PASS] * 5


def test_the_nearest_come_first_and_every_bound_is_named():
    big = counted("size", 10_000_000, 12_340_000)
    slow = candidate("ort fp32", bounds=(big, verdict("p90", 5e6, 20e6)))
    large = candidate("ov fp32", bounds=(big, verdict("p90", 5e6, 6e6)))
    lossy = candidate(
        "ov int8", bounds=(big, verdict("p90", 5e6, 4e6, Outcome.PASS)),
        accuracy=AccuracyResult(
            metric="top1", value=around(0.8), drop=Interval(low=0.07, estimate=0.09, high=0.113), samples=900,
            outcome=Outcome.FAIL, reason="top1 drops by 0.07 to 0.113, 0.01 is allowed",
        ),
    )  # fmt: skip
    crashed = candidate("ov bf16", latency=None, refusal=Refusal(code="BACKEND_CRASH", reason="SIGSEGV"))
    broken = candidate("ort bf16", accuracy=replace(lossy.accuracy, outcome=Outcome.INVALID))
    budget = Budget(latency_quantile=0.9, latency_ns=5_000_000, size_bytes=10_000_000)

    found = nearest([slow, lossy, crashed, broken, large], budget)

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
