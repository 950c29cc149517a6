"""Ways to share processors, what is chosen of them, and processes that are at work at the same time."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from edgeport import api
from edgeport.contracts import Artifact, ExecutionConfig, Outcome, TaskParallel, TimeJob, load_json, silent
from edgeport.devices.local import LocalDevice
from edgeport.errors import ContractError, OutputError, UsageError
from edgeport.pipeline.benchmarking.artifact import BenchSettings, open_artifact, time_job
from edgeport.pipeline.benchmarking.bench import parse_bounds
from edgeport.pipeline.search import colocation
from edgeport.pipeline.search.core_partitions import Share, as_executions, fastest_first, promising, shares, turned
from edgeport.testing.synthetic import SyntheticSession, simulate


def sizes(way):
    return {name: (len(one.cores), one.priority) for name, one in way.items()}


def test_two_models_on_four_processors():
    found = list(shares(["a", "b"], (0, 1, 2, 3)))
    assert [sizes(way) for way in found] == [
        {"a": (1, 0), "b": (3, 0)},
        {"a": (2, 0), "b": (2, 0)},
        {"a": (3, 0), "b": (1, 0)},
        {"a": (4, 0), "b": (4, 0)},
        {"a": (4, 0), "b": (4, 10)},
        {"a": (4, 10), "b": (4, 0)},
    ]
    assert found[1] == {"a": Share(cores=(0, 1)), "b": Share(cores=(2, 3))}


def test_more_models_than_processors_share_the_last():
    first = next(shares(["a", "b", "c"], (4, 5)))
    assert first == {"a": Share(cores=(4,)), "b": Share(cores=(5,)), "c": Share(cores=(5,), priority=10)}


def test_what_is_over_its_budget_alone_is_not_tried():
    alone = {"a": {1: 1.2, 2: 0.7, 3: 0.5, 4: 0.4}, "b": {1: 0.8, 2: 0.6, 3: 0.5, 4: 0.5}}
    found = promising(shares(["a", "b"], (0, 1, 2, 3)), alone)
    assert [sizes(way) for way in found][:4] == [
        {"a": (4, 0), "b": (4, 0)},
        {"a": (4, 0), "b": (4, 10)},
        {"a": (4, 10), "b": (4, 0)},
        {"a": (2, 0), "b": (2, 0)},
    ]
    assert all(len(way["a"].cores) > 1 for way in found)


def test_the_fastest_processors_come_first(tmp_path):
    for core, capacity in enumerate((400, 400, 1024)):
        (tmp_path / f"cpu{core}").mkdir()
        (tmp_path / f"cpu{core}" / "cpu_capacity").write_text(f"{capacity}\n")
    (tmp_path / "cpu3" / "cpufreq").mkdir(parents=True)
    (tmp_path / "cpu3" / "cpufreq" / "cpuinfo_max_freq").write_text("500\n")
    assert fastest_first((0, 1, 2, 3, 4), tmp_path) == (2, 3, 0, 1, 4)


def test_a_way_turned_round():
    way = {"a": Share(cores=(2,), priority=5), "b": Share(cores=(0, 1))}
    assert turned(way, (2, 0, 1)) == {"a": Share(cores=(1,), priority=5), "b": Share(cores=(2, 0))}


def test_a_way_as_settings():
    layout = as_executions({"a": Share(cores=(1, 2), priority=5)})
    assert layout == TaskParallel(residents={"a": ExecutionConfig(threads=2, affinity=(1, 2), priority=5)})
    assert str(layout) == "a: 2 threads, on processors 1, 2, nice 5"


@pytest.mark.parametrize("nice", [-1, 20])
def test_priorities_are_those_that_need_no_rights(nice):
    with pytest.raises(ContractError, match="nice value"):
        ExecutionConfig(priority=nice)


MS = 1_000_000
TIMED = TimeJob(artifact="a", entry="model.onnx", session="s", feeds="f")
COMPILED = []
"""The one model that all of them run; compiled by the first that asks."""


def took(ms):
    """Ten processes whose calls take about that long."""
    return simulate(SyntheticSession(median_ns=ms * MS, process_sd=0.003), processes=10, calls=200, seed=1)


@pytest.fixture
def played(monkeypatch, small_onnx, save_onnx, tmp_path, tmp_path_factory):
    """Runs a schedule of two models, each held to 10 ms, in which a way takes what it is said to take."""
    path = save_onnx(small_onnx)
    if not COMPILED:
        COMPILED.append(open_artifact(path, BenchSettings(), tmp_path_factory.mktemp("compiled") / "model"))

    def run(together, alone=((1, 8.0), (2, 5.0)), *, sure=True, surely_over=(), slower=""):
        def measure(_device, jobs, **_options):
            pinned = all("affinity" in job.settings for job in jobs.values())
            places = [tuple(job.settings["affinity"]) for job in jobs.values()] if pinned else []
            apart = pinned and len(set(places)) == len(jobs)
            way = "apart" if apart else "shared" if pinned else "naive"
            way = "turned" if places == [(1,), (0,)] and "turned" in together else way
            return {name: took(together[way]) for name in jobs}

        def measure_alone(search, _cores):
            search.alone = {
                model.name: {count: ms * MS * (1.1 if model.name == slower else 1.0) for count, ms in alone}
                for model in search.models
            }
            search.alone_is_sure, search.surely_over = sure, set(surely_over)

        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        monkeypatch.setattr(colocation, "measure_together", measure)
        monkeypatch.setattr(colocation._Search, "_measure_alone", measure_alone)
        monkeypatch.setattr(colocation, "open_artifact", lambda *_: COMPILED[0])
        monkeypatch.setattr(colocation, "time_job", lambda *_: TIMED)
        models = {"one": (path, "p90=10ms"), "two": (path, "p90=10ms")}
        return api.schedule(models, output=tmp_path / "out")

    return run


def test_processors_of_their_own_keep_what_a_naive_run_breaks(played, tmp_path):
    found = played({"naive": 14.0, "apart": 8.5, "shared": 12.0})
    assert found.outcome is Outcome.PASS
    assert found.chosen == "one: 1 thread, on processor 0; two: 1 thread, on processor 1"
    assert [one.outcome for one in found.tried] == [
        Outcome.FAIL,
        Outcome.FAIL,
        Outcome.FAIL,
        Outcome.FAIL,
        Outcome.PASS,
    ]
    assert [round(one.interference, 1) for one in found.tried[-1].residents] == [1.1, 1.1]
    kept = load_json(Artifact, (tmp_path / "out" / "two" / "artifact.json").read_bytes())
    assert (kept.execution.threads, kept.execution.affinity) == (1, (1,))
    assert json.loads((tmp_path / "out" / "schedule.json").read_text())["chosen"] == found.chosen


def test_models_are_told_in_their_order_whichever_is_the_hardest(played):
    found = played({"naive": 14.0, "apart": 8.5, "shared": 12.0}, slower="two")
    assert found.chosen == "one: 1 thread, on processor 1; two: 1 thread, on processor 0"


def test_what_is_in_doubt_is_tried_with_the_processors_turned_round(played):
    found = played({"naive": 14.0, "apart": 9.62, "shared": 16.0, "turned": 8.5})
    assert found.outcome is Outcome.PASS
    assert [(one.name, one.outcome) for one in found.tried[-2:]] == [
        ("one: 1 thread, on processor 0; two: 1 thread, on processor 1", Outcome.INCONCLUSIVE),
        ("one: 1 thread, on processor 1; two: 1 thread, on processor 0", Outcome.PASS),
    ]


def test_what_is_kept_as_it_is_needs_no_schedule(played):
    found = played({"naive": 7.0})
    assert (found.chosen, len(found.tried)) == ("as they are", 1)


def test_where_no_way_keeps_the_budgets_it_says_so(played):
    found = played({"naive": 14.0, "apart": 13.0, "shared": 16.0})
    assert (found.outcome, found.chosen) == (Outcome.FAIL, "")
    assert "no way keeps every budget; the nearest is one: 1 thread" in found.reason


def test_a_way_that_is_over_alone_is_ruled_out(played):
    found = played({"naive": 14.0, "shared": 16.0}, alone=((1, 11.0), (2, 6.0)))
    assert (found.outcome, found.impossible, len(found.tried)) == (Outcome.FAIL, 1, 4)


def test_what_is_over_alone_is_judged_as_a_budget(monkeypatch):
    shown = {"one alone on 1": took(12.0), "one alone on 2": took(9.0)}
    monkeypatch.setattr("edgeport.devices.experiment.run_rounds", lambda *_, **__: None)
    monkeypatch.setattr("edgeport.devices.experiment.to_measurements", lambda *_, **__: shown)
    model = SimpleNamespace(name="one", bound=parse_bounds(["p90=10ms"])[0], run_as=lambda _: (None, None))
    device = SimpleNamespace(facts=lambda: SimpleNamespace(digest=""))
    search = colocation._Search(device=device, models=[model], rounds=6, output=None, on_progress=silent)
    search._measure_alone((0, 1))
    assert (search.surely_over, search.alone_is_sure) == ({("one", 1)}, True)


@pytest.mark.parametrize(
    ("surely_over", "outcome"),
    [
        pytest.param((), Outcome.INCONCLUSIVE, id="it may have been somebody else"),
        pytest.param({("two", 1), ("one", 2)}, Outcome.FAIL, id="whatever else was at work"),
        pytest.param({("two", 1)}, Outcome.INCONCLUSIVE, id="in one of the ways"),
    ],
)
def test_on_a_busy_machine_no_way_is_ruled_out_but_where_that_is_sure(played, surely_over, outcome):
    found = played({"naive": 14.0}, alone=((1, 11.0), (2, 10.5)), sure=False, surely_over=surely_over)
    assert (found.outcome, found.impossible, len(found.tried)) == (outcome, 4, 1)


def test_processes_that_meet_are_at_work_at_the_same_time(small_onnx, save_onnx, tmp_path):
    opened = open_artifact(save_onnx(small_onnx), BenchSettings(), tmp_path / "model")
    device = LocalDevice(tmp_path / "device")
    job = time_job(opened, BenchSettings(duration_s=0.3), tmp_path / "feeds", device)
    found = colocation.measure_together(device, {"one": job, "two": job}, rounds=1)
    (one,), (two,) = found["one"].traces, found["two"].traces
    starts = max(one.started_at_ns, two.started_at_ns)
    ends = min(each.started_at_ns + each.elapsed_ns for each in (one, two))
    assert ends - starts > 0.1e9
    assert not list((tmp_path / "device" / "outputs").glob("*/meeting*"))


@pytest.mark.parametrize(
    "given", [pytest.param(".", id="the folder"), pytest.param("artifact.json", id="what is in it")]
)
def test_what_is_given_and_what_is_not_its_own_stay(given, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "artifact.json").write_text("{}", encoding="utf-8")
    models = {name: (tmp_path / name / given, "p50=1ms") for name in ("one", "two")}
    with pytest.raises(OutputError, match=r"one would be replaced, which was given"):
        api.schedule(models, output=tmp_path)
    (tmp_path / "out" / "two").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"something else in the place of .*two"):
        api.schedule(models, output=tmp_path / "out")
    assert (tmp_path / "one" / "artifact.json").read_text(encoding="utf-8") == "{}"


def test_what_can_not_be_scheduled(tmp_path):
    with pytest.raises(UsageError, match="give two or more"):
        api.schedule({"one": (tmp_path, "p50=1ms")}, output=tmp_path / "out")
    with pytest.raises(UsageError, match="no bound of a latency"):
        api.schedule({"one": (tmp_path, "p50=1ms"), "two": (tmp_path, "size=1MB")}, output=tmp_path / "out")
