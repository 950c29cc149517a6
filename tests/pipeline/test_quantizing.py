"""From samples to an artifact in one child: what two commands give, and their refusals."""

from __future__ import annotations

import json
import tempfile

import numpy as np
import onnx
import pytest

from edgeport import api
from edgeport.contracts import to_jsonable
from edgeport.errors import (
    AlreadyQuantizedError,
    ChildCrash,
    SamplesError,
    SourceError,
    UnsupportedByBackend,
    UsageError,
)
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.compilation.worker import calibrate_and_build

LAYERS = """
<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 8] images) => (float[batch, 4] scores) {
    hidden = Gemm(images, first)
    active = Relu(hidden)
    scores = Gemm(active, second)
}
"""
QUANTIZED = """
<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 8] images) => (float[batch, 8] scores) <float scale = {0.1}, uint8 zero = {128}> {
    narrow = QuantizeLinear(images, scale, zero)
    scores = DequantizeLinear(narrow, scale, zero)
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`net.onnx` of two layers, whose first weights are mapped, `quantized.onnx`, and `samples.npz` of 64."""
    folder, random = tmp_path_factory.mktemp("layers"), np.random.default_rng(0)
    proto = onnx.parser.parse_model(LAYERS)
    for name, shape in {"first": (8, 160), "second": (160, 4)}.items():
        array = random.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, folder / "net.onnx")
    onnx.save(onnx.parser.parse_model(QUANTIZED), folder / "quantized.onnx")
    np.savez(folder / "samples.npz", images=random.standard_normal((64, 8)).astype(np.float32))
    np.savez(folder / "others.npz", pictures=random.standard_normal((64, 8)).astype(np.float32))
    return folder


def payload(folder, out, **changed):
    """What the child is told, for min-max in int8 on ONNX Runtime."""
    samples = {"samples": {"kind": "file", "path": str(folder / "samples.npz")}, "target": ""}
    return {
        "model": to_jsonable(open_onnx(folder / "net.onnx")),
        "backend": "onnxruntime",
        "precision": "int8",
        "execution": {"batch": 1},
        "calibration": None,
        "method": "minmax",
        "folder": str(out),
        "calibrating": samples,
        **changed,
    }


def test_it_gives_what_two_commands_give(folder, tmp_path):
    model, samples = folder / "net.onnx", folder / "samples.npz"
    events = []

    one = api.quantize(
        model, output=tmp_path / "one", on_progress=events.append, options=api.QuantizeOptions(samples=samples)
    )
    api.calibrate(model, samples, output=tmp_path / "two.safetensors")
    two = api.quantize(
        model, tmp_path / "two.safetensors", output=tmp_path / "two", options=api.QuantizeOptions(samples=samples)
    )

    plans = [json.loads((tmp_path / name / "plan.json").read_text(encoding="utf-8")) for name in ("one", "two")]
    assert plans[0] == plans[1]
    assert "64 samples" in plans[0]["found_by"]
    assert one.digest == two.digest
    models = [(tmp_path / name / "model.json").read_bytes() for name in ("one", "two")]
    assert models[0] == models[1]
    assert [event.done for event in events][-1] == 64
    assert not list(tmp_path.glob("one/**/*.safetensors"))


def test_a_node_in_integers_has_the_whole_model_calibrated(folder, tmp_path):
    nodes = {"scores": "int8"}
    api.quantize(
        folder / "net.onnx",
        output=tmp_path / "mixed",
        options=api.QuantizeOptions(
            samples=folder / "samples.npz", precision="int8-weights", nodes=nodes, method="minmax"
        ),
    )
    plan = json.loads((tmp_path / "mixed" / "plan.json").read_text(encoding="utf-8"))
    assert plan["nodes"]["scores"] == "int8"
    assert "active" in plan["activations"]


@pytest.mark.parametrize("method", ["minmax", "average", "percentile:99.9", "entropy", "global", "auto"])
def test_only_what_the_method_reads_is_watched(method, folder, tmp_path, monkeypatch):
    from edgeport.pipeline.compilation import worker

    seen = {}

    def watched(model, about, on_progress):
        calibration, warnings = collected(model, about, on_progress)
        seen.update(calibration.statistics)
        return calibration, warnings

    collected = worker.collected
    monkeypatch.setattr(worker, "collected", watched)
    calibrate_and_build(payload(folder, tmp_path, method=method))

    from edgeport.calibration.ranges import method_named, observers_of

    assert {tuple(sorted(one)) for one in seen.values()} == {tuple(sorted(observers_of(method_named(method))))}
    assert "hidden" not in seen  # folded into the activation behind it


def test_what_can_be_refused_without_samples_is_refused_before_them(folder, tmp_path):
    nowhere = {"samples": {"kind": "file", "path": str(folder / "none.npz")}, "target": ""}
    with pytest.raises(UnsupportedByBackend, match="int16"):
        calibrate_and_build(payload(folder, tmp_path, precision="int16", calibrating=nowhere))
    quantized = to_jsonable(open_onnx(folder / "quantized.onnx"))
    with pytest.raises(AlreadyQuantizedError, match=r"quantize quantized\.onnx"):
        calibrate_and_build(payload(folder, tmp_path, model=quantized, calibrating=nowhere))


def test_another_batch_than_the_models_is_refused(folder, tmp_path):
    proto = onnx.load(folder / "net.onnx")
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(proto, tmp_path / "fixed.onnx")
    told = payload(folder, tmp_path, model=None, path=str(tmp_path / "fixed.onnx"), execution={"batch": 3})
    with pytest.raises(UsageError, match="fixed to 4"):
        calibrate_and_build(told)


def test_what_does_not_fit_leaves_nothing_behind(folder, tmp_path):
    with pytest.raises(SamplesError, match="images"):
        api.quantize(
            folder / "net.onnx", output=tmp_path / "out", options=api.QuantizeOptions(samples=folder / "others.npz")
        )
    with pytest.raises(SourceError, match="no readable file"):
        api.quantize(
            folder / "none.onnx", output=tmp_path / "out", options=api.QuantizeOptions(samples=folder / "samples.npz")
        )
    assert not list(tmp_path.iterdir())


def test_recovery_runs_pieces_of_a_model_whose_weights_are_mapped(folder, tmp_path):
    about = payload(folder, tmp_path)["calibrating"]
    built = calibrate_and_build(payload(folder, tmp_path, recovery={"methods": ["rounding:5"], **about}))
    assert [one.partition(" ")[0] for one in built["recovered_by"]] == ["rounding"]


def test_what_is_killed_leaves_no_weights_behind(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "temporary").mkdir()
    (tmp_path / "limits.py").write_text(
        "import os, signal\n\ndef samples():\n    os.kill(os.getpid(), signal.SIGKILL)\n    yield {}\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ChildCrash):
        api.quantize(
            folder / "net.onnx",
            output=tmp_path / "out" / "artifact",
            options=api.QuantizeOptions(samples="limits:samples"),
        )
    assert not list((tmp_path / "temporary").glob("edgeport-*"))
    assert not list((tmp_path / "out").iterdir())
