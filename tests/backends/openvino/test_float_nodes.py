"""float32 beside bfloat16, node by node, with and without integers; and what the plugin can't have side by side."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from edgeport.backends.openvino import create_backend
from edgeport.backends.openvino.float_nodes import FloatNodes, hinted_float
from edgeport.calibration.mixed_plan import mixed_plan
from edgeport.calibration.plan import float_plan
from edgeport.contracts import ExecutionConfig, Mix, NodeChoice, Precision, QuantizationPlan, kept_nodes
from edgeport.errors import UnsupportedByBackend

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
pytestmark = pytest.mark.skipif(not KNOWN.can_run, reason=f"openvino: {KNOWN.reason}")
has_bf16 = pytest.mark.skipif(
    KNOWN.can_run and not KNOWN.precisions[Precision.BF16].available, reason="this processor has no bfloat16"
)
PRODUCTS = ("stem", "depthwise", "pointwise", "left", "right", "head")
FP32, BF16, FP16 = Precision.FP32, Precision.BF16, Precision.FP16


def placed(network, plan, folder):
    artifact = BACKEND.compile(network.model, plan, ExecutionConfig(threads=1), folder / "artifact")
    return artifact, BACKEND.placement(artifact)


def ran(placement):
    """What each product computed in."""
    return {
        name: node.precision
        for node in placement.nodes
        if node.operator in ("Convolution", "FullyConnected")
        for name in node.origin
        if name in PRODUCTS
    }


@has_bf16
@pytest.mark.parametrize(
    ("rest", "others", "other"), [(FP32, ("left", "head"), BF16), (BF16, ("stem", "right"), FP32)], ids=str
)
def test_a_float_model_has_both_floats_node_by_node(rest, others, other, cnn, tmp_path):
    plan = dataclasses.replace(float_plan(cnn.model, rest), nodes=dict.fromkeys(others, other))
    artifact, placement = placed(cnn, plan, tmp_path)
    assert ran(placement) == {name: str(other if name in others else rest) for name in PRODUCTS}
    assert artifact.settings["precision"] == "bf16"
    session = BACKEND.open(artifact)
    call = session.bind(cnn.feeds)
    call.run()
    np.testing.assert_allclose(call.outputs()["scores"], cnn.scores, rtol=0.05, atol=0.05)
    session.close()


@has_bf16
@pytest.mark.parametrize("rest", [FP32, BF16], ids=str)
def test_integers_stand_beside_both_floats(rest, cnn, tmp_path):
    choices = tuple(NodeChoice(what=what, precision=one) for what, one in (("left", FP32), ("right", BF16)))
    plan = mixed_plan(cnn.model, KNOWN.rules, Precision.INT8, Mix(rest=rest, nodes=choices), cnn.calibration)
    _, placement = placed(cnn, plan, tmp_path)
    found = ran(placement)
    assert (found["left"], found["right"]) == ("fp32", "bf16")
    assert {found[name] for name in PRODUCTS if name not in ("left", "right")} == {"int8"}
    assert kept_nodes(plan, placement).strayed == ()


def test_one_float_needs_no_marks():
    def marks(default, nodes):
        return FloatNodes.of(QuantizationPlan(dialect="openvino", model_digest="0", default=default, nodes=nodes))

    assert marks(FP32, {"a": Precision.INT8, "b": FP32}) is None
    assert marks(BF16, {"a": Precision.INT8, "b": BF16}) is None
    assert marks(BF16, {"a": Precision.INT8, "b": FP32}) == FloatNodes(
        named=frozenset("a"), precise=frozenset("b"), rest=False
    )
    assert marks(FP32, {"a": BF16}) == FloatNodes(named=frozenset("a"), precise=frozenset(), rest=True)


def test_two_floats_of_16_bits_are_refused_by_name():
    plan = QuantizationPlan(dialect="openvino", model_digest="0", default=BF16, nodes={"head": FP16})
    with pytest.raises(UnsupportedByBackend, match="run the rest in bf16, 'head' in fp16 in one OpenVINO model"):
        hinted_float(plan)


def test_marks_are_in_the_ir(tmp_path):
    path = tmp_path / "net.xml"
    path.write_text(
        '<net><layers><layer name="a" type="Convolution"><rt_info/></layer>'
        '<layer name="b/WithoutBiases" type="MatMul"/><layer name="w" type="Const"/></layers></net>'
    )
    FloatNodes(named={"b"}, precise=set(), rest=True).mark(path)
    marked = {
        layer.get("name"): [one.get("name") for one in layer.iter("attribute")]
        for layer in ET.parse(path).iter("layer")
    }
    assert marked == {"a": ["precise"], "b/WithoutBiases": [], "w": []}
