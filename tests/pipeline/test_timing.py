"""Which rounds count, and which are measured again."""

from dataclasses import replace

import numpy as np
import pytest

from edgeport.contracts import (
    Artifact,
    DeviceFacts,
    Limits,
    Precision,
    ProcessTrace,
    TimerFacts,
)
from edgeport.errors import BackendError
from edgeport.pipeline.benchmarking.experiment import Arm, time_arms
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.store import Store

FACTS = DeviceFacts(name="local", machine="x86_64", cpu="A CPU", cores=2, memory_bytes=1 << 30)
TRACE = ProcessTrace(
    artifact_digest="",
    round=0,
    position=0,
    load_ns=1,
    first_inference_ns=1,
    warmup_ns=(),
    latency_ns=(1000, 1001, 1002),
    timer=TimerFacts(clock="c", resolution_ns=1, overhead_ns=0),
)


class Scripted:
    """Answers at once. `fails`: (arm, round) that raise; `foreign`: arms of which something else runs."""

    def __init__(self, fails=(), foreign=(), calls_per_reading=1):
        self.fails, self.foreign, self.calls = set(fails), set(foreign), calls_per_reading
        self.ran = []

    def push(self, path):
        return str(path)

    def run(self, job):
        self.ran.append((job.entry, job.round))
        if (job.entry, job.round) in self.fails:
            raise BackendError(asked="run it", found="a loose cable", fix="plug it in")
        digest = "f" * 64 if job.entry in self.foreign else f"digest of {job.entry}"
        calls = job.calls_per_reading or self.calls
        return replace(TRACE, artifact_digest=digest, round=job.round, position=job.position, calls_per_reading=calls)


@pytest.fixture
def timed(make_recipe, tmp_path, monkeypatch):
    """Times arms "a", "b" and "c" over 6 rounds on a device, each time as a new run on the same store."""
    monkeypatch.setattr("edgeport.store.code_version", lambda: "1")
    np.savez(tmp_path / "feeds.npz", images=np.zeros((1, 8), np.float32))

    def arm(name):
        artifact = Artifact(
            backend="scripted",
            folder=tmp_path / name,
            entry=name,
            session="edgeport.backends.onnxruntime.session",
            precision=Precision.FP32,
            size_bytes=1,
            digest=f"digest of {name}",
        )
        return Arm(name=name, artifact=artifact, batch=1, reference=tmp_path / "feeds.npz")

    def run(device):
        context = RunContext(
            recipe=make_recipe("base"),
            store=Store(tmp_path / "store"),
            device=device,
            facts=FACTS,
            clock=Clock(lambda _: None),
            scratch=tmp_path,
            limits=Limits(),
        )
        return time_arms(context, [arm(name) for name in "abc"], tmp_path / "feeds.npz", stage="screen", rounds=6)

    return run


def rounds_of(result, name):
    return [trace.round for trace in result.measurements[name].traces]


def test_what_ran_must_be_what_was_built(timed):
    device = Scripted(foreign="b")
    result = timed(device)
    assert result.errors["b"]["code"] == "MEASUREMENT_INVALID"
    assert "what ran is not what was built" in result.errors["b"]["found"]
    assert "b" not in result.measurements
    assert device.ran.count(("b", 0)) == 1
    assert rounds_of(result, "a") == list(range(6))
    again = timed(Scripted())
    assert set(again.measurements) == {"a", "b", "c"}, "it was stored"
    assert rounds_of(again, "b") == list(range(6))


def test_whole_rounds_are_not_measured_again(timed):
    first, device = timed(Scripted()), Scripted()
    assert timed(device) == first
    assert device.ran == []


@pytest.mark.parametrize("when", [0, 3])
def test_the_rounds_without_a_failed_arm_are_not_measured_again(timed, when):
    timed(Scripted(fails=[("b", when)]))
    device = Scripted(fails=[("b", when)])
    result = timed(device)
    assert {index for _, index in device.ran} == {when}, "only the round in which it failed is tried again"
    assert rounds_of(result, "a") == list(range(6))
    assert "b" in result.errors


def test_an_arm_that_holds_the_second_time_has_all_its_rounds(timed):
    timed(Scripted(fails=[("b", 0)]))
    result = timed(Scripted())
    assert not result.errors
    assert rounds_of(result, "b") == list(range(6))


def test_rounds_of_other_readings_are_not_put_together(timed):
    timed(Scripted(fails=[("b", 0)]))
    device = Scripted(fails=[("b", 0)], calls_per_reading=4)
    result = timed(device)
    assert {trace.calls_per_reading for trace in result.measurements["a"].traces} == {4}
    assert device.ran.count(("a", 5)) == 1
