"""ONNX Runtime's own format: the same numbers, bound to this machine or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeport import hardware
from edgeport.backends.artifacts import artifact_digest
from edgeport.backends.onnxruntime import create_backend
from edgeport.backends.onnxruntime.ort_format import FORMS
from edgeport.backends.onnxruntime.rules import x86_rules
from edgeport.calibration.plan import float_plan
from edgeport.contracts import DataParallel, ExecutionConfig, ModelParallel, Packing
from edgeport.errors import BackendError, UnsupportedByBackend

backend = create_backend()


@pytest.fixture
def model(bench):
    weights = {f"w{index}": bench.weight(16, 16, 3, 3) for index in range(3)}
    nodes = [
        bench.node("Conv", [source, f"w{i}"], [f"c{i}"], pads=[1] * 4) for i, source in enumerate(("x", "c0", "c1"))
    ]
    return bench.model([*nodes, bench.node("Relu", ["c2"], ["y"])], weights, (2, 16, 8, 8), ["y"])


@pytest.fixture
def artifact(model, bench):
    return backend.compile(model, float_plan(model), ExecutionConfig(threads=1), bench.folder / "artifact")


def outputs(artifact, feeds):
    session = backend.open(artifact)
    call = session.bind(feeds)
    call.run()
    found = call.outputs()
    session.close()
    return found["y"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("integers", [False, True], ids=["float", "int8"])
def test_it_gives_the_numbers_of_the_onnx_file(model, bench, tmp_path, form, integers):
    plan = bench.quantize(model, x86_rules(vnni=True)).plan if integers else float_plan(model)
    artifact = backend.compile(model, plan, ExecutionConfig(threads=1), tmp_path / "onnx")
    packed, placement = backend.packed(artifact, form, tmp_path / "packed")
    feeds = bench.batch(model)
    np.testing.assert_allclose(outputs(packed, feeds), outputs(artifact, feeds), rtol=1e-4, atol=1e-5)
    assert packed.entry == "model.ort"
    assert {path.name for path in packed.folder.iterdir()} == {"model.ort"}
    assert placement.share("int8" if integers else "fp32") > 0.7


def test_streams_run_it_too(artifact, model, bench, tmp_path):
    packed, _ = backend.packed(artifact, "ort", tmp_path / "packed")
    several = backend.with_execution(packed, ExecutionConfig(threads=1, layout=DataParallel(streams=2)))
    feeds = bench.batch(model)
    np.testing.assert_allclose(outputs(several, feeds), outputs(artifact, feeds), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["version", "machine", "instructions"])
def test_what_is_made_for_one_machine_opens_on_no_other(artifact, tmp_path, name):
    packed, _ = backend.packed(artifact, "ort-device", tmp_path / "packed")
    settings = {**packed.settings, "made_for": {**packed.settings["made_for"], name: "another"}}
    foreign = replace(packed, settings=settings, digest=artifact_digest(packed.folder, settings))
    with pytest.raises(BackendError, match=r"optimised for .*another.*; found .*; write it on this machine"):
        backend.open(foreign)


def test_the_portable_form_names_no_machine(artifact, tmp_path):
    packed, placement = backend.packed(artifact, "ort", tmp_path / "packed")
    assert "made_for" not in packed.settings
    assert not any("nchwc" in node.operator.lower() or node.operator.startswith("Reorder") for node in placement.nodes)


def test_its_nodes_are_told_when_it_is_written_alone(artifact, tmp_path):
    packed, _ = backend.packed(artifact, "ort", tmp_path / "packed")
    with pytest.raises(BackendError, match=r"see placement\.json beside the artifact"):
        backend.placement(packed)


def test_a_graph_that_opens_at_a_lower_level_alone_is_written_at_that(artifact, tmp_path):
    settings = {**artifact.settings, "optimization": "basic"}
    low = replace(artifact, settings=settings, digest=artifact_digest(artifact.folder, settings))
    _, placement = backend.packed(low, "ort-device", tmp_path / "packed")
    assert "at its level basic" in placement.source


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"stages": []}, "a model in stages", id="stages"),
        pytest.param({"providers": ["CUDAExecutionProvider"]}, "another provider", id="provider"),
    ],
)
def test_what_has_no_other_form_is_refused(artifact, tmp_path, change, said):
    with pytest.raises(UnsupportedByBackend, match=said):
        backend.packed(replace(artifact, settings={**artifact.settings, **change}), "ort", tmp_path / "packed")


def test_an_unknown_form_and_another_machine_are_refused(artifact, tmp_path, monkeypatch):
    with pytest.raises(UnsupportedByBackend, match="found forms onnx, ort, ort-device"):
        backend.packed(artifact, "flat", tmp_path / "packed")
    monkeypatch.setattr(hardware, "_assumed", [("riscv64", frozenset())])
    with pytest.raises(UnsupportedByBackend, match="for riscv64"):
        backend.packed(artifact, "ort", tmp_path / "packed")


def test_stages_are_a_layout_that_is_refused_by_name(model, tmp_path):
    execution = ExecutionConfig(layout=ModelParallel(stages=2))
    staged = backend.compile(model, float_plan(model), execution, tmp_path / "stages")
    with pytest.raises(UnsupportedByBackend, match="a model in stages"):
        backend.packed(staged, "ort", tmp_path / "packed")
    assert isinstance(backend, Packing)
