"""Biases that take up what quantization shifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeport.calibration.recovery import BiasCorrection
from edgeport.calibration.recovery.bias_correction import correct_biases
from edgeport.calibration.recovery.refine import refine
from edgeport.contracts import ActivationQuantization
from edgeport.errors import CalibrationError
from edgeport.onnx_files import read_ir

CHAIN = "c = Conv3(x, w, b) r = Relu(c) d = Conv3(r, v, a) s = Relu(d) z = Conv3(s, u)"


@pytest.fixture
def chain(graph, random):
    """Weights of one sign, so that what is cut off adds up."""
    weights = {name: np.abs(random(4, 4, 3, 3, seed=7)) for name in "vu"}
    return graph(CHAIN, {"b": random(4, seed=1), "a": random(4, seed=2), **weights})


def constant(model, name):
    return read_ir(model).graph.initializers[name].const_value.numpy()


def test_the_correction_is_the_mean_of_what_is_lost(graph, random, dialect, lab):
    """Against a fake quantization written here: a 1x1 convolution, so that the means need no borders."""
    weight, bias, x = random(3, 4, 1, 1, seed=3), random(3, seed=4), random(8, 4, 6, 6, seed=5)
    model = graph("z = Conv(x, k, b)", {"k": weight, "b": bias})
    plan = lab.plan(model, x, dialect())
    step = (x.max() - x.min()) / np.float32(255)
    zero = np.rint(-x.min() / step)
    seen = (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
    scale = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / np.float32(127)
    rounded = np.rint(weight / scale) * scale
    lost = np.einsum("nchw,mc->nmhw", x, weight[:, :, 0, 0]) - np.einsum("nchw,mc->nmhw", seen, rounded[:, :, 0, 0])

    done = correct_biases(model, plan, lab.bench(model, x, dialect()), lab.folder / "corrected.onnx")

    assert np.abs(lost.mean(axis=(0, 2, 3))).max() > 1e-4
    np.testing.assert_allclose(constant(done.model, "b") - bias, lost.mean(axis=(0, 2, 3)), atol=2e-6)
    assert done.said == "bias-correction (1 of 1 layers, 8 samples)"


def clipped(plan, *names):
    """The plan with ranges that cut half of each tensor off at the top: a shift that biases can take up."""
    specs = {
        name: ActivationQuantization(dtype=spec.dtype, minimum=spec.minimum, maximum=0.5 * spec.maximum)
        if name in names
        else spec
        for name, spec in plan.activations.items()
    }
    return replace(plan, activations=specs)


def test_it_helps_where_ranges_clip(chain, random, dialect, lab, decibels):
    x, rules = random(16, 4, 6, 6, seed=5) + np.float32(0.5), dialect()
    plan = clipped(lab.plan(chain, x, rules), "r", "s")
    model, corrected = refine(chain, plan, [BiasCorrection()], lab.bench(chain, x, rules), lab.folder)
    fresh = random(64, 4, 6, 6, seed=6) + np.float32(0.5)
    true = lab.run(chain, fresh)
    before = decibels(true, lab.run_quantized(chain, plan, rules, fresh))
    after = decibels(true, lab.run_quantized(model, corrected, rules, fresh))
    assert after > before + 1.0
    assert corrected.recovered_by == ("bias-correction (3 of 3 layers, 16 samples)",)
    assert corrected.activations == plan.activations


def test_every_layer_is_corrected_behind_the_ones_before_it(chain, random, dialect, lab):
    """What comes out has the float model's mean, which corrections side by side would not give."""
    x, rules = random(16, 4, 6, 6, seed=5), dialect()
    plan = clipped(lab.plan(chain, x, rules), "r", "s")
    model, corrected = refine(chain, plan, [BiasCorrection()], lab.bench(chain, x, rules), lab.folder)
    last = replace(corrected, activations={k: v for k, v in corrected.activations.items() if k != "z"})
    true = lab.run(chain, x).mean(axis=(0, 2, 3))
    before = lab.run_quantized(chain, plan, rules, x).mean(axis=(0, 2, 3))
    after = lab.run_quantized(model, last, rules, x).mean(axis=(0, 2, 3))
    assert np.abs(after - true).max() < 1e-3 * np.abs(before - true).max()


def test_a_convolution_without_a_bias_gets_one(graph, random, dialect, lab):
    model, x = graph("z = Conv3(x, w)"), random(4, 4, 6, 6)
    done = correct_biases(model, lab.plan(model, x, dialect()), lab.bench(model, x, dialect()), lab.folder / "c.onnx")
    assert constant(done.model, "z:Conv_bias").shape == (4,)


def test_the_bias_of_a_product_is_what_is_added_behind_it(graph, random, dialect, lab):
    model = graph("m = MatMul(x, k) z = Add(b, m)", {"k": random(5, 3), "b": random(3)}, shape=(7, 5))
    x = random(8, 7, 5)
    done = correct_biases(model, lab.plan(model, x, dialect()), lab.bench(model, x, dialect()), lab.folder / "c.onnx")
    assert 0 < np.abs(constant(done.model, "b") - random(3)).max() < 0.1


def test_a_bias_that_two_layers_share_is_split(graph, random, dialect, lab):
    model = graph("c = Conv3(x, w, b) z = Conv3(c, v, b)", {"b": random(4)})
    x = random(8, 4, 6, 6)
    done = correct_biases(model, lab.plan(model, x, dialect()), lab.bench(model, x, dialect()), lab.folder / "c.onnx")
    first, second = constant(done.model, "c:Conv_bias"), constant(done.model, "b")
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    "nodes",
    [
        "z = MatMul(x, k)",
        "z = Gemm<beta=0.5>(x, k, b)",
        "m = MatMul(x, k) n = Add(m, b) o = MatMul(n, k) z = Add(o, b)",
    ],
    ids=["no addition", "a scaled bias", "one constant for two additions"],
)
def test_a_model_with_nothing_to_correct_is_refused(nodes, graph, random, dialect, lab):
    model, x = graph(nodes, {"k": random(5, 5), "b": random(5)}, shape=(5,)), random(8, 5)
    with pytest.raises(CalibrationError, match="none with a constant bias per channel"):
        correct_biases(model, lab.plan(model, x, dialect()), lab.bench(model, x, dialect()), lab.folder / "c.onnx")


@pytest.mark.parametrize(
    "nodes",
    [
        "c = Conv(x, k, b) z = Relu(c)",
        "c = Conv(x, k, b) s = Add(c, x) z = Relu(s)",
        "c = Conv(x, k, b) z = Clip(c, n, m)",
    ],
    ids=["relu", "residual", "clip"],
)
def test_what_an_activation_cuts_does_not_count(nodes, graph, random, dialect, lab):
    """Most sums are far below zero; the error of the few that are seen must be gone, whatever that of the others."""
    limits = {"n": np.zeros((), np.float32), "m": np.array(30, np.float32)}
    weight = np.abs(random(4, 4, 1, 1, seed=3))
    model = graph(nodes, {"k": weight, "b": np.full(4, -8, np.float32), **limits})
    x, rules = np.abs(random(32, 4, 6, 6, seed=5)) ** 2, dialect()
    x[:, :, 2:] = 0.0  # so that many sums are -8
    plan = clipped(lab.plan(model, x, rules), "x")
    made, corrected = refine(model, plan, [BiasCorrection()], lab.bench(model, x, rules), lab.folder)
    true = lab.run(model, x)

    def lacks(given):
        return np.abs((true - given).sum(axis=(0, 2, 3)) / (given > 0).sum(axis=(0, 2, 3))).max()

    before = lacks(lab.run_quantized(model, plan, rules, x))
    after = lacks(lab.run_quantized(made, corrected, rules, x))
    assert after < 0.2 * before
