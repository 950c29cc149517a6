"""Plans that mix precisions: which node gets which, and what is refused by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgeport.calibration.mixed_plan import chosen_precisions, mixed_plan
from edgeport.calibration.plan import make_plan
from edgeport.contracts import Mix, NodeChoice, Precision
from edgeport.errors import ContractError, PlanError
from edgeport.onnx_files import MODULE_KEY, read_ir

NODES = "a = MatMul(x, k) r = Relu(a) b = MatMul(r, m) c = MatMul(b, n) z = Softmax(c)"
NAMES = ("a:MatMul", "r:Relu", "b:MatMul", "c:MatMul")


def noise(*shape):
    return np.random.default_rng(shape[-1]).standard_normal(shape).astype(np.float32)


WEIGHTS = {"k": noise(64, 32), "m": noise(32, 32), "n": noise(32, 8)}


@pytest.fixture
def rules(dialect):
    return dataclasses.replace(dialect(), weight_operators={"MatMul": 1}, block_operators=("MatMul",))


@pytest.fixture
def model(graph):
    return graph(NODES, WEIGHTS, (64,))


@pytest.fixture
def planned(model, rules, calibration_of):
    """`planned("int8", {"b:MatMul": "fp32"})`: node name to precision."""

    def plan(precision: str, nodes: dict[str, str] | None = None, rest: str = "fp32"):
        choices = tuple(NodeChoice(what=what, precision=Precision(one)) for what, one in (nodes or {}).items())
        mix = Mix(rest=Precision(rest), nodes=choices)
        return mixed_plan(model, rules, Precision(precision), mix, calibration_of(model))

    return plan


def test_a_node_is_kept_in_float_and_the_plan_names_it(planned, model, assert_fits):
    plan = planned("int8", {"b:MatMul": "fp32"})
    assert plan.nodes == {"a:MatMul": "int8", "r:Relu": "int8", "c:MatMul": "int8", "b:MatMul": "fp32"}
    assert set(plan.weights) == {"k", "n"}
    assert "b" in plan.activations  # what the next integer node reads
    assert_fits(plan, model)


def test_all_kinds_of_integers_stand_in_one_plan(planned):
    plan = planned("int8", {"b:MatMul": "int8-dynamic", "c:MatMul": "int4-weights-32"})
    assert plan.nodes == {
        "a:MatMul": "int8",
        "r:Relu": "int8",
        "b:MatMul": "int8-dynamic",
        "c:MatMul": "int4-weights-32",
    }
    assert plan.weights["n"].block_size == 32
    assert plan.weights["m"].block_size is None
    assert plan.precision is Precision.INT8
    assert plan.found_by.startswith("int8: minmax, ")
    assert plan.found_by.endswith("; b:MatMul in int8-dynamic; c:MatMul in int4-weights-32")


def test_a_static_node_beside_weights_takes_in_what_is_folded_behind_it(planned):
    plan = planned("int8-weights", {"a:MatMul": "int8"})
    assert plan.nodes == {
        "b:MatMul": "int8-weights",
        "c:MatMul": "int8-weights",
        "a:MatMul": "int8",
        "r:Relu": "int8",
    }
    assert set(plan.activations) == {"x", "r"}  # no pair in front of the Relu


def test_the_rest_is_the_default_of_the_plan(planned):
    plan = planned("int8", rest="bf16")
    assert plan.default is Precision.BF16
    assert set(plan.nodes) == set(NAMES)


def test_without_any_choice_it_is_the_plan_that_everybody_gets(planned, model, rules, calibration_of):
    mixed, plain = planned("int8"), make_plan(model, calibration_of(model), rules)
    assert (mixed.nodes, mixed.activations, mixed.weights) == (plain.nodes, plain.activations, plain.weights)


@pytest.mark.parametrize(
    ("nodes", "floats"),
    [
        pytest.param({"?:MatMul": "fp32"}, {"a:MatMul", "b:MatMul", "c:MatMul"}, id="a pattern of names"),
        pytest.param({"MatMul": "fp32"}, {"a:MatMul", "b:MatMul", "c:MatMul"}, id="an operator type"),
        pytest.param({"MatMul": "fp32", "c:MatMul": "int8"}, {"a:MatMul", "b:MatMul"}, id="the last one counts"),
        pytest.param({"c:MatMul": "int8", "MatMul": "fp32"}, {"a:MatMul", "b:MatMul", "c:MatMul"}, id="so it does"),
        pytest.param({"net.first": "fp32"}, {"a:MatMul", "r:Relu"}, id="a module and its parts"),
        pytest.param({"net.*.act": "fp32"}, {"r:Relu"}, id="a pattern of modules"),
    ],
)
def test_who_is_meant(nodes, floats, model):
    read = read_ir(model).graph
    modules = {"a:MatMul": "net.first.linear", "r:Relu": "net.first.act", "b:MatMul": "net.firstborn"}
    for node in read:
        node.metadata_props[MODULE_KEY] = modules.get(node.name, "")
    choices = [NodeChoice(what=what, precision=Precision(one)) for what, one in nodes.items()]
    found = chosen_precisions(read, choices)
    assert {node.name for node, precision in found.items() if precision.is_float} == floats


@pytest.mark.parametrize(
    ("nodes", "asked", "found", "fix"),
    [
        pytest.param(
            {"b:MatMull": "fp32"}, "run 'b:MatMull' in fp32", "no node, module or operator", "'b:MatMul'", id="near"
        ),
        pytest.param({"conv9*": "fp32"}, "run 'conv9*' in fp32", "fits it as a pattern", "name one", id="nothing near"),
        pytest.param({"r:Relu": "int8-dynamic"}, "node 'r:Relu'", "can't run this Relu so", "leave", id="operator"),
        pytest.param({"Softmax": "int8-weights"}, "node 'z:Softmax'", "this Softmax so", "leave", id="a whole group"),
        pytest.param({"b:MatMul": "int16"}, "in int16", "no dialect has activations of 16 bits", "int8", id="int16"),
    ],
)
def test_a_choice_that_means_nothing_is_refused_by_name(nodes, asked, found, fix, planned):
    with pytest.raises(PlanError) as caught:
        planned("int8", nodes)
    assert asked in caught.value.asked
    assert found in caught.value.found
    assert fix in caught.value.fix


def test_a_weight_from_the_caller_is_refused_by_name(model_text, rules, calibration_of):
    text = "(float[n,4] x, float[4,4] k) => (float[n,4] z) { a = MatMul(x, k) z = MatMul(a, m) }"
    model = model_text(text, {"m": noise(4, 4)})
    mix = Mix(nodes=(NodeChoice(what="a:MatMul", precision=Precision.INT8_WEIGHTS),))
    with pytest.raises(PlanError, match="run node 'a:MatMul' in int8-weights"):
        mixed_plan(model, rules, Precision.INT8_DYNAMIC, mix)


def test_a_static_part_needs_a_calibration(model, rules):
    mix = Mix(nodes=(NodeChoice(what="a:MatMul", precision=Precision.INT8),))
    with pytest.raises(PlanError, match="no calibration"):
        mixed_plan(model, rules, Precision.INT8_DYNAMIC, mix)


def test_one_weight_has_one_form(graph, rules):
    model = graph("a = MatMul(x, k) z = MatMul(a, k)", {"k": noise(32, 32)}, (32,))
    mix = Mix(nodes=(NodeChoice(what="a:MatMul", precision=Precision.INT4_WEIGHTS_32),))
    with pytest.raises(PlanError, match="one weight in two forms, int8 and int4"):
        mixed_plan(model, rules, Precision.INT8_WEIGHTS, mix)


def test_a_mix_is_checked_when_it_is_made():
    with pytest.raises(ContractError, match="a precision of integers"):
        Mix(rest=Precision.INT8)
    with pytest.raises(ContractError, match="an empty name"):
        NodeChoice(what="", precision=Precision.FP32)
    choice = NodeChoice(what="a", precision=Precision.FP32)
    labels = [Mix().label, Mix(nodes=(choice,)).label, Mix(rest=Precision.BF16, nodes=(choice,)).label]
    assert labels == ["", " mixed", " mixed with bf16"]
    assert Mix().is_plain
    assert not Mix(rest=Precision.FP16).is_plain
