"""A search of a model with a state (an LSTM) on each runtime: its steps follow each other wherever it is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import Budget, Change, Comparison, Interval, Limits, ModelSource, Precision, to_jsonable
from edgeport.contracts.recipe import DataSpec, Recipe, SamplesFile, Search, Target
from edgeport.devices.local import LocalDevice
from edgeport.npz import load_npz
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.benchmarking.experiment import Timed
from edgeport.pipeline.compilation.compile import build_candidates
from edgeport.pipeline.compilation.probe import probe
from edgeport.pipeline.datasets.calibration_samples import few_calls, open_in_steps, stretches
from edgeport.pipeline.datasets.prepare import arrangement_of, inputs_of_onnx, prepare_samples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.quantization.calibration import calibrate_model
from edgeport.pipeline.search import mixed_precision
from edgeport.pipeline.search.mixed_precision import Material, tune
from edgeport.pipeline.source_model.prepare import prepare_model
from edgeport.store import Store

SIZE, CLASSES = 16, 4
STATE = {"h_out": "h_in", "c_out": "c_in"}
CALIBRATION_STEPS, CLIP = 48, 12


def write_net(path):
    """An LSTM and three layers; of the second, one input of each output is weighed 5000 times, and is always 0."""
    random = np.random.default_rng(3)

    def normal(*shape, scale):
        return (random.standard_normal(shape) * scale).astype(np.float32)

    arrays = {
        "w": normal(1, 4 * SIZE, SIZE, scale=0.4),
        "r": normal(1, 4 * SIZE, SIZE, scale=0.4),
        "first.w": normal(SIZE, SIZE, scale=0.5),
        "second.w": normal(SIZE, SIZE, scale=0.5),
        "third.w": normal(SIZE, CLASSES, scale=0.5),
        "first.b": normal(SIZE, scale=0.3),
        "zero": np.array([0]),
    }
    arrays["first.b"][0], arrays["second.w"][0] = -1000.0, 5000.0
    nodes = [
        helper.make_node("Unsqueeze", ["x", "zero"], ["steps"], name="steps"),
        helper.make_node(
            "LSTM",
            ["steps", "w", "r", "", "", "h_in", "c_in"],
            ["", "h_out", "c_out"],
            name="lstm",
            hidden_size=SIZE,
        ),
        helper.make_node("Squeeze", ["h_out", "zero"], ["h"], name="h"),
        helper.make_node("Gemm", ["h", "first.w", "first.b"], ["f"], name="first"),
        helper.make_node("Relu", ["f"], ["fr"], name="first.relu"),
        helper.make_node("Gemm", ["fr", "second.w"], ["s"], name="second"),
        helper.make_node("Relu", ["s"], ["sr"], name="second.relu"),
        helper.make_node("Gemm", ["sr", "third.w"], ["scores"], name="third"),
    ]
    tensor = helper.make_tensor_value_info
    held = ["one", "batch", SIZE]
    graph = helper.make_graph(
        nodes,
        "net",
        [tensor("x", TensorProto.FLOAT, ["batch", SIZE])]
        + [tensor(name, TensorProto.FLOAT, [1, *held[1:]]) for name in STATE.values()],
        [tensor("scores", TensorProto.FLOAT, ["batch", CLASSES])]
        + [tensor(name, TensorProto.FLOAT, [1, *held[1:]]) for name in STATE],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With `net.onnx`, `calibration.npz` and `evaluation.npz`, whose steps are told by a wide margin."""
    made = tmp_path_factory.mktemp("state")
    write_net(made / "net.onnx")
    for name, count in (("calibration", CALIBRATION_STEPS), ("evaluation", 40 * CLIP)):
        x = np.random.default_rng(count).standard_normal((count, SIZE)).astype(np.float32)
        np.savez(made / f"{name}.npz", x=x, clip=np.arange(count) // CLIP)
    return made


def recipe_in(folder, backend):
    return Recipe(
        name="net",
        source=ModelSource(location=str(folder / "net.onnx")),
        state=STATE,
        data=DataSpec(
            calibration=SamplesFile(path=folder / "calibration.npz"),
            evaluation=SamplesFile(path=folder / "evaluation.npz"),
            metric="agreement",
            output="scores",
            sequence="clip",
        ),
        targets=(Target(backend=backend, precisions=(Precision.FP32, Precision.INT8), tune_s=600.0),),
        budget=Budget(accuracy_drop=0.2),
        search=Search(rounds=6, screening_rounds=6, duration_s=0.05, warmup_s=0.01),
    )


def few_of(folder):
    recipe = recipe_in(folder, "onnxruntime")
    inputs = inputs_of_onnx(recipe)
    model = replace(open_onnx(folder / "net.onnx"), state=STATE)
    states = [spec for spec in inputs if spec.name in STATE.values()]
    payload = {
        "samples": to_jsonable(recipe.data.calibration),
        "target": "",
        "arrangement": arrangement_of(recipe, inputs),
        "states": [to_jsonable(spec) for spec in states],
        "initial": {"h_in": 0.5},
    }
    return model, list(few_calls(model, payload))


def test_stretches_begin_with_the_state_that_the_float_model_has_there(folder):
    model, calls = few_of(folder)
    x = load_npz(folder / "calibration.npz")["x"]
    starts = [0, 12, 24, 36]
    assert [call["x"].shape for call in calls] == [(CLIP, SIZE)] * len(starts)
    for start, call in zip(starts, calls, strict=True):
        np.testing.assert_array_equal(call["x"], x[start : start + CLIP])
        assert call["h_in"].tolist() == np.full((1, 1, SIZE), 0.5).tolist(), "each of them begins a clip"
    # Run from the state that is kept, a stretch gives what the whole walk gives.
    with open_in_steps(model.path, STATE) as run:
        outputs = run(calls[1])
    assert list(outputs) == ["scores"], "what feeds itself is no output"
    assert outputs["scores"].shape == (CLIP, CLASSES)


@pytest.mark.parametrize(
    ("first", "found"),
    [
        ([True, False, False], {0: 3}),
        ([True] + [False] * 99, {0: 16, 25: 41, 50: 66, 75: 91}),
        ([index % 10 == 0 for index in range(40)], {0: 10, 10: 20, 20: 30, 30: 40}),
        ([index == 27 for index in range(100)], {0: 16, 25: 27, 50: 66, 75: 91}),
    ],
    ids=["short", "one sequence", "several", "a new one inside"],
)
def test_stretches_are_spread_and_end_where_a_sequence_does(first, found):
    assert stretches(first) == found


@pytest.mark.parametrize("backend", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_the_node_that_ruins_int8_is_left_in_float(backend, folder, tmp_path, monkeypatch):
    """Plans are really compiled for each runtime and judged on it, step by step; only latencies are planted."""
    pytest.importorskip(backend)
    recipe = recipe_in(folder, backend)
    device = LocalDevice(tmp_path / "device")
    context = RunContext(
        recipe=recipe,
        store=Store(tmp_path / "store"),
        device=device,
        facts=device.facts(),
        clock=Clock(lambda event: None),
        scratch=tmp_path,
        limits=Limits(time_s=60.0),
    )
    capabilities = {backend: probe(backend, context)}
    samples = prepare_samples(context)
    prepared = prepare_model(context, samples)
    made = calibrate_model(context, prepared.model, samples, {"local": capabilities})

    def build(within, listed):
        return build_candidates(
            within, prepared.model, capabilities, made.file, made.digest, listed=listed, methods=made.methods
        )

    def equal(_timed, _base, names):
        same = Interval(low=0.99, estimate=1.0, high=1.01)
        return {name: Comparison(speedup=same, change=Change.EQUIVALENT, pairs=6, delta=0.02) for name in names}

    monkeypatch.setattr(mixed_precision, "time_arms", lambda *_, **__: Timed(measurements={}, errors={}))
    monkeypatch.setattr(mixed_precision, "compare_arms", equal)
    material = Material(
        model=prepared.model,
        calibration=made.file,
        calibration_digest=made.digest,
        capabilities=capabilities,
        samples=samples,
        reference=prepared.reference,
        build=build,
        methods=made.methods,
    )
    found = tune(context, recipe.targets[0], material)
    assert found.finished, found.said
    assert max(found.noise, key=found.noise.get) == "second"
    assert {group.name for group in found.searched if group.precision is Precision.FP32} == {"second"}
    assert found.reasons == {"second": "with it in int8 the accuracy budget did not hold"}
