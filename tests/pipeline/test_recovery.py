"""Recovery methods, from the recipe and from the step, to the plan that a candidate was built from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgeport import api
from edgeport.contracts import Limits, ModelSource, Precision
from edgeport.contracts.recipe import DataSpec, Recipe, SamplesFile, Search, Target
from edgeport.errors import CalibrationError, UsageError
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.compilation.compile import build_candidates
from edgeport.pipeline.compilation.probe import probe
from edgeport.pipeline.datasets.prepare import prepare_samples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.quantization.calibration import calibrate_model
from edgeport.pipeline.quantization.recovery import refining_payload, transformed_model
from edgeport.pipeline.run import _recovery_notes
from edgeport.pipeline.source_model.prepare import prepare_model
from edgeport.store import Store

TWO_LAYERS = """
<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 8] images) => (float[batch, 4] scores) {
    hidden = Gemm(images, first, shift)
    active = Relu(hidden)
    scores = Gemm(active, second, offset)
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`net.onnx` of two layers, `calibration.npz` of 64 samples, `evaluation.npz` of 40 and labels."""
    folder, random = tmp_path_factory.mktemp("layers"), np.random.default_rng(0)
    proto = onnx.parser.parse_model(TWO_LAYERS)
    for name, shape in {"first": (8, 16), "shift": (16,), "second": (16, 4), "offset": (4,)}.items():
        array = random.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, folder / "net.onnx")
    np.savez(folder / "calibration.npz", images=random.standard_normal((64, 8)).astype(np.float32))
    images = random.standard_normal((40, 8)).astype(np.float32)
    np.savez(folder / "evaluation.npz", images=images, target=np.arange(40) % 4)
    api.calibrate(folder / "net.onnx", folder / "calibration.npz", output=folder / "net.safetensors")
    return folder


def quantized(folder, output, **options):
    api.quantize(folder / "net.onnx", folder / "net.safetensors", output=output, options=api.QuantizeOptions(**options))
    return json.loads((output / "plan.json").read_text())


def test_a_step_fits_the_model_to_its_plan(folder, tmp_path):
    plain = quantized(folder, tmp_path / "plain")
    fitted = quantized(folder, tmp_path / "fitted", recover=["bias-correction"], samples=folder / "calibration.npz")
    assert plain["recovered_by"] == []
    assert fitted["recovered_by"] == ["bias-correction (2 of 2 layers, 64 samples)"]
    assert fitted["model_digest"] != plain["model_digest"]
    assert fitted["activations"] == plain["activations"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        pytest.param({"recover": ["bias-corection"]}, CalibrationError, "did you mean 'bias-correction'", id="a typo"),
        pytest.param({"recover": ["bias-correction"]}, UsageError, "give samples", id="no samples"),
        pytest.param(
            {"recover": ["bias-correction"], "samples": "s.npz", "precision": "fp32"},
            UsageError,
            "found precision fp32",
            id="nothing to recover",
        ),
    ],
)
def test_what_a_step_can_not_do_is_said_before_any_work(folder, tmp_path, options, error, says):
    with pytest.raises(error, match=says):
        quantized(folder, tmp_path / "out", **options)


def context_for(folder, scratch, *recovery):
    recipe = Recipe(
        name="layers",
        source=ModelSource(location=str(folder / "net.onnx")),
        data=DataSpec(
            calibration=SamplesFile(path=folder / "calibration.npz"),
            evaluation=SamplesFile(path=folder / "evaluation.npz"),
            target="target",
            metric="top1",
        ),
        targets=(Target(backend="onnxruntime", precisions=(Precision.FP32, Precision.INT8)),),
        search=Search(recovery=recovery),
    )
    return RunContext(
        recipe=recipe,
        store=Store(scratch / "store"),
        device=None,
        facts=None,
        clock=Clock(lambda event: None),
        scratch=scratch,
        limits=Limits(),
    )


def built(context):
    found = {"onnxruntime": probe("onnxruntime", context)}
    samples = prepare_samples(context)
    model = prepare_model(context, samples).model
    made = transformed_model(context, model, samples)
    calibrated = calibrate_model(context, made.model, samples, {"local": found}, transforms=made.said)
    candidates = build_candidates(
        context,
        model,
        found,
        calibrated.file,
        calibrated.digest,
        transformed=made.model,
        refining=refining_payload(context.recipe, samples),
        methods=calibrated.methods,
    )
    return {str(candidate.precision): candidate for candidate in candidates}


def test_calibrating_may_prepare_the_model(folder, tmp_path):
    found = api.calibrate(
        folder / "net.onnx",
        folder / "calibration.npz",
        output=tmp_path / "net.safetensors",
        options=api.CalibrateOptions(recover=["equalization"]),
    )
    made = tmp_path / "net.recovered.onnx"
    assert found.transforms == ("equalization (1 pairs)",)
    assert open_onnx(made).digest == found.model_digest
    api.quantize(made, tmp_path / "net.safetensors", output=tmp_path / "made")
    assert json.loads((tmp_path / "made" / "plan.json").read_text())["recovered_by"] == ["equalization (1 pairs)"]
    with pytest.raises(CalibrationError, match="plan the model that `edgeport calibrate --recover` wrote"):
        api.quantize(folder / "net.onnx", tmp_path / "net.safetensors", output=tmp_path / "other")


def test_each_method_has_its_step(folder, tmp_path):
    with pytest.raises(UsageError, match="edgeport quantize --recover bias-correction"):
        api.calibrate(
            folder / "net.onnx",
            folder / "calibration.npz",
            output=tmp_path / "c",
            options=api.CalibrateOptions(recover=["bias-correction"]),
        )
    with pytest.raises(UsageError, match="edgeport calibrate --recover equalization"):
        quantized(folder, tmp_path / "out", recover=["equalization"])


def test_a_recipe_fits_static_int8_alone_and_says_so(folder, tmp_path):
    candidates = built(context_for(folder, tmp_path, "bias-correction", "equalization"))
    done = ("equalization (1 pairs)", "bias-correction (2 of 2 layers, 64 samples)")
    assert candidates["fp32"].recovered_by == ()
    assert candidates["int8"].recovered_by == done
    assert _recovery_notes(list(candidates.values())) == [
        f"To recover accuracy in onnxruntime int8: {', '.join(done)}."
    ]


def test_the_store_tells_a_fitted_candidate_from_a_plain_one(folder, tmp_path):
    context = context_for(folder, tmp_path, "bias-correction")
    fitted = built(context)["int8"]
    search = replace(context.recipe.search, recovery=())
    plain = built(replace(context, recipe=replace(context.recipe, search=search)))["int8"]
    assert fitted.artifact.digest != plain.artifact.digest
    assert plain.recovered_by == ()
