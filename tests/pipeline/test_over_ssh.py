"""A recipe over real SSH, from its first step to the bundle; the link is cut on the way."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edgeport import api
from edgeport.contracts import Change, Limits, Precision
from edgeport.devices.remote import RemoteDevice
from edgeport.errors import DeviceLost, UsageError
from edgeport.pipeline import run_recipe
from edgeport.pipeline.benchmarking.bench import Asked, BenchSettings, bench_artifact

LIMITS = Limits(time_s=60)


@pytest.fixture
def board(ssh_board, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPORT_CONFIG", str(tmp_path / "config"))
    api.add_device("board", "ssh://board")
    return ssh_board


def _until_a_job_runs(board, word=""):
    """A job that holds the word."""
    while not any(word in job for job in _jobs(board)):
        time.sleep(0.005)


def _jobs(board):
    """What the processes there were asked for."""
    places = [Path(word) for line in board.processes() for word in line.split() if word.endswith("job.json")]
    with suppress(FileNotFoundError):  # it ended meanwhile
        return [place.read_text() for place in places]
    return []


def _cut_in_a_job(board):
    _until_a_job_runs(board)
    board.cut()


FLOAT = (Precision.FP32,)
BOTH = (Precision.FP32, Precision.INT8_DYNAMIC)


@pytest.mark.parametrize("precisions", [FLOAT, pytest.param(BOTH, marks=pytest.mark.slow)], ids=["float", "both"])
def test_a_recipe_that_is_cut_goes_on_and_ends_in_a_bundle(board, make_recipe, tmp_path, monkeypatch, precisions):
    recipe, store = make_recipe("base", rounds=6, precisions=precisions), tmp_path / "store"
    runs, run = [], RemoteDevice.run

    def cut_in_the_screening(device, job):
        runs.append(job.kind)
        if runs.count("time") == 4:
            threading.Thread(target=_cut_in_a_job, args=(board,)).start()
        return run(device, job)

    monkeypatch.setattr(RemoteDevice, "run", cut_in_the_screening)
    with pytest.raises(DeviceLost):
        run_recipe(recipe, output=tmp_path / "out", store=store, limits=LIMITS, device="board")
    assert "evaluate" in runs
    assert runs[-1] == "time"
    assert board.left() == []
    assert not (tmp_path / "out" / "result.json").exists()

    monkeypatch.setattr(RemoteDevice, "run", run)
    sent = board.sent_bytes
    result = run_recipe(recipe, output=tmp_path / "out", store=store, limits=LIMITS, device="board")
    assert result.device.name == "board"
    assert result.reused > 0
    assert result.bundle is not None
    assert (result.bundle / "manifest.json").is_file()
    assert all(one.latency is not None for one in result.candidates if one.refusal is None)
    assert board.sent_bytes - sent < 400_000  # what is there already is not sent again
    assert len(board.commands) == 2
    assert board.left() == []


def test_a_device_that_is_lost_while_it_judges_ends_the_run(board, make_recipe, tmp_path, monkeypatch):
    def lost(device, job):
        raise DeviceLost(asked="run a job on board", found="the link broke", fix="run it again")

    monkeypatch.setattr(RemoteDevice, "run", lost)
    recipe = make_recipe("base", precisions=FLOAT)
    with pytest.raises(DeviceLost):  # not a candidate that is refused
        run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store", limits=LIMITS, device="board")


def test_bench_times_on_the_device_and_says_where(board, problem):
    settings = BenchSettings(rounds=3, duration_s=0.02, device="board", limits=LIMITS)
    found = bench_artifact(problem / "model.onnx", settings, Asked())
    assert found.device.name == "board"
    assert found.summary.processes == 3
    assert "wrong-output" not in found.summary.flags
    assert board.left() == []


def test_a_soak_that_ends_early_says_what_is_lost_and_leaves_nothing_there(board, make_artifact_folder):
    net = make_artifact_folder("net", busy_ns=1_000_000)

    def soak(end):
        at_work = threading.Thread(target=lambda: (_until_a_job_runs(board, "sustained"), end()), daemon=True)
        at_work.start()
        try:
            api.soak(net, time_s=60, limits=LIMITS, options=api.ExecuteOptions(device="board"))
        finally:
            at_work.join(timeout=10)

    with pytest.raises(DeviceLost, match="keep net at work on board for 60 s") as caught:
        soak(board.cut)
    assert caught.value.found.endswith("s after it began; what it had measured is lost")
    assert "begins anew" in caught.value.fix
    assert board.left() == []
    with pytest.raises(KeyboardInterrupt):
        soak(lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    assert board.left() == []
    assert not list(board.home.glob(".cache/edgeport-device/sessions/*"))


@pytest.mark.slow
def test_what_else_is_measured_is_measured_there(board, problem, tmp_path):
    """An artifact against another one, at work for a while, and how it is best run."""
    model = problem / "model.onnx"
    paired = api.compare(
        model, model, limits=LIMITS, options=api.CompareOptions(rounds=2, duration_s=0.02, device="board")
    )
    assert paired.device.name == "board"
    soaked = api.soak(model, time_s=1.2, limits=LIMITS, options=api.ExecuteOptions(threads=1, device="board"))
    assert soaked.device.name == "board"
    assert soaked.measurement.traces[0].outputs_match is True
    assert soaked.endurance.duration_s == pytest.approx(1.2, abs=0.5)
    options = api.ExecutionTuneOptions(device="board", time_s=5.0, rounds=2, duration_s=0.02)
    tuned = api.tune_execution(
        [model], output=tmp_path / "out", limits=LIMITS, options=options, store=tmp_path / "store"
    )
    assert tuned.device.name == "board"
    assert (tmp_path / "out" / "best").is_dir()
    assert board.left() == []


def test_a_device_is_probed_and_cleaned_by_its_name(board):
    found = api.probe_device("board")
    here = api.probe_device("local")
    assert (found.facts.name, here.facts.name) == ("board", "local")
    assert (found.facts.cpu, found.cores, found.missing) == (here.facts.cpu, here.cores, here.missing)
    assert sum(core.count for core in found.cores) >= found.facts.cores
    freed = api.clean_device("board")
    assert freed["folder"] == str(board.home / ".cache" / "edgeport-device")
    assert freed["freed_bytes"] > 10_000
    for refused in (api.clean_device, api.prepare_device):
        with pytest.raises(UsageError, match="this machine itself"):
            refused("local")


def test_a_device_that_nobody_added_is_said(make_recipe, tmp_path):
    with pytest.raises(UsageError, match="edgeport devices add nowhere"):
        run_recipe(make_recipe("base"), output=tmp_path / "out", store=tmp_path / "store", device="nowhere")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_over_ssh_and_here_a_model_is_equally_fast(board, problem, tmp_path):
    """Rounds of both in turn: the link and its watcher cost a call nothing."""
    from edgeport.devices.experiment import Round, order_of_round, to_measurements
    from edgeport.devices.latency.comparison import compare
    from edgeport.devices.opening import open_device
    from edgeport.pipeline.benchmarking.bench import open_all

    settings = BenchSettings(duration_s=0.3, threads=1, limits=LIMITS)
    rounds = []
    with open_device("local", tmp_path / "a") as here, open_device("board", tmp_path / "b") as there:
        devices, jobs = {"here": here, "there": there}, {}
        for name, device in devices.items():
            path = {"model": problem / "model.onnx"}
            jobs[name] = open_all(path, settings, tmp_path / name, device, lambda _: None)[1]["model"]
        for index in range(20):
            order = order_of_round(jobs, seed=0, index=index)
            traces = {name: devices[name].run(replace(jobs[name], round=index)) for name in order}
            rounds.append(Round(index=index, seed=0, traces=traces))
    measured = to_measurements(rounds, device="both")
    found = compare(measured["here"], measured["there"], delta=0.05)
    assert found.change is Change.EQUIVALENT, found
