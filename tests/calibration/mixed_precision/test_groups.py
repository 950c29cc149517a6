"""Which nodes go to float together, and what each such group costs in accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.backends.onnxruntime.rules import x86_rules
from edgeport.backends.qdq.write import write_plan
from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples
from edgeport.calibration.graph import float_graph
from edgeport.calibration.mixed_plan import mixed_plan
from edgeport.calibration.mixed_precision.groups import node_groups
from edgeport.calibration.mixed_precision.sensitivity import (
    most_sensitive_first,
    noise_of_groups,
    restricted_plan,
    sqnr_db,
)
from edgeport.calibration.plan import make_plan
from edgeport.contracts import Mix, NodeChoice, Precision

BLOCK = (
    "h = Conv3(x, w) a = Conv3(h, v) r = Relu(a) b = Conv3(r, u) s = Add(b, h) t = Relu(s) c = Conv3(t, w) z = Relu(c)"
)


@pytest.fixture
def grouped(dialect, calibration_of):
    """`grouped(model)`: the groups of a model's plan; `chosen` are the nodes that have a precision already."""

    def group(model, chosen=()):
        plan = make_plan(model, calibration_of(model), dialect())
        graph = float_graph(model)
        return node_groups(graph, plan, {node for node in graph if node.name in chosen})

    return group


def letters(groups):
    """Each group as the letters of its nodes, before the colon those of the groups beside it."""
    return ["".join(name[0] for name in (*group.beside, ":", *group.nodes)) for group in groups]


def test_what_follows_a_product_goes_with_it(graph, grouped):
    groups = grouped(graph(BLOCK))
    assert letters(groups) == ["ab:h", "hb:ar", "hac:bst", "b:cz"]
    assert [group.name for group in groups] == ["h:Conv", "a:Conv", "b:Conv", "c:Conv"]


def test_what_is_chosen_already_is_in_no_group(graph, grouped):
    assert letters(grouped(graph(BLOCK), chosen=("b:Conv",))) == ["ac:hst", "h:ar", "h:cz"]


def test_groups_that_no_choice_could_tell_apart_are_one(model_text, grouped, random):
    """A node called "Conv" means every convolution, and one called "b*" all that begin so."""
    import onnx

    weights = {name: random(4, 4, 1, 1, seed=at) for at, name in enumerate("wvuk")}
    text = "(float[n,4,6,6] x) => (float[n,4,6,6] z) { a = Conv(x, w) b = Conv(a, v) c = Conv(b, u) z = Conv(c, k) }"
    model = model_text(text, weights)
    proto = onnx.load(model.path)

    def renamed(**names):
        from edgeport.onnx_files import open_onnx

        for node in proto.graph.node:
            node.name = names.get(node.output[0], node.output[0])
        model.path.write_bytes(proto.SerializeToString())
        return [group.nodes for group in grouped(open_onnx(model.path))]

    assert renamed() == [("a",), ("b",), ("c",), ("z",)]
    assert renamed(b="Conv") == [("a", "Conv", "c", "z")]
    assert renamed(c="b*") == [("a",), ("b", "b*"), ("z",)]


def test_every_group_can_be_left_in_float(graph, grouped, dialect, calibration_of):
    model = graph(BLOCK)
    for group in grouped(model):
        mix = Mix(nodes=tuple(NodeChoice(what=name, precision=Precision.FP32) for name in group.nodes))
        plan = mixed_plan(model, dialect(), Precision.INT8, mix, calibration_of(model))
        assert {name for name, precision in plan.nodes.items() if precision.is_float} == set(group.nodes)


def test_a_group_alone_is_rounded_where_the_whole_is(graph, dialect, calibration_of):
    model = graph(BLOCK)
    plan = make_plan(model, calibration_of(model), dialect())
    alone = restricted_plan(float_graph(model), plan, {"b:Conv", "s:Add", "t:Relu"})
    assert list(alone.nodes) == ["b:Conv", "s:Add", "t:Relu"]
    assert set(alone.activations) == {"h", "r", "b", "t"}, "both operands of the sum, though h would be float"
    assert set(alone.weights) == {"u"}
    assert all(alone.activations[name] == plan.activations[name] for name in alone.activations)


@pytest.fixture
def noises(open_model, random):
    """`noises(model)`: first letter of each group to its noise, on ONNX Runtime in its own dialect."""

    def find(model, x):
        rules = x86_rules(vnni=True)
        plan = make_plan(model, collect(model, ArraySamples({"x": x}), open_model), rules)
        groups = node_groups(float_graph(model), plan)
        found = dict(
            noise_of_groups(
                model,
                plan,
                groups,
                [{"x": x[:8]}, {"x": x[8:16]}],
                open_model,
                lambda one, its, path: write_plan(one, its, rules, path),
            )
        )
        return groups, found

    return find


def test_the_groups_around_an_outlier_are_the_most_sensitive(graph, noises, random):
    """One channel of h is 3000 times as large as the others, and c, which reads it, weighs it as little."""
    first, last = random(4, 4, 3, 3, seed=1), random(4, 4, 3, 3, seed=2)
    first[0] *= 3000
    last[:, 0] /= 3000
    nodes = "a = Conv3(x, v) r = Relu(a) h = Conv3(r, f) c = Conv3(h, l) d = Conv3(c, u) z = Relu(d)"
    groups, found = noises(graph(nodes, {"f": first, "l": last}), random(16, 4, 6, 6, seed=3))
    order = most_sensitive_first(groups, found)
    assert set(order[:2]) == {"h:Conv", "c:Conv"}
    assert sqnr_db(found["h:Conv"]) < 20
    assert sqnr_db(found["a:Conv"]) > 30


def test_decibels():
    assert [sqnr_db(noise) for noise in (0.0, 1e-3, 1.0, np.inf)] == [150.0, 30.0, 0.0, -np.inf]
