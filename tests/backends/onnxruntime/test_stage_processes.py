"""Stages in processes of their own: the same numbers, in order; what ends one is told, and none is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgeport.backends.onnxruntime import create_backend
from edgeport.backends.onnxruntime.session import open_session
from edgeport.backends.onnxruntime.session_support.pipeline import Pipeline, StageError
from edgeport.backends.onnxruntime.session_support.stage_process import SharedArrays
from edgeport.calibration.plan import float_plan
from edgeport.contracts import EvaluateJob, ExecutionConfig, ModelParallel, SingleStream

backend = create_backend()
APART = ModelParallel(stages=2, processes=True)


@pytest.fixture
def network(summed):
    return summed("batch")


@pytest.fixture
def artifact(network, bench):
    execution = ExecutionConfig(threads=1, batch=2, layout=APART)
    return backend.compile(network, float_plan(network), execution, bench.folder / "apart")


def outputs(session, feeds):
    call = session.bind(feeds)
    call.run()
    return call.outputs()


def feeds(count, value=1.0):
    return {"x": np.random.default_rng(count).normal(size=(count, 8, 10, 10)).astype(np.float32) * np.float32(value)}


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return True
    return False


def test_outputs_are_those_of_the_whole_in_order_and_no_process_is_left(network, artifact, bench):
    assert artifact.settings["processes"] is True
    alone = ExecutionConfig(threads=1, batch=2, layout=SingleStream())
    whole = backend.open(backend.compile(network, float_plan(network), alone, bench.folder / "whole"))
    pipeline = open_session(artifact.folder / artifact.entry, artifact.settings)
    pids = pipeline.processes
    assert len(set(pids) - {os.getpid()}) == 2
    # Batches that grow and shrink: what is shared grows with them.
    samples = [feeds(count, value) for count, value in ((1, 1.0), (7, 2.0), (2, 3.0), (7, 4.0), (0, 1.0))]
    expected = [outputs(whole, one) for one in samples]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda one: outputs(pipeline, one), samples))
    for found in (at_once, list(pipeline.stream(samples))):
        for one, wanted in zip(found, expected, strict=True):
            assert list(one) == ["y", "r1"]
            for name, array in wanted.items():
                np.testing.assert_allclose(one[name], array, rtol=0, atol=1e-5 * np.abs(array).max(initial=0))
    pipeline.close()
    assert all(map(is_gone, pids))


def test_a_process_that_dies_ends_the_pipeline_and_takes_nothing_with_it(artifact):
    pipeline = open_session(artifact.folder / artifact.entry, artifact.settings)
    outputs(pipeline, feeds(1))
    first, second = pipeline.processes
    os.kill(second, signal.SIGKILL)
    with pytest.raises(StageError, match=r"run stage stage_1\.onnx; found RuntimeError: its process ended with -9"):
        outputs(pipeline, feeds(1))
    with pytest.raises(StageError):
        outputs(pipeline, feeds(1))
    pipeline.close()
    assert is_gone(first)


def test_what_the_runtime_says_there_is_said_here(artifact):
    (artifact.folder / "stage_1.onnx").write_bytes(b"no model")
    with pytest.raises(RuntimeError, match=r"stage_1\.onnx"):
        Pipeline(str(artifact.folder), artifact.settings)


def test_a_process_ends_with_the_one_that_started_it(artifact):
    code = (
        "import json, os, sys; from edgeport.backends.onnxruntime.session import open_session\n"
        "pipeline = open_session(sys.argv[1], json.loads(sys.argv[2]))\n"
        "print(*pipeline.processes, flush=True); os.kill(os.getpid(), 9)\n"
    )
    entry, settings = artifact.folder / artifact.entry, json.dumps(artifact.settings)
    ended = subprocess.run([sys.executable, "-c", code, entry, settings], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in ended.stdout.split()]
    assert len(pids) == 2
    for _ in range(100):
        if all(map(is_gone, pids)):
            return
        time.sleep(0.05)
    pytest.fail(f"{pids} outlived the process that started them")


def test_the_agent_finds_its_packed_module_there_too(network, artifact, bench):
    from edgeport.devices.agent.arrays import load_arrays, save_arrays
    from edgeport.devices.local import LocalDevice

    given, wanted = feeds(4), bench.folder / "outputs.npz"
    save_arrays(bench.folder / "feeds.npz", given)
    job = EvaluateJob(
        artifact=str(artifact.folder),
        entry=artifact.entry,
        session=artifact.session,
        settings=artifact.settings,
        feeds=str(bench.folder / "feeds.npz"),
        outputs=str(wanted),
        batch=2,
    )
    LocalDevice(bench.folder / "device").run(job)
    here = open_session(artifact.folder / artifact.entry, {**artifact.settings, "processes": False})
    np.testing.assert_allclose(load_arrays(str(wanted))["y"], outputs(here, given)["y"], rtol=0, atol=1e-5)
    here.close()


def test_text_does_not_cross(tmp_path):
    area = SharedArrays(str(tmp_path / "area"))
    with pytest.raises(ValueError, match="hand 'words' to another process; found text"):
        area.put({"words": np.array(["a"], dtype=object)})
    told = area.put({"none": np.zeros((0, 3), np.float32), "one": np.float32(3).reshape(())})
    found = area.take(told)
    assert found["none"].shape == (0, 3)
    assert found["one"] == 3
    area.close()
