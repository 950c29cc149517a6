"""What a runtime made of an artifact, told by the device that it runs on."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest

from edgeport.backends.registry import backend
from edgeport.contracts import (
    Candidate,
    ExecutionConfig,
    InspectJob,
    Limits,
    Placement,
    Precision,
    dump_json,
    load_json,
    to_jsonable,
)
from edgeport.contracts.serialise import canonical
from edgeport.devices.local import LocalDevice
from edgeport.errors import BackendError, DeviceError
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.compilation import worker
from edgeport.pipeline.compilation.compile import _placed_there
from edgeport.pipeline.compilation.worker import placed_there
from edgeport.pipeline.quantization.planning import plan_for
from edgeport.pipeline.run import _unread_notes


@pytest.fixture
def built(small_onnx, save_onnx, tmp_path):
    """A model, its plan's file and its artifact, with int8 made while it runs."""
    model = open_onnx(save_onnx(small_onnx))
    made = backend("onnxruntime")
    payload = {"backend": "onnxruntime", "precision": "int8-dynamic", "calibration": None, "method": "minmax"}
    plan = plan_for(model, made, payload)
    (tmp_path / "artifact").mkdir()
    artifact = made.compile(model, plan, ExecutionConfig(threads=1), tmp_path / "artifact")
    (tmp_path / "plan.json").write_bytes(dump_json(plan))
    return model, tmp_path / "plan.json", artifact


@pytest.fixture
def told(built, tmp_path):
    """What the device says of it."""
    _, _, artifact = built
    device = LocalDevice(tmp_path / "device")
    job = InspectJob(
        artifact=device.push(artifact.folder),
        entry=artifact.entry,
        session=artifact.session,
        settings=artifact.settings,
        outputs=device.reserve("told.zip"),
    )
    assert device.run(job).artifact_digest == artifact.digest
    device.pull(job.outputs, tmp_path / "told.zip")
    return tmp_path / "told.zip"


def _payload(built, told):
    model, plan, artifact = built
    return {
        "model": to_jsonable(model),
        "artifact": to_jsonable(artifact),
        "plan": str(plan),
        "told": str(told),
        "processor": None,
    }


def test_it_is_what_is_read_here(built, told):
    found = placed_there(_payload(built, told))
    placement = load_json(Placement, canonical(found["placement"]))
    here = backend("onnxruntime").placement(built[2])
    assert placement.nodes == here.nodes
    assert [node.precision for node in placement.nodes if node.operator.startswith("DynamicQuantize")] == ["int8"]
    assert placement.as_planned == 1.0
    assert placement.planned is not None
    assert str(Precision.INT8_DYNAMIC) in built[1].read_text()


def test_no_weights_are_brought(told):
    with zipfile.ZipFile(told) as archive:
        assert sorted(archive.namelist()) == ["0/optimised.onnx", "0/providers.json"]


@pytest.mark.parametrize("what", ["no archive", "larger than a graph", "another file", "no graph"])
def test_what_makes_no_sense_is_an_error(built, told, monkeypatch, what):
    if what == "no archive":
        told.write_bytes(b"PK\x03\x04 no zip")
    elif what == "larger than a graph":
        monkeypatch.setattr(worker, "_LARGEST_TOLD", 10)
    else:
        name = "../../providers.json" if what == "another file" else "0/optimised.onnx"
        with zipfile.ZipFile(told, "w") as archive:
            archive.writestr(name, "{}")
            archive.writestr("0/providers.json", "[]" if what == "another file" else "{}")
    with pytest.raises(BackendError, match="read what"):
        placed_there(_payload(built, told))


def test_a_session_that_can_not_say_is_an_error(built, tmp_path):
    _, _, artifact = built
    device = LocalDevice(tmp_path / "device")
    job = InspectJob(
        artifact=device.push(artifact.folder),
        entry=artifact.entry,
        session="edgeport.testing.fake_session",
        outputs=device.reserve("told.zip"),
    )
    with pytest.raises(BackendError, match="a session module that can't say"):
        device.run(job)
    with pytest.raises(DeviceError, match="no such file in the artifact"):
        device.run(replace(job, entry="other"))


def test_a_run_says_why_it_was_not_read(built, tmp_path):
    _, _, artifact = built

    class NoRoom(LocalDevice):
        def run(self, job):
            raise DeviceError(asked="look", found="that the device has no room", fix="make some")

    facts = SimpleNamespace(name="pi", machine="aarch64", digest="pi")
    context = SimpleNamespace(
        device=NoRoom(tmp_path / "device"),
        facts=facts,
        processor=object(),
        store=SimpleNamespace(get_or_build=lambda kind, key, build: build(tmp_path)),
        limits=Limits(),
    )
    candidate = Candidate(name="a", backend="onnxruntime", precision=Precision.INT8_DYNAMIC, artifact=artifact)
    found = _placed_there(context, candidate, built[0])
    assert (found.unread, found.placement) == ("that the device has no room", None)
    unasked = replace(candidate, name="b")
    began = "Planned for pi (aarch64) and run there; which nodes of"
    assert _unread_notes(context, [found, replace(found, name="c"), unasked]) == [
        f"{began} a, c ran as integers was not read: found that the device has no room.",
        f"{began} b ran as integers was not read.",
    ]
