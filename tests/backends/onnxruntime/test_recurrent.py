"""LSTM with integer weights on ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgeport.backends import onnxruntime
from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.onnxruntime.rules import x86_rules
from edgeport.calibration.plan import dynamic_plan
from edgeport.contracts import ExecutionConfig, Precision
from edgeport.errors import PlanError

RULES = x86_rules(vnni=True)
STEPS, BATCH, INPUTS, STATE = 12, 2, 16, 8


def network(bench, *, directions=1, states=True, **attributes):
    """Two layers that share their weights; the first input is bounded by a Tanh."""
    weights = {
        "w": bench.weight(directions, 4 * STATE, INPUTS),
        "r": bench.weight(directions, 4 * STATE, STATE),
        "b": bench.weight(directions, 8 * STATE),
        "h0": bench.weight(directions, BATCH, STATE),
    }
    first = ["t", "w", "r", "b", *(["", "h0", "h0"] if states else [])]
    nodes = [
        bench.node("Tanh", ["x"], ["t"]),
        bench.node("LSTM", first, ["l", "h", "c"], hidden_size=STATE, **attributes),
        bench.node("LSTM", ["t", "w", "r"], ["m"], hidden_size=STATE, **attributes),
        bench.node("Add", ["l", "m"], ["y"]),
    ]
    return bench.model(nodes, weights, (STEPS, BATCH, INPUTS), ["y", "h"])


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({}, id="forward"),
        pytest.param({"states": False, "direction": "reverse"}, id="reverse"),
        pytest.param({"directions": 2, "direction": "bidirectional"}, id="both ways"),
        pytest.param({"activations": ["Sigmoid", "Tanh", "Tanh"], "clip": 2.0}, id="clipped"),
    ],
)
def test_it_computes_what_the_float_one_does(made, bench):
    model = network(bench, **made)
    quantized = bench.quantize(model, RULES, dynamic=True)
    assert quantized.operators.count("DynamicQuantizeLSTM") == 2
    assert "LSTM" not in quantized.operators
    assert quantized.sqnr_db > 30.0


def test_layers_share_integers_and_are_placed(bench, tmp_path):
    backend = onnxruntime.create_backend()
    model = network(bench)
    plan = dynamic_plan(model, backend.capabilities().rules)
    assert plan.nodes == dict.fromkeys(("n_l", "n_m"), Precision.INT8_DYNAMIC)
    artifact = backend.compile(model, plan, ExecutionConfig(threads=1), tmp_path / "artifact")
    ran = {name: node.precision for node in backend.placement(artifact).nodes for name in node.origin}
    assert (ran["n_l"], ran["n_m"], ran["n_t"]) == ("int8", "int8", "fp32")
    stored = {one.name: one.dims for one in onnx.load(artifact.folder / artifact.entry).graph.initializer}
    assert stored["w_quantized"] == [1, INPUTS, 4 * STATE]
    assert {"w", "r"}.isdisjoint(stored)
    assert sum("quantized" in name for name in stored) == 2
    feeds = bench.batch(model)
    session = backend.open(artifact)
    call = session.bind(feeds)
    call.run()
    with open_reference(model.path) as run:
        np.testing.assert_allclose(call.outputs()["h"], run(feeds)["h"], atol=0.05)


def test_a_weight_that_the_plan_leaves_out_is_named(bench, tmp_path):
    model = network(bench)
    plan = dynamic_plan(model, RULES)
    short = replace(
        plan, dialect=onnxruntime.create_backend().capabilities().rules.dialect, weights={"w": plan.weights["w"]}
    )
    with pytest.raises(PlanError, match="input 2, 'r', is not among the plan's weights"):
        onnxruntime.create_backend().compile(model, short, ExecutionConfig(), tmp_path / "artifact")
