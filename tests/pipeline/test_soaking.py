"""An artifact that is kept at work: burst and sustained, in the API and on the command line."""

from __future__ import annotations

import json

import pytest

from edgeport import api
from edgeport.cli.app import run
from edgeport.contracts import Limits, Outcome
from edgeport.errors import UsageError


def test_a_soak_has_two_numbers_and_the_raw_trace(make_artifact_folder):
    found = api.soak(make_artifact_folder("net", busy_ns=2_000_000), time_s=1.2, limits=Limits(time_s=60))
    (trace,) = found.measurement.traces
    assert trace.scenario == "sustained"
    assert trace.elapsed_ns >= 1.2e9
    assert sum(int(sample.values.get("kept_readings", 0)) for sample in trace.telemetry) == len(trace.latency_ns)
    assert 1.9e6 < found.endurance.burst_ns.estimate < 10e6
    assert 1.9e6 < found.endurance.sustained_ns.estimate < 10e6
    assert found.endurance.duration_s == pytest.approx(1.2, abs=0.3)


def test_outputs_of_a_soak_are_checked(make_artifact_folder):
    found = api.soak(make_artifact_folder("net", busy_ns=2_000_000), time_s=1.0, limits=Limits(time_s=60))
    assert found.measurement.traces[0].outputs_match is True
    assert "outputs-mismatch" not in found.flags


@pytest.mark.parametrize("time_s", [0.5, 90_000.0])
def test_a_time_that_is_none_is_refused(make_artifact_folder, time_s):
    with pytest.raises(UsageError, match="too short or too long"):
        api.soak(make_artifact_folder("net"), time_s=time_s)


def test_the_command_line_says_both(make_artifact_folder, capsys):
    folder = str(make_artifact_folder("net", busy_ns=2_000_000))
    assert run(["bench", folder, "--soak", "1s", "-q"]) in (0, 4)
    said = capsys.readouterr().out
    assert "burst" in said
    assert "sustained" in said
    assert "speed kept" in said
    assert "missing" in said or "heat" in said


def test_a_soak_is_not_judged(make_artifact_folder, capsys):
    folder = str(make_artifact_folder("net"))
    assert run(["bench", folder, "--soak", "1s", "--budget", "p50=1ms", "--json", "-q"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "--budget" in error["asked"]
    assert error["code"] == "USAGE"


def test_bench_rests_before_processes_when_asked(make_artifact_folder):
    found = api.bench(make_artifact_folder("net"), options=api.BenchOptions(rounds=2, duration_s=0.05, cool_down_s=0.2))
    rested = [sample.values.get("cooled_s") for one in found.measurement.traces for sample in one.telemetry[:1]]
    assert rested[0] is None
    assert rested[1] is not None
    assert found.outcome is not Outcome.FAIL
    assert found.missing == api.probe_device("local").missing  # named, never taken for quiet
