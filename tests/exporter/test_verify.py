"""The comparison of PyTorch with an ONNX file finds what differs, and says where."""

from __future__ import annotations

import math
from contextlib import contextmanager

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import Outcome
from edgeport.errors import SamplesError, VerificationError, WrongOutput
from edgeport.exporter.verify import Judge, compare_outputs, verify


def _arrays(**values):
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def test_equal_outputs_have_no_error():
    (difference,) = compare_outputs(_arrays(y=[1, -2]), _arrays(y=[1, -2]))

    assert (difference.max_abs, difference.mean_abs, difference.sqnr_db) == (0, 0, math.inf)


def test_errors_are_as_defined():
    (difference,) = compare_outputs(_arrays(y=[3, 4]), _arrays(y=[3, 4.5]))

    assert difference.max_abs == pytest.approx(0.5)
    assert difference.mean_abs == pytest.approx(0.25)
    assert difference.sqnr_db == pytest.approx(10 * math.log10(25 / 0.25))


def test_equal_masks_of_infinity_are_no_difference():
    (difference,) = compare_outputs(_arrays(y=[1, -math.inf]), _arrays(y=[1, -math.inf]))

    assert difference.max_abs == 0


def test_infinity_of_the_other_sign_is_a_difference():
    (difference,) = compare_outputs(_arrays(y=[1, -math.inf]), _arrays(y=[1, math.inf]))

    assert difference.max_abs == math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=["nan", "inf"])
def test_nan_and_inf_name_the_output_and_the_place(bad):
    with pytest.raises(WrongOutput) as caught:
        compare_outputs(_arrays(a=[[1, 2]], b=[[1, 2]]), _arrays(a=[[1, 2]], b=[[1, bad]]))

    assert caught.value.details == {"output": "b", "index": [0, 1], "count": 1}
    assert "where PyTorch has 2" in caught.value.found


def test_another_name_or_shape_is_refused():
    with pytest.raises(VerificationError, match="outputs z"):
        compare_outputs(_arrays(y=[1]), _arrays(z=[1]))
    with pytest.raises(VerificationError, match="batch left free"):
        compare_outputs(_arrays(y=[1]), _arrays(y=[1, 2]))


@pytest.fixture
def scaling(save_onnx):
    """y = log(x * w)."""
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["h"], name="scale/Mul"),
        helper.make_node("Log", ["h"], ["l"], name="log/Log"),
        helper.make_node("Neg", ["l"], ["y"], name="Neg"),
    ]
    entry = nodes[1].metadata_props.add()
    entry.key, entry.value = "edgeport.module", "log"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w")],
        value_info=[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("h", "l")],
    )
    return save_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


FEEDS = _arrays(x=np.random.default_rng(0).uniform(0.5, 2, size=(5, 3)))
REFERENCE = {"y": -np.log(FEEDS["x"] * np.array([1, 2, 3], np.float32))}


def test_every_sample_is_compared_in_every_batch_size(scaling, open_model):
    calls = []

    @contextmanager
    def counting(path):
        with open_model(path) as run:

            def counted(feeds):
                calls.append(len(feeds["x"]))
                return run(feeds)

            yield counted

    checked = verify(REFERENCE, FEEDS, scaling, counting, batch_sizes=(2, 1))

    assert checked.outcome is Outcome.PASS
    assert checked.samples == 5
    assert checked.batch_sizes == (2, 1)
    assert calls == [2, 2, 2, 1, 1, 1, 1, 1]


def test_the_last_sample_counts(scaling, open_model):
    wrong = {"y": REFERENCE["y"].copy()}
    wrong["y"][-1, 2] += 0.5

    checked = verify(wrong, FEEDS, scaling, open_model)

    assert checked.outcome is Outcome.FAIL
    assert checked.outputs[0].max_abs == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(("tolerance", "outcome"), [(0.1, Outcome.FAIL), (0.3, Outcome.PASS)], ids=["tight", "wide"])
def test_tolerance_is_relative_to_the_largest_output(scaling, open_model, tolerance, outcome):
    largest = float(np.abs(REFERENCE["y"]).max())
    moved = {"y": REFERENCE["y"] - np.float32(0.2 * largest)}
    reference = {"y": moved["y"] / np.abs(moved["y"]).max() * largest}
    shifted = float(np.abs(reference["y"] - REFERENCE["y"]).max()) / largest
    assert 0.1 < shifted < 0.3

    assert verify(reference, FEEDS, scaling, open_model, tolerance=tolerance).outcome is outcome


def test_the_metric_is_computed_for_both(scaling, open_model):
    def mean_error(outputs, target):
        return -float(np.abs(outputs["y"].sum(1) - target).mean())

    judge = Judge(name="mean error", measure=mean_error, target=REFERENCE["y"].sum(1))
    checked = verify(REFERENCE, FEEDS, scaling, open_model, judge=judge)

    assert checked.metric == "mean error"
    assert checked.pytorch == 0
    assert checked.onnx == pytest.approx(0, abs=1e-5)


def test_the_first_node_that_makes_nan_is_named(scaling, open_model):
    feeds = _arrays(x=np.where(np.arange(15).reshape(5, 3) == 13, -1, FEEDS["x"]))

    with pytest.raises(WrongOutput) as caught:
        verify(REFERENCE, feeds, scaling, open_model, batch_sizes=(2,))

    assert caught.value.details["node"] == "log/Log"
    assert caught.value.details["module"] == "log"
    assert caught.value.details["index"] == [4, 1]
    assert "log/Log (Log of module log)" in caught.value.found


@pytest.mark.parametrize(
    ("feeds", "sizes"), [(_arrays(x=np.ones((1, 3))), (2,)), ({}, (1,)), (FEEDS, ())], ids=["few", "none", "no-size"]
)
def test_too_few_samples_are_refused(scaling, open_model, feeds, sizes):
    with pytest.raises(SamplesError):
        verify(REFERENCE, feeds, scaling, open_model, batch_sizes=sizes)
