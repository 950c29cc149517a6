"""The same traces against the same bound: `run` and `bench` must give one verdict."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgeport.contracts import Artifact, Budget, Candidate, Outcome, Precision
from edgeport.pipeline.benchmarking.experiment import Timed, with_latency, with_throughput
from edgeport.pipeline.selection.constraints import judge_bound, overall
from edgeport.pipeline.selection.select import judge
from edgeport.recipe.bounds import BoundKind, parse_bound
from edgeport.testing.synthetic import SyntheticSession, simulate

SIZE = 5_000_000
ARTIFACT = Artifact(
    backend="ort", folder=Path("a"), entry="m", session="s", precision=Precision.FP32, size_bytes=SIZE, digest="d"
)
ORIGINAL = Candidate(name="ort fp32", backend="ort", precision=Precision.FP32, artifact=ARTIFACT)


def measured(session=SyntheticSession(process_sd=0.02), *, flags=(), memory=100_000_000, **known):  # noqa: B008 (frozen)
    """Traces of 1 ms a call, with what a device counts beside them."""
    found = simulate(session, **known)
    traces = tuple(
        replace(one, peak_memory_bytes=memory, samples=len(one.latency_ns), elapsed_ns=sum(one.latency_ns), flags=flags)
        for one in found.traces
    )
    return replace(found, traces=traces)


def untold_once(measurement):
    first, *others = measurement.traces
    return replace(measurement, traces=(replace(first, peak_memory_bytes=0), *others))


MEASUREMENTS = {
    "quiet": measured(),
    "wide": measured(SyntheticSession(process_sd=0.3)),
    "few-calls": measured(processes=4, calls=12),
    "one-process": measured(processes=1),
    "dependent": measured(SyntheticSession(rho=0.99, sigma=0.1)),
    "spikes": measured(SyntheticSession(spike_rate=0.02)),
    "restless": measured(SyntheticSession(drift=0.5)),
    "disturbed": measured(flags=("rival-load",)),
    "throttled": measured(flags=("throttled",)),
    "no-memory": measured(memory=0),
    "memory-once-untold": untold_once(measured()),
}
BOUNDS = {
    "p50": ("p50={}us", 1000, lambda limit: Budget(latency_ns=round(1e3 * limit))),
    "p99": ("p99={}us", 1070, lambda limit: Budget(latency_ns=round(1e3 * limit), latency_quantile=0.99)),
    "p99.9": ("p99.9={}us", 1100, lambda limit: Budget(latency_ns=round(1e3 * limit), latency_quantile=0.999)),
    "throughput": ("throughput={}/s", 1000, lambda limit: Budget(throughput_per_s=limit)),
    "memory": ("memory={}MB", 100, lambda limit: Budget(peak_memory_bytes=round(1e6 * limit))),
    "size": ("size={}MB", 5, lambda limit: Budget(size_bytes=round(1e6 * limit))),
    "first-inference": ("first-inference={}us", 1000, lambda limit: Budget(first_inference_ns=round(1e3 * limit))),
}


@pytest.mark.parametrize("share", [0.5, 1.0, 1.01, 2.0])
@pytest.mark.parametrize("name", MEASUREMENTS)
@pytest.mark.parametrize("what", BOUNDS)
def test_run_and_bench_agree(what, name, share):
    line, truth, budget_of = BOUNDS[what]
    limit, measurement = round(share * truth, 3), MEASUREMENTS[name]
    bound, budget = parse_bound(line.format(limit)), budget_of(limit)
    timed = Timed(measurements={ORIGINAL.name: measurement}, errors={})

    in_bench = judge_bound(bound, measurement, size_bytes=SIZE)
    candidate = with_latency(ORIGINAL, timed, budget)
    if bound.kind is BoundKind.THROUGHPUT:
        assert candidate.bounds == (), "single calls tell nothing of it"
        candidate = with_throughput(candidate, timed, budget, streams=2)

    (in_run,) = candidate.bounds
    assert (in_run.outcome, in_run.reason) == (in_bench.outcome, in_bench.reason)
    judged = judge(candidate)
    if judged.refusal is None:
        assert overall([in_bench])[0] is Outcome.PASS
    elif judged.refusal.code == "BUDGET":
        assert judged.outcome is in_bench.outcome


def test_the_cases_have_every_outcome():
    found = {
        judge_bound(parse_bound(line.format(share * truth)), one, size_bytes=SIZE).outcome
        for line, truth, _ in BOUNDS.values()
        for one in MEASUREMENTS.values()
        for share in (0.5, 1.0, 2.0)
    }
    assert found == {Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INVALID}
