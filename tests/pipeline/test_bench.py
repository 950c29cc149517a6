"""Budgets, precision and time on recorded measurements whose truth is known: everything but the processes is real."""

from dataclasses import replace

import pytest

from edgeport import api
from edgeport.contracts import Change, Comparison, Interval, ModelParallel, Outcome
from edgeport.errors import BackendError, UsageError
from edgeport.pipeline.benchmarking.artifact import BenchSettings
from edgeport.pipeline.selection.constraints import Check, judge_pairs, overall, worst
from edgeport.report.ci import junit_xml, markdown_table
from edgeport.testing.synthetic import SyntheticSession, simulate

QUIET = simulate(SyntheticSession(process_sd=0.003), processes=40, calls=200, seed=1)


def heavy(measurement, bytes_=50 << 20):
    return replace(measurement, traces=tuple(replace(one, peak_memory_bytes=bytes_) for one in measurement.traces))


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        pytest.param("p50=1.1ms", Outcome.PASS, id="median-kept"),
        pytest.param("p50=0.9ms", Outcome.FAIL, id="median-missed"),
        pytest.param("p90=1.2ms", Outcome.PASS, id="tail-kept"),
        pytest.param("p90=1.01ms", Outcome.FAIL, id="tail-missed"),
        pytest.param("throughput=900/s", Outcome.PASS, id="throughput-kept"),
        pytest.param("throughput=1100/s", Outcome.FAIL, id="throughput-missed"),
        pytest.param("memory=60MB", Outcome.PASS, id="memory-kept"),
        pytest.param("memory=50MB", Outcome.FAIL, id="memory-missed"),
        pytest.param("size=1MB", Outcome.PASS, id="size-kept"),
        pytest.param("size=1B", Outcome.FAIL, id="size-missed"),
        pytest.param("first-inference=1s", Outcome.PASS, id="first-inference-kept"),
        pytest.param("first-inference=1us", Outcome.FAIL, id="first-inference-missed"),
    ],
)
def test_each_line_of_a_budget_has_its_verdict(played, budget, outcome):
    found = api.bench(played("net", heavy(QUIET)), budgets=[budget], time_s=5.0)

    (check,) = found.checks
    assert (check.outcome, found.outcome) == (outcome, outcome), check
    assert check.reason
    assert (found.reason == "") is (outcome is Outcome.PASS)


def test_a_memory_that_nobody_tells_keeps_to_no_budget(played):
    (check,) = api.bench(played("net", heavy(QUIET, 0)), budgets=["memory=60MB"], time_s=5.0).checks

    assert (check.outcome, check.found) == (Outcome.INCONCLUSIVE, "unknown")
    assert "does not tell" in check.reason


def test_the_worst_line_is_the_outcome_and_is_named(played):
    found = api.bench(played("net", QUIET), budgets=["p50=2ms", "p90=1us", "size=1MB"], time_s=5.0)

    assert [check.outcome for check in found.checks] == [Outcome.PASS, Outcome.FAIL, Outcome.PASS]
    assert found.outcome is Outcome.FAIL
    assert found.reason.startswith("p90 at most 1 us: all of the interval is over")


def test_the_evidence_is_told(played):
    (check,) = api.bench(played("net", QUIET), budgets=["p90=1.2ms"], time_s=5.0).checks

    assert (check.looks, check.evidence.calls) == (1, 2000)
    assert check.evidence.alpha == pytest.approx(0.025)
    assert 0 < check.evidence.chance <= check.evidence.alpha
    assert 0 <= check.evidence.over < 100
    assert check.interval.low < check.interval.estimate < check.interval.high < 1.2e6


@pytest.fixture
def ticking(monkeypatch):
    """Each look at the clock that ends an experiment is a second later than the one before."""
    from edgeport.devices import sequential_stopping

    seconds, init = iter(range(10_000)), sequential_stopping.CriterionSet.__init__
    monkeypatch.setattr(init, "__kwdefaults__", init.__kwdefaults__ | {"clock": lambda: float(next(seconds))})


def test_a_close_budget_is_measured_on_and_then_left_open(played, ticking):
    varied = simulate(SyntheticSession(process_sd=0.02), processes=40, calls=100, seed=2)

    found = api.bench(played("net", varied), budgets=["p50=1.0ms", "size=1MB"], time_s=40.0)

    assert found.summary.processes > 10
    assert found.checks[0].looks > 1
    assert (found.checks[0].outcome, found.outcome) == (Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert "the time was up: the budget was still undecided" in str(found.certainty)


def test_until_measures_until_the_interval_is_narrow_and_no_longer(played):
    varied = simulate(SyntheticSession(process_sd=0.02), processes=80, calls=100, seed=2)

    wide = api.bench(played("wide", varied), until=0.02)
    narrow = api.bench(played("narrow", varied), until=0.01)

    assert wide.certainty.half_width <= 0.02
    assert narrow.certainty.half_width <= 0.01
    assert 10 <= wide.summary.processes < narrow.summary.processes < 80
    assert str(narrow.certainty).startswith("p50 is known to ±")
    assert narrow.certainty.stopped == ""


def test_without_a_question_the_rounds_are_run(played):
    found = api.bench(played("net", QUIET), rounds=7)

    assert (found.summary.processes, found.certainty.wanted) == (7, None)
    assert [check.name for check in found.checks] == ["latency"]


def test_the_time_ends_it_before_the_rounds(played, ticking):
    found = api.bench(played("net", QUIET), until=0.0001, time_s=6.0)

    assert 2 <= found.summary.processes <= 6
    assert "the interval was +-" in found.certainty.stopped


def test_a_tail_that_the_clock_can_not_show_is_not_waited_for(played):
    coarse = replace(QUIET, traces=tuple(replace(one, calls_per_reading=8) for one in QUIET.traces))

    found = api.bench(played("net", coarse), budgets=["p99=1ms"], time_s=30.0)

    assert (found.summary.processes, found.outcome) == (10, Outcome.INCONCLUSIVE)
    assert "8 calls" in found.reason


@pytest.mark.parametrize(
    ("factor", "change", "outcome"),
    [
        pytest.param(1.0, Change.EQUIVALENT, Outcome.PASS, id="equal"),
        pytest.param(0.7, Change.IMPROVED, Outcome.PASS, id="improved"),
        pytest.param(1.3, Change.REGRESSED, Outcome.FAIL, id="regressed"),
        pytest.param(1.012, Change.SLOWER, Outcome.FAIL, id="slower"),
        pytest.param(0.988, Change.FASTER, Outcome.PASS, id="faster"),
    ],
)
def test_compare_says_what_changed(played, factor, change, outcome):
    new = simulate(SyntheticSession(process_sd=0.003, median_ns=1e6 * factor), processes=40, calls=200, seed=9)

    found = api.compare(played("old", QUIET), played("new", new))

    assert (found.comparison.change, found.outcome) == (change, outcome)
    assert found.comparison.pairs == 10


def test_a_slowdown_within_delta_may_pass_where_that_is_asked(played):
    slower = simulate(SyntheticSession(process_sd=0.003, median_ns=1.012e6), processes=40, calls=200, seed=9)
    old, new = played("old", QUIET), played("new", slower)

    assert api.compare(old, new, fail_on="regressed").outcome is Outcome.PASS
    assert api.compare(old, new, fail_on="regressed", delta=0.001).comparison.change is Change.REGRESSED


def test_compare_goes_on_until_the_change_is_known(played):
    loud = SyntheticSession(process_sd=0.02)
    old = simulate(loud, processes=200, calls=60, seed=3)
    new = simulate(replace(loud, median_ns=1.015e6), processes=200, calls=60, seed=4)

    found = api.compare(played("old", old), played("new", new), time_s=20.0, delta=0.02)

    assert found.comparison.change is not Change.UNKNOWN
    assert found.comparison.pairs > 10
    assert found.comparison.speedup.confidence > 0.975


def test_too_few_pairs_are_unknown(played):
    found = api.compare(played("old", QUIET), played("new", QUIET), rounds=3)

    assert (found.comparison.change, found.outcome) == (Change.UNKNOWN, Outcome.INCONCLUSIVE)
    assert "6 rounds or more are needed" in found.reason


def test_a_kept_measurement_is_compared_with(played, tmp_path):
    baseline, net = tmp_path / "kept.json", played("net", QUIET)
    saved = api.bench(net, save_baseline=baseline)
    slow = played("slow", simulate(SyntheticSession(process_sd=0.003, median_ns=1.3e6), seed=5))

    again, worse = api.bench(net, baseline=baseline), api.bench(slow, baseline=baseline)

    assert saved.notes == (f"Saved as a baseline: {baseline}.",)
    assert (again.against_kept.change, again.outcome) == (Change.EQUIVALENT, Outcome.PASS)
    assert (worse.against_kept.change, worse.outcome) == (Change.REGRESSED, Outcome.FAIL)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_baseline_of_another_scenario_is_refused(played, tmp_path):
    net = played("net", QUIET)
    api.bench(net, save_baseline=tmp_path / "kept.json", rounds=2)

    with pytest.raises(UsageError, match="scenario single-stream there, and offline now"):
        api.bench(net, baseline=tmp_path / "kept.json", scenario="offline", rounds=2)


@pytest.mark.parametrize(
    ("scenario", "asked", "streams"),
    [
        pytest.param("single-stream", None, 1, id="one"),
        pytest.param("offline", None, 4, id="one more than stages"),
        pytest.param("offline", 2, 2, id="as asked"),
    ],
)
def test_a_pipeline_is_kept_full(scenario, asked, streams):
    settings = BenchSettings(backend="onnxruntime", scenario=scenario, streams=asked)
    assert settings.streams_on(2, ModelParallel(stages=3)) == streams
    assert replace(settings, streams=None).streams_on(8, ModelParallel(stages=3)) == (8 if scenario == "offline" else 1)


def test_offline_is_known_by_its_throughput(played):
    found = api.bench(played("net", QUIET), scenario="offline", streams=2, until=0.05)

    assert found.certainty.of == "throughput"
    assert found.certainty.half_width <= 0.05
    assert (found.summary.scenario, found.streams) == ("offline", 2)


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param({"scenario": "server"}, id="server-without-rate"),
        pytest.param({"rate_per_s": 5.0}, id="rate-without-server"),
        pytest.param({"streams": 2}, id="streams-of-one"),
        pytest.param({"scenario": "burst"}, id="no-such-scenario"),
        pytest.param({"budgets": ["p99=1ms", "p99=2ms"]}, id="twice"),
        pytest.param({"until": -0.1}, id="negative"),
        pytest.param({"rounds": 0}, id="no-rounds"),
    ],
)
def test_choices_that_do_not_go_together_are_refused_before_anything_runs(played, choices):
    with pytest.raises(UsageError):
        api.bench(played("net", QUIET), **choices)


def test_energy_rests_first_and_measures_long_enough(played, monkeypatch):
    from edgeport.devices.local import LocalDevice

    net, jobs, run = played("net", QUIET), [], LocalDevice.run
    monkeypatch.setattr(LocalDevice, "run", lambda self, job: jobs.append(job) or run(self, job))

    found = api.bench(net, energy=True, rounds=4)

    timed = [job for job in jobs if job.kind == "time"]
    assert {job.idle_s for job in timed} == {1.0}
    assert sum(job.duration_s for job in timed) >= 10.0
    assert found.summary.energy is None  # the recorded traces have no rest


def test_what_a_build_server_reads(played):
    found = api.bench(played("net", QUIET), budgets=["p90=1.2ms", "p50=0.5ms"], time_s=5.0)
    rows = found.rows()

    xml, table = junit_xml("edgeport bench net", rows), markdown_table("edgeport bench net", rows)

    assert [row.name for row in rows] == ["net: p90 at most 1.2 ms", "net: p50 at most 500 us"]
    assert {"low", "high", "calls_over", "independent_calls", "alpha"} <= rows[0].figures.keys()
    assert 'failures="1"' in xml
    assert "**FAIL**" in table


def test_an_artifact_that_is_not_what_its_record_says_is_refused(played):
    net = played("net", QUIET)
    (net / "artifact" / "weight.json").write_text("[[2.0], [2.0]]")

    with pytest.raises(BackendError, match="compile it again"):
        api.bench(net)


@pytest.mark.parametrize(
    ("outcome", "change", "expected"),
    [
        pytest.param(Outcome.PASS, Change.FASTER, Outcome.PASS, id="faster"),
        pytest.param(Outcome.PASS, Change.EQUIVALENT, Outcome.PASS, id="equal"),
        pytest.param(Outcome.PASS, Change.UNKNOWN, Outcome.INCONCLUSIVE, id="unknown"),
        pytest.param(Outcome.PASS, Change.SLOWER, Outcome.FAIL, id="slower"),
        pytest.param(Outcome.INCONCLUSIVE, Change.REGRESSED, Outcome.FAIL, id="slower-on-a-busy-machine"),
        pytest.param(Outcome.INCONCLUSIVE, Change.FASTER, Outcome.INCONCLUSIVE, id="faster-on-a-busy-machine"),
        pytest.param(Outcome.INVALID, Change.SLOWER, Outcome.INVALID, id="invalid"),
        pytest.param(Outcome.FAIL, Change.FASTER, Outcome.FAIL, id="faster-but-over-budget"),
    ],
)
def test_the_verdict_of_both(outcome, change, expected):
    comparison = Comparison(speedup=Interval(low=0.9, estimate=1.0, high=1.1), change=change, pairs=10, delta=0.02)
    own = Check(name="latency", outcome=outcome, found="", reason="busy")

    assert overall([own, judge_pairs(comparison, "other")])[0] is expected


def test_nothing_asked_passes():
    assert worst([]) is Outcome.PASS
