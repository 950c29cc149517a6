"""An ONNX model with a state, a value and samples of several lengths: linked, prepared, run and calibrated."""

import json
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples, SequenceLayout, SequenceSamples
from edgeport.contracts import AxisRange, ModelSource, TensorSpec, to_jsonable
from edgeport.contracts.recipe import DataSpec, Recipe, SamplesFile, Target
from edgeport.errors import RecipeError, SamplesError
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.datasets.layout import Layout
from edgeport.pipeline.datasets.prepare import arrangement_of, inputs_of_onnx
from edgeport.pipeline.datasets.prepare_worker import write_samples
from edgeport.pipeline.datasets.state_binding import linked
from edgeport.pipeline.source_model.onnx_worker import AdoptRequest, adopt

RUNNING_SUM = [
    helper.make_node("Cast", ["rate"], ["factor"], to=TensorProto.FLOAT, name="cast"),
    helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1, name="sum"),
    helper.make_node("Mul", ["sum", "factor"], ["scaled"], name="scale"),
    helper.make_node("Unsqueeze", ["scaled", "zero"], ["step"], name="step"),
    helper.make_node("Add", ["held", "step"], ["next"], name="add"),
    helper.make_node("Squeeze", ["next", "zero"], ["y"], name="squeeze"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """held [1, batch, 1] + rate * sum of x [batch, length]; y is the new sum."""
    folder = tmp_path_factory.mktemp("sum")
    tensor, values = helper.make_tensor_value_info, onnx.numpy_helper.from_array
    graph = helper.make_graph(
        RUNNING_SUM,
        "running",
        [
            tensor("x", TensorProto.FLOAT, ["batch", "length"]),
            tensor("held", TensorProto.FLOAT, [1, "batch", 1]),
            tensor("rate", TensorProto.INT64, []),
        ],
        [tensor("y", TensorProto.FLOAT, ["batch", 1]), tensor("next", TensorProto.FLOAT, [1, "batch", 1])],
        [values(np.array([1]), "axes"), values(np.array([0]), "zero")],
    )
    path = folder / "sum.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    lengths = np.array([2, 4, 3, 4, 2])
    padded = np.ones((5, 4), np.float32)
    np.savez(folder / "evaluation.npz", x=padded, lengths=lengths, clip=np.array([0, 0, 0, 1, 1]))
    return path


@pytest.fixture
def recipe(model):
    data = DataSpec(
        calibration=None,
        evaluation=SamplesFile(path=model.parent / "evaluation.npz"),
        metric="mae",
        sequence="clip",
        lengths={"length": "lengths"},
    )
    return Recipe(
        name="sum",
        source=ModelSource(location=str(model)),
        state={"next": "held"},
        initial={"held": 10.0},
        constants={"rate": 2},
        axes={"length": AxisRange(minimum=1, maximum=8)},
        data=data,
        targets=(Target(backend="onnxruntime", precisions=("fp32",)),),
    )


def prepared(recipe, folder):
    """What `prepare_samples` has a child do."""
    inputs = inputs_of_onnx(recipe)
    states = [spec for spec in inputs if spec.name in recipe.state.values()]
    write_samples(
        {
            "target": "",
            "classes": [],
            "metric": recipe.data.metric,
            "inputs": [],
            "model_inputs": [to_jsonable(spec) for spec in inputs if spec not in states],
            "example": 2,
            "axes": {name: to_jsonable(span) for name, span in recipe.axes.items()},
            "arrangement": arrangement_of(recipe, inputs),
            "states": [to_jsonable(spec) for spec in states],
            "initial": recipe.initial,
            "evaluation": to_jsonable(recipe.data.evaluation),
            "calibration": None,
            "folder": str(folder),
        }
    )
    return json.loads((folder / "facts.json").read_text())


def adopted(recipe, model, folder, facts):
    request = AdoptRequest(
        model=open_onnx(model),
        feeds=folder / "feeds.npz",
        constants=recipe.constants,
        state=recipe.state,
        starts=tuple(facts["starts"]),
    )
    return adopt(request, folder)


def test_steps_are_written_run_and_fed_back(recipe, model, tmp_path):
    facts = prepared(recipe, tmp_path)

    assert (facts["starts"], facts["timed_row"], facts["is_ragged"]) == ([0, 3], 2, True)
    adopted(recipe, model, tmp_path, facts)
    assert [spec.name for spec in open_onnx(tmp_path / "model.onnx").inputs] == ["x", "held"]
    with np.load(tmp_path / "reference.npz") as reference:
        assert reference.files == ["y"]
        assert reference["y"][:, 0].tolist() == [14, 22, 28, 18, 22]
    with np.load(tmp_path / "single.npz") as single:
        assert single["held"].tolist() == [[[10.0]]]


def test_calibration_sees_what_the_state_becomes(recipe, model, tmp_path):
    from edgeport.backends.onnxruntime.reference import open_reference

    facts = prepared(recipe, tmp_path)
    adopted(recipe, model, tmp_path, facts)
    float_model = linked(open_onnx(tmp_path / "model.onnx"), recipe)
    samples = SequenceSamples(
        ArraySamples({"x": np.ones((5, 4), np.float32), "clip": np.array([0, 0, 0, 1, 1])}),
        SequenceLayout(sequence="clip"),
    )

    found = collect(float_model, samples, open_reference, initial={"held": np.full((1, 1, 1), 10, np.float32)})

    held, after = found.statistics["held"]["extremes"], found.statistics["next"]["extremes"]
    assert (float(held["minimum"]), float(held["maximum"])) == (10, 26)
    assert (float(after["minimum"]), float(after["maximum"])) == (18, 34)


@dataclass(frozen=True, kw_only=True)
class Misfit:
    id: str
    change: dict
    says: str


MISFITS = [
    Misfit(id="output", change={"state": {"nxt": "held"}}, says="did you mean 'next'"),
    Misfit(id="input", change={"state": {"next": "hold"}}, says="did you mean 'held'"),
    Misfit(id="shape", change={"state": {"y": "held"}}, says="same dtype and shape"),
    Misfit(id="value", change={"constants": {"rat": 1}}, says="did you mean 'rate'"),
    Misfit(id="axis", change={"axes": {"lenght": AxisRange(minimum=1, maximum=4)}}, says="did you mean 'length'"),
]


@pytest.mark.parametrize("case", MISFITS, ids=lambda case: case.id)
def test_what_the_model_has_not_is_told_before_anything_runs(recipe, case):
    with pytest.raises(RecipeError) as caught:
        inputs_of_onnx(replace(recipe, **case.change))

    assert case.says in caught.value.fix


def test_a_misfit_names_its_line(recipe, tmp_path):
    path = tmp_path / "edgeport.toml"
    path.write_text('[model]\nsource = "sum.onnx"\n\n[state]\nnxt = "held"\n')

    with pytest.raises(RecipeError) as caught:
        inputs_of_onnx(replace(recipe, path=path, state={"nxt": "held"}))

    assert (caught.value.details["line"], caught.value.details["key"]) == (5, "state.nxt")


def test_samples_beyond_the_range_are_refused(recipe, tmp_path):
    with pytest.raises(SamplesError, match="4"):
        prepared(replace(recipe, axes={"length": AxisRange(minimum=1, maximum=3)}), tmp_path)


SPECS = (TensorSpec(name="x", dtype="float32", shape=("batch", "length")),)


@pytest.mark.parametrize(("timed", "row"), [(None, 2), (9, 3), (1, 0)], ids=["median", "nearest", "least"])
def test_the_timed_sample_is_the_declared_or_the_median_one(timed, row):
    axes = {"length": AxisRange(minimum=1, maximum=64, timed=timed)}
    layout = Layout(specs=SPECS, axes=axes)

    found = layout.timed({"x": np.array([[2], [3], [4], [8], [30]])}, [], [], 5)

    assert found.row == row
    assert "length" in found.notes[0]


def test_an_example_for_tracing_has_no_axis_of_one():
    layout = Layout(specs=SPECS)

    assert layout.traceable({"x": np.ones((2, 1), np.float32)})["x"].shape == (2, 2)
