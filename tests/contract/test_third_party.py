"""A backend of another package, installed by an entry point, stands wherever one of ours does."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport import api
from edgeport.backends.registry import available_backends, effective_plan, peak_backends
from edgeport.calibration.plan import make_plan
from edgeport.contracts import Calibration, Outcome
from edgeport.doctor import diagnose
from edgeport.onnx_files import open_onnx
from edgeport.testing.sample_backend import NAME, SampleBackend

RECIPE = """
[model]
source = "model.onnx"

[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"

[[target]]
backend = "sample"
precisions = ["fp32", "int8"]

[[target]]
backend = "onnxruntime"
precisions = ["fp32"]

[search]
rounds = 6
screening_rounds = 6
duration_s = 0.02
warmup_s = 0.01
"""


@pytest.fixture(autouse=True, scope="module")
def _installed(tmp_path_factory):
    """As pip leaves it: a folder that names the entry point, on the path."""
    site = tmp_path_factory.mktemp("site")
    about = site / "edgeport_sample-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: edgeport-sample\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[edgeport.backends]\nsample = edgeport.testing.sample_backend:create_backend\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield
    assert str(site) not in sys.path


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    """Folder with a model of 256 features, samples of it, and a recipe."""
    folder = tmp_path_factory.mktemp("problem")
    random = np.random.default_rng(0)
    weight = random.standard_normal((256, 8)).astype(np.float32) / 16
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["images", "weight"], ["scores"], name="product"),
        ],
        "problem",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 256])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx"
    )
    for name, count in (("calibration", 64), ("evaluation", 600)):
        np.savez(folder / f"{name}.npz", images=random.standard_normal((count, 256)).astype(np.float32))
    (folder / "edgeport.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def result(problem):
    return api.run(problem / "edgeport.toml", output=problem / "out", store=problem / "store")


@pytest.fixture(scope="module")
def quantized(problem):
    folder = problem / "quantized"
    artifact = api.quantize(
        problem / "model.onnx",
        output=folder,
        options=api.QuantizeOptions(backend=NAME, samples=problem / "calibration.npz", require_placement=1.0),
    )
    return folder, artifact


def test_it_is_listed_behind_ours():
    assert available_backends() == ("onnxruntime", "openvino", "tensorrt", NAME)


def test_the_doctor_asks_it_and_opens_a_model_on_its_accelerator(tmp_path):
    rows = {one.backend: one for one in diagnose(store=tmp_path).backends}
    assert rows[NAME].can_run
    assert rows[NAME].devices == ("CPU",)
    assert rows[NAME].unusable == {"chip": "that sample computes on the CPU alone"}


def test_a_draft_has_a_target_for_it(problem, tmp_path):
    draft = api.init(str(problem / "model.onnx"), recipe=tmp_path / "edgeport.toml")
    assert 'backend = "sample"' in (tmp_path / "edgeport.toml").read_text()
    assert any(NAME in line for line in draft.found if line.startswith("Usable here"))


@pytest.mark.alone
def test_a_run_has_each_of_its_candidates(result):
    rows = {one.precision: one for one in result.candidates if one.backend == NAME}
    assert set(map(str, rows)) == {"fp32", "int8"}
    for row in rows.values():
        assert row.artifact is not None
        assert row.accuracy is not None
        assert row.latency is not None
        assert row.latency.roofline is not None
        assert row.placement is not None
    (int8,) = (row for precision, row in rows.items() if not precision.is_float)
    assert int8.placement.as_planned == 1


@pytest.mark.alone
def test_its_peak_is_that_of_one_of_ours(result):
    row = next(one for one in result.candidates if one.backend == NAME)
    assert row.latency.roofline.roof.source.startswith("onnxruntime fp32 matrix product")
    assert NAME not in peak_backends()


@pytest.mark.alone
def test_the_report_shows_it(result, problem):
    text = (problem / "out" / "report.html").read_text(encoding="utf-8")
    assert "sample int8" in text


def test_its_plan_is_as_it_writes_it(problem, quantized):
    model = open_onnx(problem / "model.onnx")
    _, artifact = quantized
    api.calibrate(model.path, problem / "calibration.npz", output=problem / "calibration.safetensors")
    plan = make_plan(model, Calibration.load(problem / "calibration.safetensors"), SampleBackend().capabilities().rules)
    assert "scores" in plan.activations
    assert set(effective_plan(NAME, model, plan).activations) == {"images"}
    written = onnx.load(artifact.folder / artifact.entry)
    assert [node.op_type for node in written.graph.node][-1] == "MatMul", "what the model gives is not rounded"
    assert effective_plan("edgeport.backends.tensorrt:create_backend", model, plan) != plan


@pytest.mark.alone
def test_its_artifact_is_timed_and_has_a_roofline(quantized):
    found = api.bench(quantized[0], options=api.BenchOptions(rounds=6, duration_s=0.02))
    assert found.outcome is not Outcome.INVALID
    assert found.summary.quantile(0.5).interval_ns is not None
    assert found.summary.roofline is not None


@pytest.mark.alone
def test_how_it_is_run_is_tuned(quantized, tmp_path):
    found = api.tune_execution(
        [quantized[0]],
        output=tmp_path / "tuned",
        store=tmp_path / "store",
        options=api.ExecutionTuneOptions(time_s=20.0, rounds=6, duration_s=0.02),
    )
    assert found.chosen
    assert (tmp_path / "tuned" / "best").is_dir()
