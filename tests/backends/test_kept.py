"""How much of a plan really ran as integers: the arithmetic, and the names that lead back from fused runtimes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.backends.registry import backend
from edgeport.calibration.plan import make_plan
from edgeport.contracts import (
    ExecutionConfig,
    NodePlacement,
    Placement,
    Precision,
    QuantizationPlan,
    kept_nodes,
    kept_share,
)


def plan_of(*names: str, precision: Precision = Precision.INT8) -> QuantizationPlan:
    return QuantizationPlan(dialect="d", model_digest="m", nodes=dict.fromkeys(names, precision))


def placement_of(*kernels: tuple[str, str]) -> Placement:
    nodes = [
        NodePlacement(name=origin, operator="K", device="CPU", precision=precision, origin=tuple(origin.split()))
        for origin, precision in kernels
    ]
    return Placement(nodes=tuple(nodes), source="test")


def test_each_planned_node_is_kept_lost_or_unseen():
    placement = placement_of(("a b", "int8"), ("c", "fp32"), ("d", ""), ("f", "fp32"))
    found = kept_nodes(plan_of("a", "b", "c", "d", "e"), placement)
    assert (found.kept, found.lost, found.unseen) == (("a", "b"), ("c",), ("d", "e"))
    assert found.share == kept_share(plan_of("a", "b", "c", "d", "e"), placement) == 2 / 3


def test_a_float_helper_beside_an_integer_kernel_loses_nothing():
    assert kept_share(plan_of("a"), placement_of(("a", "int8"), ("a b", "fp32"))) == 1.0


@pytest.mark.parametrize(
    ("plan", "kernels", "share"),
    [
        pytest.param(plan_of(), [("a", "fp32")], 1.0, id="nothing was planned"),
        pytest.param(plan_of("a"), [("a", "")], 0.0, id="nothing was seen"),
        pytest.param(plan_of("a", precision=Precision.INT8_DYNAMIC), [("a", "int8")], 1.0, id="dynamic"),
        pytest.param(plan_of("a"), [("b", "int8")], 0.0, id="integers that nobody planned do not count"),
        pytest.param(plan_of("a", precision=Precision.FP32), [("a", "fp32")], 1.0, id="planned float"),
    ],
)
def test_the_ends(plan, kernels, share):
    assert kept_share(plan, placement_of(*kernels)) == share


def test_weights_alone_are_kept_in_the_width_that_was_planned():
    def kernel(name: str, precision: str, weights: str) -> NodePlacement:
        return NodePlacement(
            name=name, operator="K", device="CPU", precision=precision, origin=(name,), weights=weights
        )

    ran = (kernel("a", "int8", "int4"), kernel("b", "fp32", "int8"), kernel("c", "int8", ""), kernel("d", "", "int4"))
    found = kept_nodes(plan_of(*"abcde", precision=Precision.UINT4_WEIGHTS_64), Placement(nodes=ran, source="test"))
    assert (found.kept, found.lost, found.unseen) == (("a", "d"), ("b", "c"), ("e",))
    assert Placement(nodes=ran, source="test").summary() == (
        "int8 with int4 weights 1/3, fp32 with int8 weights 1/3, int8 1/3"
    )


def test_a_float_that_was_chosen_by_name_and_ran_otherwise_has_strayed():
    plan = plan_of("a", "b", "c", precision=Precision.FP32)
    found = kept_nodes(plan, placement_of(("a", "int8"), ("b", "int8"), ("b", "fp32"), ("c", "")))
    assert found.strayed == ("a",)
    assert (found.kept, found.lost, found.share) == ((), (), 1.0)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["cnn", "perceptron", "attention"])
def test_names_lead_back_from_fused_kernels(name, runtime, request, tmp_path):
    """Every node of these plans has an integer kernel in both runtimes, and is found in it."""
    network, made = request.getfixturevalue(name), backend(runtime)
    known = made.capabilities()
    if not known.can_run:
        pytest.skip(f"{runtime}: {known.reason}")
    plan = make_plan(network.model, network.calibration, known.rules)
    placement = made.placement(made.compile(network.model, plan, ExecutionConfig(threads=1), tmp_path / "artifact"))
    found = kept_nodes(plan, placement)
    assert found.lost == ()
    assert found.share == 1.0
    # What is not seen moves numbers, or lies in a kernel under its neighbour's name.
    products = [node for node in plan.nodes if node in network.products]
    assert set(products) <= set(found.kept)
    assert len(found.kept) > len(plan.nodes) / 2


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_plan_that_the_runtime_did_not_follow_is_seen(runtime, cnn, tmp_path):
    """The plan of the int8 artifact, held against what the float one ran."""
    made = backend(runtime)
    known = made.capabilities()
    if not known.can_run:
        pytest.skip(f"{runtime}: {known.reason}")
    plan = make_plan(cnn.model, cnn.calibration, known.rules)
    floats = QuantizationPlan(dialect="float", model_digest=cnn.model.digest)
    placement = made.placement(made.compile(cnn.model, floats, ExecutionConfig(threads=1), tmp_path / "artifact"))
    found = kept_nodes(plan, placement)
    assert found.share == 0.0
    assert {"stem", "pointwise", "head"} <= set(found.lost)
    assert np.isclose(placement.share("fp32"), 1.0)
