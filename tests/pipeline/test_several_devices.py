"""One recipe for several devices: each has its own candidates, planned for its processor, and its own answer."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeport import api, hardware
from edgeport.contracts import Limits, Precision, Processor, ProgressEvent, to_jsonable
from edgeport.contracts.recipe import SamplesFile, Target
from edgeport.devices import registry
from edgeport.devices.bootstrap import COMMAND
from edgeport.devices.remote import RemoteDevice
from edgeport.errors import ContractError, DeviceError, DeviceLost, UsageError
from edgeport.pipeline import run_recipe
from edgeport.pipeline.compilation.worker import probe
from edgeport.pipeline.dry_run import rehearse
from edgeport.pipeline.engine.concurrency import on_each

LIMITS = Limits(time_s=60)
PI5 = Processor(machine="aarch64", isa=("asimd", "asimdhp", "asimddp"))
PI4 = Processor(machine="aarch64", isa=("asimd",))
ARMV9 = Processor(machine="aarch64", isa=("asimd", "asimdhp", "asimddp", "i8mm", "bf16"))
OLD_PC = Processor(machine="x86_64", isa=("avx2", "fma"))
XEON = Processor(machine="x86_64", isa=("avx2", "avx512_vnni", "avx512_bf16", "amx_int8"))


class Board:
    """A folder of this machine, measured as a machine of its own; how a shell is started in it."""

    def __init__(self, home):
        self._home = home

    def command(self):
        programs = Path(self._home, "bin")
        programs.mkdir(parents=True, exist_ok=True)
        (programs / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (programs / "python3").chmod(0o755)
        path = f"PATH={programs}:{os.environ['PATH']}"
        own = [f"XDG_CACHE_HOME={self._home}", f"EDGEPORT_LOCK_DIR={self._home}", "OPENBLAS_NUM_THREADS=1"]
        return ["env", path, *own, "sh", "-c", COMMAND]

    def explain(self, status, stderr):
        return DeviceError(asked="reach a board", found=stderr, fix="look")


class Pretending(RemoteDevice):
    """It says that it has another processor."""

    def facts(self):
        return replace(super().facts(), machine=PI5.machine, isa=PI5.isa)


def create_board(*, name, place, workdir):
    return (Pretending if name.startswith("arm") else RemoteDevice)(name, Board(place), workdir)


@pytest.fixture
def boards(monkeypatch, tmp_path):
    """Devices `one`, `two` and `arm`, in folders of this machine."""
    monkeypatch.setenv("EDGEPORT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setitem(sys.modules, "of_others", sys.modules[__name__])
    point = EntryPoint("board", "of_others:create_board", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    for name in ("one", "two", "arm"):
        api.add_device(name, f"board://{tmp_path / name}")


def on(recipe, *devices, **changes):
    targets = tuple(replace(recipe.targets[0], name=device, device=device, **changes) for device in devices)
    return replace(recipe, targets=targets, search=replace(recipe.search, screening_rounds=3))


@pytest.mark.usefixtures("boards")
def test_each_device_has_its_own_answer_and_they_work_at_the_same_time(make_recipe, tmp_path):
    recipe = on(make_recipe("base", precisions=(Precision.FP32,)), "one", "two")
    events = []
    result = run_recipe(
        recipe, output=tmp_path / "out", store=tmp_path / "store", limits=LIMITS, on_progress=events.append
    )
    assert [(one.target, one.device.name, one.chosen) for one in result.targets] == [
        ("one", "one", "planted:base fp32"),
        ("two", "two", "planted:base fp32"),
    ]
    assert all((tmp_path / "out" / name / "bundle" / "manifest.json").is_file() for name in ("one", "two"))
    manifest = json.loads((tmp_path / "out" / "two" / "bundle" / "manifest.json").read_text())
    assert manifest["device"]["name"] == "two"
    spans = [_span(one) for one in result.targets]
    assert spans[0][0] < spans[1][1]
    assert spans[1][0] < spans[0][1]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 devices" in page
    again = run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store", limits=LIMITS)
    assert again.reused > 4
    assert [one.chosen for one in again.targets] == ["planted:base fp32"] * 2


def _span(result):
    traces = [trace for one in result.measurements.values() for trace in one.traces]
    return min(one.started_at_ns for one in traces), max(one.started_at_ns + sum(one.latency_ns) for one in traces)


@pytest.mark.slow
@pytest.mark.usefixtures("boards")
def test_a_device_that_is_lost_leaves_the_others_their_work(make_recipe, tmp_path, monkeypatch):
    run = RemoteDevice.run

    def lost(device, job):
        if device._name == "one":
            raise DeviceLost(asked="run a job on one", found="the link broke", fix="run it again")
        return run(device, job)

    monkeypatch.setattr(RemoteDevice, "run", lost)
    recipe = on(make_recipe("base", precisions=(Precision.FP32,)), "one", "two")
    with pytest.raises(DeviceLost):
        run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store", limits=LIMITS)
    assert (tmp_path / "out" / "two" / "bundle" / "manifest.json").is_file()


@pytest.mark.usefixtures("boards")
def test_a_dry_run_asks_devices_what_they_are_and_runs_nothing(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(RemoteDevice, "run", None)
    found = rehearse(on(make_recipe("base"), "one", "two"), store=tmp_path / "store", limits=LIMITS)
    assert any(step.name == "screen" and not step.stored for step in found.steps)


def test_a_device_that_nobody_added_is_said_before_any_work(make_recipe, tmp_path):
    with pytest.raises(UsageError, match="edgeport devices add nowhere"):
        run_recipe(on(make_recipe("base"), "nowhere"), output=tmp_path / "out", store=tmp_path / "store")
    assert not (tmp_path / "out").exists()


def test_what_competes_runs_on_one_device(make_recipe):
    recipe = make_recipe("base")
    targets = tuple(Target(name="board", device=device, backend="planted:base") for device in ("one", "two"))
    with pytest.raises(ContractError, match="targets named board on one and two"):
        replace(recipe, targets=targets)


@pytest.fixture
def asked(monkeypatch):
    """`asked("onnxruntime", PI5)`: what a backend says that it can do for a processor."""
    monkeypatch.setattr(hardware, "_assumed", [])

    def ask(backend, processor):
        hardware._assumed.clear()
        return probe({"backend": backend, "processor": to_jsonable(processor)})["capabilities"]

    return ask


@pytest.mark.parametrize(
    ("processor", "dialect", "reduced", "bf16"),
    [
        (PI5, "onnxruntime-arm", False, False),
        (ARMV9, "onnxruntime-arm", False, True),
        (OLD_PC, "onnxruntime-x86", True, False),
        (XEON, "onnxruntime-x86", False, False),
    ],
    ids=["pi5", "armv9", "old pc", "xeon"],
)
def test_the_plan_is_for_the_devices_processor(asked, processor, dialect, reduced, bf16):
    found = asked("onnxruntime", processor)
    assert found["rules"]["dialect"] == dialect
    assert found["rules"]["weight_reduce_range"] is reduced
    assert found["precisions"]["bf16"]["available"] is bf16


@pytest.mark.parametrize(
    ("processor", "can"),
    [(PI4, set()), (PI5, {"fp16"}), (OLD_PC, set()), (XEON, {"bf16", "int8-dynamic"})],
    ids=["pi4", "pi5", "old pc", "xeon"],
)
def test_openvino_has_what_the_devices_processor_has(asked, processor, can):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    precisions = asked("openvino", processor)["precisions"]
    assert {name for name in ("fp16", "bf16", "int8-dynamic") if precisions[name]["available"]} == can


@pytest.mark.slow
@pytest.mark.usefixtures("boards")
def test_artifacts_differ_by_the_devices_dialect(make_recipe, problem, tmp_path):
    """The one that says it is ARM gets signed activations; both run here, so both are judged."""
    whole = np.load(problem / "evaluation.npz")
    images = np.random.default_rng(5).standard_normal((64, *whole["images"].shape[1:])).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", images=images)
    recipe = make_recipe("base")
    recipe = replace(recipe, data=replace(recipe.data, calibration=SamplesFile(path=tmp_path / "calibration.npz")))
    recipe = on(recipe, "one", "arm", backend="onnxruntime", precisions=(Precision.FP32, Precision.INT8))
    result = run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store", limits=LIMITS)
    kinds = {}
    for one in result.targets:
        artifact = one.candidate("onnxruntime int8").artifact
        graph = onnx.load(artifact.folder / artifact.entry).graph
        points = {init.name: init.data_type for init in graph.initializer if "zero" in init.name}
        kinds[one.target] = set(points.values())
        assert one.candidate("onnxruntime int8").accuracy is not None
    assert onnx.TensorProto.UINT8 not in kinds["arm"]
    assert onnx.TensorProto.UINT8 in kinds["one"]
    for one in result.targets:  # of the one that says it is ARM by its own runtime, there
        placement = one.candidate("onnxruntime int8").placement
        assert placement.source == "optimised graph of ONNX Runtime"
        assert placement.as_planned is not None


def test_work_is_done_side_by_side_and_told_one_at_a_time():
    barrier, told = threading.Barrier(8, timeout=30), []

    def work(tell):
        barrier.wait()
        tell(ProgressEvent(stage="x", message="y"))
        return threading.current_thread().name

    found = on_each(dict.fromkeys("abcdefgh", work), told.append)
    assert found == {name: f"edgeport {name}" for name in "abcdefgh"}
    assert len(told) == 8


def test_the_first_failure_is_raised_when_all_are_done():
    done = []

    def fails(tell):
        raise DeviceLost(asked="a", found="b", fix="c")

    with pytest.raises(DeviceLost):
        on_each({"a": fails, "b": lambda tell: done.append("b")})
    assert done == ["b"]


def test_an_interruption_ends_all_at_their_next_step():
    ended = []

    def work(tell):
        try:
            while True:
                tell(ProgressEvent(stage="x", message="y"))
        finally:
            ended.append(1)

    def interrupt(event):
        if threading.current_thread() is threading.main_thread():
            raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeport.pipeline.engine.concurrency._wait", _interrupted_once())
        with pytest.raises(KeyboardInterrupt):
            on_each({"a": work, "b": work}, interrupt)
    assert ended == [1, 1]


def _interrupted_once():
    from edgeport.pipeline.engine.concurrency import _wait

    calls = []

    def wait(threads):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        _wait(threads)

    return wait
