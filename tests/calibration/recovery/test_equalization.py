"""Weights of consecutive layers that are made equally large."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.calibration.data import ArraySamples
from edgeport.calibration.recovery import Equalization
from edgeport.calibration.recovery.equalization import equalize
from edgeport.calibration.recovery.transform import transform
from edgeport.errors import AlreadyQuantizedError, CalibrationError
from edgeport.onnx_files import read_ir


def constants(model):
    return {name: value.const_value.numpy() for name, value in read_ir(model).graph.initializers.items()}


def spread(*shape, seed=0):
    """Weights [M, ...] whose output channels differ by factors of up to a thousand."""
    random = np.random.default_rng(seed)
    factors = np.geomspace(0.03, 30, shape[0]).reshape(-1, *([1] * (len(shape) - 1)))
    return (random.standard_normal(shape) * random.permutation(factors)).astype(np.float32)


CHAINS = {
    "conv relu conv": "c = Conv3(x, w, b) r = Relu(c) z = Conv3(r, v, a)",
    "without biases": "c = Conv3(x, w) z = Conv3(c, v)",
    "depthwise": "c = Conv3(x, w, b) r = Relu(c) d = Conv<group=4, pads=[1,1,1,1]>(r, k) z = Conv3(d, v)",
    "grouped": "c = Conv3(x, w, b) r = Relu(c) z = Conv<group=2, pads=[1,1,1,1]>(r, g, a)",
    "prelu and pooling": "c = Conv3(x, w, b) r = PRelu(c, p) m = MaxPool<kernel_shape=[2,2]>(r) z = Conv3(m, v)",
    "to a Gemm": "c = Conv3(x, w, b) r = Relu(c) q = GlobalAveragePool(r) f = Flatten(q) z = Gemm<transB=1>(f, h, e)",
    "transposed": "c = ConvTranspose(x, t, b) r = Relu(c) z = ConvTranspose(r, u)",
    "lower limit only": "c = Conv3(x, w, b) r = Clip(c, zero) z = Conv3(r, v)",
}


@pytest.fixture
def weights(random):
    return {
        **{name: spread(4, 4, 3, 3, seed=index) for index, name in enumerate("wvtu")},
        "k": spread(4, 1, 3, 3, seed=5),
        "g": spread(4, 2, 3, 3, seed=6),
        "h": spread(3, 4, seed=7),
        "b": random(4, seed=1),
        "a": random(4, seed=2),
        "e": random(3),
        "p": np.abs(random(4, 1, 1)),
        "zero": np.zeros((), np.float32),
    }


@pytest.mark.parametrize("nodes", CHAINS.values(), ids=CHAINS.keys())
def test_outputs_stay_what_they_were(nodes, graph, random, weights, lab):
    """Factors are not powers of two, so float32 rounds each product anew: 1e-5 of the largest output."""
    model, x = graph(nodes, weights), random(3, 4, 6, 6)
    done = equalize(model, lab.folder / "equalized.onnx")
    before, after = lab.run(model, x), lab.run(done.model, x)
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max(), rtol=0)
    assert done.model.digest != model.digest


def test_products_keep_their_outputs_too(graph, random, lab):
    nodes = "m = MatMul(x, k) s = Add(m, b) r = Relu(s) z = MatMul(r, h)"
    weights = {"k": spread(6, 5).T.copy(), "b": random(6), "h": random(6, 3)}
    model, x = graph(nodes, weights, shape=(7, 5)), random(2, 7, 5)
    done = equalize(model, lab.folder / "equalized.onnx")
    np.testing.assert_allclose(lab.run(done.model, x), lab.run(model, x), atol=1e-4)
    assert done.said == "equalization (1 pairs)"


def test_the_factors_are_those_of_the_paper(graph, random, lab):
    """Against equation 11 written here, of two dense layers without a bias: s = sqrt(r1 r2) / r2."""
    first, second = spread(6, 4), random(3, 6, seed=2)
    model = graph(
        "c = Gemm<transB=1>(x, k) r = Relu(c) z = Gemm<transB=1>(r, h)", {"k": first, "h": second}, shape=(4,)
    )
    made = constants(equalize(model, lab.folder / "equalized.onnx").model)
    r1, r2 = np.abs(first).max(axis=1), np.abs(second).max(axis=0)
    s = np.sqrt(r1 * r2) / r2
    np.testing.assert_allclose(made["k"], first / s[:, None], rtol=1e-5)
    np.testing.assert_allclose(made["h"], second * s, rtol=1e-5)
    np.testing.assert_allclose(np.abs(made["k"]).max(axis=1), np.abs(made["h"]).max(axis=0), rtol=1e-5)


def test_it_helps_where_channels_differ_and_weights_have_one_scale(graph, random, dialect, weights, lab, decibels):
    rules = dialect(per_channel=False)
    model, x = graph("c = Conv3(x, w, b) r = Relu(c) z = Conv3(r, v)", weights), random(16, 4, 6, 6)
    equal = equalize(model, lab.folder / "equalized.onnx").model
    true = lab.run(model, x)
    before = decibels(true, lab.run_quantized(model, lab.plan(model, x, rules), rules, x))
    after = decibels(true, lab.run_quantized(equal, lab.plan(equal, x, rules), rules, x))
    assert after > before + 2.0


def test_a_channel_that_is_dead_but_for_its_bias_does_not_stretch_the_activations(graph, random, lab):
    weight, bias = random(4, 4, 3, 3), np.array([0.5, 0.3, -0.2, 0.1], np.float32)
    weight[1] = 1e-8
    model = graph("c = Conv3(x, k, b) r = Relu(c) z = Conv3(r, v)", {"k": weight, "b": bias})
    made = constants(equalize(model, lab.folder / "equalized.onnx").model)
    assert np.abs(made["b"]).max() <= 0.5 * (1 + 1e-6)


def test_zeros_are_left_alone(graph, random, lab):
    weight = random(4, 4, 3, 3)
    weight[2] = 0.0
    model = graph("c = Conv3(x, k) r = Relu(c) z = Conv3(r, v)", {"k": weight})
    made = constants(equalize(model, lab.folder / "equalized.onnx").model)
    assert np.isfinite(made["k"]).all()
    np.testing.assert_array_equal(made["k"][2], 0.0)


RELU6 = "c = Conv3(x, w, b) r = Clip(c, zero, six) z = Conv3(r, v)"


def test_a_relu6_is_kept_unless_it_is_given_up(graph, random, weights, lab):
    model = graph(RELU6, weights | {"six": np.array(6, np.float32)})
    with pytest.raises(CalibrationError, match="1 pairs of layers, each with a Clip between"):
        equalize(model, lab.folder / "kept.onnx")
    done = equalize(model, lab.folder / "replaced.onnx", replace_relu6=True)
    assert done.said == "equalization (1 pairs, 1 Clip taken for Relu)"
    assert [node.op_type for node in read_ir(done.model).graph] == ["Conv", "Relu", "Conv"]
    small = random(2, 4, 6, 6) * np.float32(0.01)  # below the limit
    np.testing.assert_allclose(lab.run(done.model, small), lab.run(model, small), atol=1e-4)


@pytest.mark.parametrize(("size", "kept"), [(0.01, True), (3.0, False)], ids=["below the limit", "above it"])
def test_a_limit_is_given_up_only_where_outputs_hardly_change(size, kept, graph, weights, lab):
    model = graph(RELU6, weights | {"six": np.array(6, np.float32)})
    x = np.random.default_rng(0).standard_normal((8, 4, 6, 6), np.float32) * np.float32(size)
    samples = ArraySamples({"x": x})
    if kept:
        made, said = transform(model, [Equalization("relu6")], samples, lab.open_model, lab.folder)
        assert said == ("equalization (1 pairs, 1 Clip taken for Relu)",)
        assert made.digest != model.digest
        return
    with pytest.raises(CalibrationError, match="values lie above the limits"):
        transform(model, [Equalization("relu6")], samples, lab.open_model, lab.folder)


REFUSED = {
    "not homogeneous": "c = Conv3(x, w, b) r = Sigmoid(c) z = Conv3(r, v)",
    "another reader": "c = Conv3(x, w, b) r = Relu(c) d = Conv3(r, v) z = Add(d, r)",
    "a shared weight": "c = Conv3(x, w, b) r = Relu(c) z = Conv3(r, w)",
    "a shared bias": "c = Conv3(x, w, b) r = Relu(c) e = Neg(b) d = Mul(r, r) z = Conv3(d, v)",
    "a lower limit that is not 0": "c = Conv3(x, w, b) r = Clip(c, one) z = Conv3(r, v)",
    "one layer": "z = Conv3(x, w, b)",
}


@pytest.mark.parametrize("nodes", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_chain_is_refused(nodes, graph, weights, lab):
    model = graph(nodes, weights | {"one": np.ones((), np.float32)})
    with pytest.raises(CalibrationError, match="no two layers in a chain"):
        equalize(model, lab.folder / "equalized.onnx")


def test_a_quantized_model_is_refused(model_text, lab):
    nodes = "q = QuantizeLinear(x, s, o) z = DequantizeLinear(q, s, o)"
    model = model_text(f"(float[b,4] x, float s, uint8 o) => (float[b,4] z) {{ {nodes} }}")
    with pytest.raises(AlreadyQuantizedError):
        equalize(model, lab.folder / "equalized.onnx")
