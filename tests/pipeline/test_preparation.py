"""Raw samples of a recipe: preprocessed once, fed alike to calibration, evaluation, the float model and the devices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import (
    Artifact,
    AxisRange,
    Calibration,
    DeviceFacts,
    ExecutionConfig,
    Limits,
    ModelSource,
    Outcome,
    Precision,
    Preprocessing,
    PreprocessingFunction,
    TensorSpec,
    kept_nodes,
)
from edgeport.contracts.recipe import DataSpec, Recipe, SamplesFile, SamplesFunction, Target
from edgeport.errors import EdgeportError, SamplesError
from edgeport.pipeline.datasets.prepare import prepare_samples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.output.run_output import _shipped
from edgeport.pipeline.quantization.calibration import calibrate_model
from edgeport.pipeline.source_model.prepare import prepare_model
from edgeport.preprocessing import apply
from edgeport.store import Store

FACTS = DeviceFacts(name="local", machine="x86_64", cpu="A CPU", cores=2, memory_bytes=1 << 30)
PLAIN = Preprocessing(resize=20, crop=(16, 16), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
FOLDED = replace(PLAIN, fold="NHWC")
SHAPE = ("batch", 3, 16, 16)


def raw_images(seed, count=12):
    return np.random.default_rng(seed).integers(0, 256, (count, 24, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two convolutions as `net.onnx`, raw images as `evaluation.npz` and `calibration.npz`."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    weights = {
        "w1": random.standard_normal((8, 3, 3, 3)) * 0.2,
        "b1": random.standard_normal(8),
        "w2": random.standard_normal((8, 8, 3, 3)) * 0.1,
        "b2": random.standard_normal(8),
    }
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="first", **same),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second", **same),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["scores"], name="flatten"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "net.onnx")
    np.savez(folder / "evaluation.npz", image=raw_images(1), label=np.arange(12) % 8)
    np.savez(folder / "calibration.npz", image=raw_images(2))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One for all tests: what one has folded, exported and judged, the next finds."""
    return Store(tmp_path_factory.mktemp("shared") / "store")


@pytest.fixture
def context_for(store, tmp_path):
    def make(recipe):
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return RunContext(
            recipe=recipe,
            store=store,
            device=None,
            facts=FACTS,
            clock=Clock(lambda _: None),
            scratch=scratch,
            limits=Limits(time_s=120, memory_bytes=4 << 30),
        )

    return make


def recipe_over(folder, declared, *, preprocessed=False, name="image", shape=SHAPE, dtype="float32", source="net.onnx"):
    return Recipe(
        path=folder / "recipe.toml",
        name="net",
        source=ModelSource(location=str(folder / source), search_path=folder),
        inputs=(TensorSpec(name=name, dtype=dtype, shape=shape, preprocessing=declared),),
        data=DataSpec(
            calibration=SamplesFile(path=folder / "calibration.npz"),
            evaluation=SamplesFile(path=folder / "evaluation.npz"),
            target="label",
            metric="top1",
            preprocessed=preprocessed,
        ),
        targets=(Target(backend="onnxruntime", precisions=(Precision.FP32, Precision.INT8)),),
    )


def arrays_of(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("changed", [{"mean": (0.4, 0.4, 0.4)}, {"std": (0.5, 0.5, 0.5)}, {"scale": 1 / 128}])
def test_what_is_folded_is_part_of_what_the_float_models_answers_rest_on(folder, context_for, changed):
    def found(declared):
        context = context_for(recipe_over(folder, declared))
        samples = prepare_samples(context)
        return samples, arrays_of(prepare_model(context, samples).reference.outputs)

    before, answers = found(FOLDED)
    after, others = found(replace(FOLDED, **changed))

    assert before.fingerprint == after.fingerprint  # devices are fed the same bytes
    assert all(not np.array_equal(answers[name], others[name]) for name in answers)


@pytest.mark.parametrize("declared", [PLAIN, FOLDED], ids=["outside", "folded"])
def test_devices_and_the_float_model_get_what_is_declared(folder, context_for, declared):
    context = context_for(recipe_over(folder, declared))
    samples = prepare_samples(context)
    whole = apply(PLAIN, raw_images(1))
    outside = apply(Preprocessing(resize=20, crop=(16, 16), layout="NHWC"), raw_images(1), dtype="uint8")
    fed = outside if declared.fold else whole
    np.testing.assert_array_equal(arrays_of(samples.feeds)["image"], fed)
    np.testing.assert_array_equal(arrays_of(samples.unfolded)["image"], whole)
    np.testing.assert_array_equal(arrays_of(samples.example)["image"], whole[:2])
    np.testing.assert_array_equal(arrays_of(samples.single)["image"], fed[:1])
    assert (samples.count, samples.calibration_count) == (12, 12)
    assert np.load(samples.target).tolist() == (np.arange(12) % 8).tolist()
    assert {path.name for path in samples.feeds.parent.iterdir()} <= {
        *("feeds.npz", "unfolded.npz", "target.npy", "example.npz", "single.npz", "facts.json")
    }


def test_folding_changes_nothing_but_who_computes_it(folder, context_for):
    references, calibrations, models = {}, {}, {}
    for name, declared in (("outside", PLAIN), ("folded", FOLDED)):
        context = context_for(recipe_over(folder, declared))
        samples = prepare_samples(context)
        prepared = prepare_model(context, samples)
        references[name] = arrays_of(prepared.reference.outputs)["scores"]
        models[name] = prepared.model
        assert (prepared.verification is None) == (name == "outside")
        if prepared.verification is not None:
            assert prepared.verification.outcome is Outcome.PASS
        calibrations[name] = Calibration.load(calibrate_model(context, prepared.model, samples, {}).file)
    np.testing.assert_array_equal(references["folded"], references["outside"])
    assert models["outside"].inputs[0].preprocessing == PLAIN
    fed = models["folded"].inputs[0]
    assert (fed.dtype, fed.shape) == ("uint8", ("batch", 16, 16, 3))
    assert fed.preprocessing == Preprocessing(resize=20, crop=(16, 16), layout="NHWC")
    inside, outside = (calibrations[name].statistics["c1"]["extremes"] for name in ("folded", "outside"))
    for key in ("minimum", "maximum"):
        np.testing.assert_allclose(inside[key], outside[key], rtol=1e-5)


@pytest.mark.parametrize("shared", [False, True], ids=["per-channel", "shared-by-channels"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_first_convolution_behind_uint8_is_integer(folder, context_for, tmp_path, backend, shared):
    from edgeport.backends.registry import backend as backend_named
    from edgeport.calibration.plan import make_plan

    pytest.importorskip(backend)
    declared = Preprocessing(resize=20, crop=(16, 16), scale=1 / 127.5, mean=(1.0,), fold="NHWC") if shared else FOLDED
    context = context_for(recipe_over(folder, declared))
    samples = prepare_samples(context)
    model = prepare_model(context, samples).model
    calibration = Calibration.load(calibrate_model(context, model, samples, {}).file)
    runtime = backend_named(backend)
    plan = make_plan(model, calibration, runtime.capabilities().rules)
    folded = [name for name in plan.nodes if name.startswith("preprocess.")]
    assert folded == [], "what was folded stays float"
    (tmp_path / "artifact").mkdir()
    artifact: Artifact = runtime.compile(model, plan, ExecutionConfig(threads=1), tmp_path / "artifact")
    kept = kept_nodes(plan, runtime.placement(artifact))
    assert {"first", "second"} <= set(kept.kept)
    assert kept.lost == ()
    session = runtime.open(artifact)
    try:
        call = session.bind({"image": np.ascontiguousarray(arrays_of(samples.feeds)["image"][:1])})
        call.run()
        scores = call.outputs()["scores"]
    finally:
        session.close()
    wanted = arrays_of(prepare_model(context, samples).reference.outputs)["scores"][:1]
    assert np.abs(scores - wanted).max() < 0.05 * np.abs(wanted).max()


def test_samples_that_went_through_it_are_fed_as_they_are(folder, context_for, tmp_path):
    done = apply(PLAIN, raw_images(1))
    (tmp_path / "net.onnx").write_bytes((folder / "net.onnx").read_bytes())
    np.savez(tmp_path / "evaluation.npz", image=done, label=np.zeros(12, np.int64))
    np.savez(tmp_path / "calibration.npz", image=apply(PLAIN, raw_images(2)))
    context = context_for(recipe_over(tmp_path, PLAIN, preprocessed=True))
    samples = prepare_samples(context)
    np.testing.assert_array_equal(arrays_of(samples.feeds)["image"], done)
    assert prepare_model(context, samples).model.inputs[0].preprocessing == PLAIN, "run.py takes raw images still"
    with pytest.raises(SamplesError, match="preprocessed = true"):
        prepare_samples(context_for(recipe_over(tmp_path, PLAIN)))


def test_raw_images_in_both_sets_overlap(folder, context_for, tmp_path):
    (tmp_path / "net.onnx").write_bytes((folder / "net.onnx").read_bytes())
    np.savez(tmp_path / "evaluation.npz", image=raw_images(1), label=np.zeros(12, np.int64))
    np.savez(tmp_path / "calibration.npz", image=np.concatenate([raw_images(2), raw_images(1)[:3]]))
    with pytest.raises(SamplesError, match="3 of 12 evaluation samples"):
        prepare_samples(context_for(recipe_over(tmp_path, PLAIN)))


def test_what_is_declared_must_fit_the_model(folder, context_for):
    recipe = recipe_over(folder, replace(PLAIN, crop=(18, 18)), shape=("batch", 3, 18, 18))
    with pytest.raises(EdgeportError, match=r"images of \[18, 18\] pixels for shape \[batch, 3, 16, 16\]|\[18, 18\]"):
        prepare_samples(context_for(recipe))


@pytest.fixture
def video(tmp_path):
    """Mean of a frame of any size, added up over a clip; five frames of two clips."""
    folder = tmp_path / "video"
    folder.mkdir()
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["mean"], name="flatten"),
        helper.make_node("Add", ["held", "mean"], ["next"], name="add"),
        helper.make_node("Identity", ["next"], ["scores"], name="same"),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "video",
        [
            tensor("image", TensorProto.FLOAT, ["batch", 3, "height", "width"]),
            tensor("held", TensorProto.FLOAT, ["batch", 3]),
        ],
        [tensor("scores", TensorProto.FLOAT, ["batch", 3]), tensor("next", TensorProto.FLOAT, ["batch", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "net.onnx")
    np.savez(folder / "evaluation.npz", image=raw_images(1, 5), clip=np.array([0, 0, 0, 1, 1]), label=np.arange(5) % 3)
    np.savez(folder / "calibration.npz", image=raw_images(2, 4), clip=np.array([0, 0, 1, 1]))
    (folder / "my_frames.py").write_text(FRAMES, encoding="utf-8")
    return folder


FRAMES = """
import numpy as np
def frames():
    random = np.random.default_rng(3)
    for label, (height, width) in enumerate([(24, 30), (28, 24), (24, 24)]):
        yield {"image": random.integers(0, 256, (1, height, width, 3), dtype=np.uint8)}, np.array([label])
"""


def frame_means(images, declared):
    return apply(replace(declared, fold=""), images).mean(axis=(2, 3))


@pytest.mark.parametrize("declared", [PLAIN, FOLDED], ids=["outside", "folded"])
def test_steps_of_a_state_may_be_raw_images(video, context_for, declared):
    plain = recipe_over(video, declared)
    recipe = replace(plain, state={"next": "held"}, data=replace(plain.data, sequence="clip"))
    context = context_for(recipe)
    samples = prepare_samples(context)
    prepared = prepare_model(context, samples)

    assert samples.starts == (0, 3)
    for path in (samples.single, samples.unfolded, samples.feeds, samples.example):
        assert set(arrays_of(path)) == {"image", "held"}
    assert arrays_of(samples.single)["image"].dtype == ("uint8" if declared.fold else "float32")
    means = frame_means(raw_images(1, 5), declared)
    wanted = np.concatenate([np.cumsum(means[:3], axis=0), np.cumsum(means[3:], axis=0)])
    np.testing.assert_allclose(arrays_of(prepared.reference.outputs)["scores"], wanted, rtol=1e-4, atol=1e-5)
    assert prepared.model.state == {"next": "held"}
    assert (prepared.verification is not None) == bool(declared.fold)
    held = Calibration.load(calibrate_model(context, prepared.model, samples, {}).file).statistics["held"]["extremes"]
    means = frame_means(raw_images(2, 4), declared)[[0, 2]]  # the last step's output feeds nothing
    assert float(held["maximum"]) == pytest.approx(max(0.0, float(means.max())), rel=1e-4)


@pytest.mark.parametrize("fold", ["", "NHWC", "NCHW"], ids=["outside", "NHWC", "NCHW"])
def test_raw_images_of_several_sizes_stay_so(video, context_for, fold):
    declared = Preprocessing(scale=1 / 255, mean=(0.5, 0.4, 0.3), fold=fold)
    plain = recipe_over(video, declared, shape=("batch", 3, "height", "width"))
    frames = SamplesFunction(function="my_frames:frames", search_path=video)
    data = replace(plain.data, evaluation=frames, calibration=None, sequence=1)
    targets = (Target(backend="onnxruntime", precisions=(Precision.FP32,)),)
    recipe = replace(plain, state={"next": "held"}, data=data, targets=targets)
    context = context_for(recipe)
    samples = prepare_samples(context)

    sizes = [[24, 30], [28, 24], [24, 24]]
    assert samples.is_ragged
    fed, unfolded = arrays_of(samples.feeds), arrays_of(samples.unfolded)
    assert unfolded["image#shape"].tolist() == [[3, *size] for size in sizes]
    assert fed["image#shape"].tolist() == (
        [[*size, 3] for size in sizes] if fold == "NHWC" else unfolded["image#shape"].tolist()
    )
    assert (fed["image"].dtype, unfolded["image"].dtype) == ("uint8" if fold else "float32", "float32")
    scores = arrays_of(prepare_model(context, samples).reference.outputs)["scores"]
    random = np.random.default_rng(3)
    wanted = [frame_means(random.integers(0, 256, (1, *size, 3), dtype=np.uint8), declared)[0] for size in sizes]
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-5)


MEAN = """
import torch
class Mean(torch.nn.Module):
    def forward(self, image):
        return {"scores": torch.relu(image).mean(dim=(2, 3))}
"""


@pytest.mark.slow
def test_a_folded_export_is_verified_at_other_sizes_too(video, context_for):
    (video / "my_mean.py").write_text(MEAN, encoding="utf-8")
    shape = ("batch", 3, "height", 30)
    declared = Preprocessing(scale=1 / 255, mean=(0.5,), fold="NHWC")
    recipe = recipe_over(video, declared, shape=shape)
    context = context_for(
        replace(
            recipe,
            source=ModelSource(location="my_mean:Mean", search_path=video),
            axes={"height": AxisRange(minimum=10, maximum=40)},
            data=replace(recipe.data, evaluation=SamplesFile(path=video / "frames.npz"), calibration=None),
            targets=(Target(backend="onnxruntime", precisions=(Precision.FP32,)),),
        )
    )
    np.savez(video / "frames.npz", image=raw_images(1, 5), label=np.arange(5) % 3)
    prepared = prepare_model(context, prepare_samples(context))

    assert prepared.model.inputs[0].shape == ("batch", "height", 30, 3)
    assert prepared.verification.outcome is Outcome.PASS
    assert prepared.verification.sizes == {"height": (10, 40)}


TOKENS = """
import numpy as np
def encode(texts):
    return {"ids": np.array([[len(text), ord(text[0])] for text in texts], np.int64)}
def random(texts):
    return np.random.default_rng().integers(0, 9, (len(texts), 2))
"""


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "my_words.py").write_text(TOKENS)
    np.savez(folder / "evaluation.npz", text=np.array(["one", "two", "three"]), label=np.arange(3))
    np.savez(folder / "calibration.npz", text=np.array(["four", "five"]))
    return folder


def text_recipe(folder, function="encode", *, ship=False):
    declared = PreprocessingFunction(function=f"my_words:{function}", raw="text", ship=ship)
    recipe = recipe_over(folder, declared, name="ids", shape=("batch", 2), dtype="int64")
    return replace(recipe, source=ModelSource(location="never_loaded:create"))


def test_text_goes_through_the_users_function(texts, context_for):
    samples = prepare_samples(context_for(text_recipe(texts)))
    assert arrays_of(samples.feeds)["ids"].tolist() == [[3, 111], [3, 116], [5, 116]]
    assert samples.calibration_count == 2


def test_a_function_is_called_again_in_every_run(texts, context_for):
    first = prepare_samples(context_for(text_recipe(texts)))
    (texts / "my_words.py").write_text(TOKENS.replace("len(text)", "2 * len(text)"))
    context = context_for(text_recipe(texts))
    second = prepare_samples(replace(context, scratch=context.scratch / "second"))
    assert first.fingerprint != second.fingerprint
    assert first.calibration_fingerprint != second.calibration_fingerprint


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({}, None),
        ({"my_words.py": None}, "no source file of its module"),
    ],
    ids=["one-file", "gone"],
)
def test_what_ships(texts, context_for, edit, says):
    context = context_for(text_recipe(texts, ship=True))
    spec = context.recipe.inputs[0]
    for name in edit:
        (texts / name).unlink()
    model = replace_inputs(spec)
    if says is None:
        assert _shipped(context, model) == {"my_words": texts / "my_words.py"}
        return
    with pytest.raises(EdgeportError, match=says):
        _shipped(context, model)


def replace_inputs(spec):
    from edgeport.contracts import OnnxModel

    return OnnxModel(path=None, inputs=(spec,), outputs=(), opset=20, digest="d")
