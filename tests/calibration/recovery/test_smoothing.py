"""Inputs of products whose outliers go over to the weights."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.calibration.data import ArraySamples
from edgeport.calibration.recovery.smoothing import smooth
from edgeport.contracts import Precision
from edgeport.errors import AlreadyQuantizedError, CalibrationError
from edgeport.onnx_files import read_ir


def constants(model):
    return {name: value.const_value.numpy() for name, value in read_ir(model).graph.initializers.items()}


def operators(model):
    return [node.op_type for node in read_ir(model).graph]


@pytest.fixture
def smoothed(lab):
    """`smoothed(model, x, **options)`."""

    def make(model, x, **options):
        return smooth(model, ArraySamples({"x": x}), lab.open_model, lab.folder / "smoothed.onnx", **options)

    return make


@pytest.fixture
def weights(random):
    """A normalization over 6 channels, two of which come out a hundred times larger, and weights for what follows."""
    scale = np.array([1, 1, 100, 1, 0.5, 50], np.float32)
    named = {"k": random(6, 5), "l": random(6, 5, seed=1), "h": random(5, 6, seed=2), "b": random(5), "n": scale[:5]}
    return {**named, "s": scale, "o": random(6, seed=3), "half": np.array(0.5, np.float32)}


MODELS = {
    "normalization": ("n1 = LayerNormalization(x, s, o) z = MatMul(n1, k)", "1 folded"),
    "normalization without a bias": ("n1 = LayerNormalization(x, s) z = MatMul(n1, k)", "1 folded"),
    "two products": ("n1 = LayerNormalization(x, s, o) p = MatMul(n1, k) q = MatMul(n1, l) z = Mul(p, q)", "1 folded"),
    "a residual": (
        "n1 = LayerNormalization(x, s, o) p = MatMul(n1, k) q = MatMul(p, h) z = Add(q, n1)",
        "1 folded, 1 by a Mul",
    ),
    "written out": ("m = Mul(x, s) n1 = Add(o, m) z = MatMul(n1, k)", "1 folded"),
    "one factor": ("e = Exp(x) m = Mul(e, half) z = MatMul(m, k)", "1 folded"),
    "behind a product": ("p = MatMul(x, k) a = Add(p, b) r = Relu(a) z = MatMul(r, h)", "1 folded, 1 by a Mul"),
    "behind a curve": (
        "n1 = LayerNormalization(x, s, o) p = MatMul(n1, k) g = Gelu(p) z = MatMul(g, h)",
        "1 folded, 1 by",
    ),
    "an input": ("z = MatMul(x, k)", "0 folded, 1 by a Mul of their own"),
    "one weight twice": ("e = Exp(x) p = MatMul(x, k) q = MatMul(e, k) z = Add(p, q)", "0 folded, 2 by a Mul"),
}


@pytest.mark.parametrize(("nodes", "said"), MODELS.values(), ids=MODELS.keys())
def test_outputs_stay_what_they_were(nodes, said, graph, weights, smoothed, lab):
    """Factors are not powers of two, so float32 rounds each product anew: 1e-5 of the largest output."""
    model, x = graph(nodes, weights, shape=(7, 6)), np.random.default_rng(0).standard_normal((4, 7, 6), np.float32)
    done = smoothed(model, x)
    before, after = lab.run(model, x), lab.run(done.model, x)
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max(), rtol=0)
    assert said in done.said


def test_a_product_of_two_axes_is_smoothed_too(graph, random, weights, smoothed, lab):
    nodes = "n1 = LayerNormalization(x, s, o) z = Gemm<transB=1>(n1, h, b)"
    model, x = graph(nodes, weights, shape=(6,)), random(16, 6)
    done = smoothed(model, x)
    np.testing.assert_allclose(lab.run(done.model, x), lab.run(model, x), rtol=1e-3, atol=1e-3)
    assert operators(done.model) == ["LayerNormalization", "Gemm"]


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.8, 1.0])
def test_the_factors_are_those_of_the_paper(strength, graph, random, weights, smoothed):
    """Against equation 4 written here."""
    model, x = graph("z = MatMul(x, k)", weights, shape=(7, 6)), random(4, 7, 6) * weights["s"]
    made = constants(smoothed(model, x, strength=strength).model)
    largest, weight = np.abs(x).max(axis=(0, 1)), np.abs(weights["k"]).max(axis=1)
    s = largest**strength / weight ** (1 - strength)
    np.testing.assert_allclose(made["x_smoothed_factors"], 1 / s, rtol=1e-5)
    np.testing.assert_allclose(made["k"], weights["k"] * s[:, None], rtol=1e-5)


def test_it_helps_where_few_channels_are_large(graph, random, dialect, smoothed, lab):
    """They are multiplied by small weights, so that all channels count alike: what a network learns of outliers."""
    scale = np.array([1, 1, 100, 1, 0.5, 50], np.float32)
    weights = {"s": scale, "k": random(6, 5) / scale[:, None]}
    model = graph("n1 = LayerNormalization(x, s) z = MatMul(n1, k)", weights, shape=(7, 6))
    rules, x, fresh = dialect(), random(32, 7, 6), random(32, 7, 6, seed=9)
    true = lab.run(model, fresh)
    made = smoothed(model, x).model
    before = lab.run_quantized(model, lab.plan(model, x, rules), rules, fresh) - true
    after = lab.run_quantized(made, lab.plan(made, x, rules), rules, fresh) - true
    assert np.square(after).mean() < 0.2 * np.square(before).mean()


def test_what_is_put_in_stays_float(graph, random, dialect, weights, smoothed, lab):
    """Factors as integers would have one scale for channels that differ a hundredfold."""
    nodes = "p = MatMul(x, k) a = Add(p, p) q = MatMul(a, h) z = Add(q, x)"
    model, x = graph(nodes, weights, shape=(7, 6)), random(4, 7, 6)
    made = smoothed(model, x).model
    plan = lab.plan(made, x, dialect())
    assert operators(made) == ["Mul", "MatMul", "Add", "Mul", "MatMul", "Add"]
    assert plan.nodes["a:Add"] is Precision.INT8
    assert "a_smoothed" not in plan.nodes


def test_factors_in_a_constant_that_was_there_stay_float_too(graph, random, dialect, weights, smoothed, lab):
    model = graph("p = MatMul(x, k) a = Add(p, p) m = Mul(a, n) z = MatMul(m, h)", weights, shape=(7, 6))
    x = random(4, 7, 6)
    made = smoothed(model, x).model
    assert "m:Mul" in lab.plan(model, x, dialect()).nodes
    assert "m:Mul" not in lab.plan(made, x, dialect()).nodes


@pytest.mark.parametrize(
    "nodes", ["z = Conv3(x, w)", "z = MatMul(x, x)", "z = MatMul(k, x)"], ids=["a convolution", "attention", "left"]
)
def test_a_model_without_products_by_constants_is_refused(nodes, graph, random, smoothed):
    model = graph(nodes, {"k": random(6, 6)}, shape=(4, 6, 6))
    with pytest.raises(CalibrationError, match="no MatMul or Gemm of an activation and a constant weight"):
        smoothed(model, random(2, 4, 6, 6))


def test_a_quantized_model_is_refused(model_text, random, smoothed):
    nodes = "q = QuantizeLinear(x, s, o) z = DequantizeLinear(q, s, o)"
    model = model_text(f"(float[b,4] x, float s, uint8 o) => (float[b,4] z) {{ {nodes} }}")
    with pytest.raises(AlreadyQuantizedError):
        smoothed(model, random(2, 4))
