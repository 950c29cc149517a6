"""LSTM with integers on OpenVINO."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeport.backends import openvino
from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.calibration.plan import dynamic_plan
from edgeport.contracts import ExecutionConfig, Precision
from edgeport.onnx_files import open_onnx

STEPS, UNITS = 12, 16
RANDOM = np.random.default_rng(5)


def network(path, *, states="", sizes=(2.0, 1.0), first="Tanh(x)", direction="forward"):
    """Two layers of one size whose weights differ in size; the first input is bounded by a Tanh."""
    text = (
        f'<ir_version: 10, opset_import: ["": 20]> g (float[{STEPS},1,{UNITS}] x) => (float[n0,n1,{UNITS}] y, '
        f"float[m0,m1,{UNITS}] h) {{ t = {first} "
        f'l, k, c = LSTM<hidden_size={UNITS}, direction="{direction}">(t, w1, r1, b1{states}) s = Squeeze(l, one) '
        f"m, h = LSTM<hidden_size={UNITS}>(s, w2, r2, b2) y = Squeeze(m, one) }}"
    )
    proto = onnx.parser.parse_model(text)
    arrays = {
        "scale": np.ones(UNITS, np.float32),
        "one": np.array([1]),
        "h0": RANDOM.uniform(-1, 1, (1, 1, UNITS)).astype(np.float32),
    }
    for layer, size in zip("12", sizes, strict=True):
        for name, shape in (("w", (1, 4 * UNITS, UNITS)), ("r", (1, 4 * UNITS, UNITS)), ("b", (1, 8 * UNITS))):
            array = RANDOM.standard_normal(shape) * size / np.sqrt(UNITS)
            arrays[name + layer] = array.astype(np.float32)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, path)
    return open_onnx(path)


@pytest.fixture
def backend():
    made = openvino.create_backend()
    if not made.capabilities().can_run:
        pytest.skip(made.capabilities().reason)
    return made


@pytest.mark.parametrize("states", [pytest.param("", id="no state"), pytest.param(", , h0, h0", id="given state")])
def test_it_computes_what_the_float_one_does(states, backend, tmp_path):
    """Layers of one size would share their scales, and gates be mixed up, if they were not the same."""
    model = network(tmp_path / "float.onnx", states=states)
    plan = dynamic_plan(model, backend.capabilities().rules)
    assert plan.nodes == dict.fromkeys(("l", "m"), Precision.INT8_DYNAMIC)
    artifact = backend.compile(model, plan, ExecutionConfig(threads=1), tmp_path / "artifact")
    kernels = [node for node in backend.placement(artifact).nodes if node.precision]
    ran = {name: node.precision for node in kernels for name in node.origin}
    assert (ran["l"], ran["m"]) == ("int8", "int8")

    feeds = {"x": RANDOM.standard_normal((STEPS, 1, UNITS)).astype(np.float32)}
    with open_reference(model.path) as run:
        wanted = run(feeds)
    session = backend.open(artifact)
    call = session.bind(feeds)
    call.run()
    for name, expected in wanted.items():
        noise = np.square(call.outputs()[name] - expected).sum()
        assert 10 * np.log10(np.square(expected).sum() / noise) > 22.0, name
    session.close()


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({"first": "LayerNormalization(x, scale)", "states": ""}, id="input beyond one"),
        pytest.param({"direction": "reverse"}, id="the other way"),
    ],
)
def test_what_the_runtime_does_not_do_stays_float(made, backend, tmp_path):
    model = network(tmp_path / "float.onnx", **made)
    assert list(dynamic_plan(model, backend.capabilities().rules).nodes) == ["m"]
