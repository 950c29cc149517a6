"""Weights that are rounded so that outputs stay."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from edgeport.backends.qdq.write import write_plan
from edgeport.calibration.recovery import BiasCorrection, Rounding
from edgeport.calibration.recovery.adaround import RoundedLayer, learn_rounding, nearest, reconstruction_error
from edgeport.calibration.recovery.im2col_samples import columns_of, grouped, ungrouped
from edgeport.calibration.recovery.layers import find_layers
from edgeport.calibration.recovery.refine import refine
from edgeport.calibration.recovery.rounding import round_weights
from edgeport.errors import CalibrationError
from edgeport.onnx_files import read_ir


def layer_of(weight, inputs, **options):
    """One group, steps of 1, no bias; what the float weight gives is what is wanted."""
    weight, inputs = weight.astype(np.float32)[None], inputs.astype(np.float32)[None]
    shape = weight.shape[:2]
    settings = {"step": np.ones(shape, np.float32), "bias": np.zeros(shape, np.float32), "limit": 7}
    return RoundedLayer(weight=weight, inputs=inputs, outputs=weight @ inputs, **{**settings, **options})


def best_of_all(layer):
    """Every rounding of one row tried, outputs computed here."""
    row, wanted = layer.weight[0, 0], layer.outputs[0, 0]
    found = [
        (float(np.square(np.add(np.floor(row), up) @ layer.inputs[0] - wanted).mean()), up)
        for up in itertools.product((0.0, 1.0), repeat=row.size)
    ]
    return min(found)[0]


def test_it_finds_nearly_the_best_of_all_roundings(random):
    """Against all 1024 of each of five rows whose inputs hang together."""
    ratios = []
    for seed in range(5):
        inputs = random(10, 400, seed=seed) + 2 * random(1, 400, seed=seed + 50)
        layer = layer_of(3 * random(1, 10, seed=seed + 90), inputs)
        learned = reconstruction_error(layer, learn_rounding(layer, steps=1000))
        assert learned <= reconstruction_error(layer, nearest(layer))
        ratios.append(learned / best_of_all(layer))
    assert np.median(ratios) < 1.5


def test_every_weight_goes_to_one_of_its_two_neighbours(random):
    layer = layer_of(3 * random(6, 20), random(20, 300) + 1)
    integers = learn_rounding(layer, steps=100)
    assert np.abs(integers - layer.weight).max() < 1.0
    assert np.abs(integers).max() <= 7
    np.testing.assert_array_equal(integers, learn_rounding(layer, steps=100))


def test_what_the_step_is_made_from_stays(random):
    weight = random(4, 8)
    weight[:, 0] = 6.9
    layer = layer_of(weight, random(8, 100))
    lower = replace(layer, outputs=layer.outputs - layer.inputs[:, :1])  # as if 5.9 were right
    assert (learn_rounding(lower, steps=200)[..., 0] == 7.0).all()


def test_what_a_relu_cuts_does_not_count(random):
    """Outputs that are far below zero may be wrong by anything: rounding to nearest has no error there either."""
    layer = layer_of(random(3, 6), random(6, 100), bias=np.full((1, 3), -100.0, np.float32), relu=True)
    layer = replace(layer, outputs=layer.outputs - 100)
    assert reconstruction_error(layer, nearest(layer)) == 0.0
    assert reconstruction_error(replace(layer, relu=False), nearest(layer)) > 0.0


CONVOLUTIONS = {
    "padded": ("z = Conv<pads=[1,0,2,1]>(x, k)", (4, 4, 3, 3)),
    "strided and dilated": ("z = Conv<strides=[2,1], dilations=[1,2]>(x, k)", (3, 4, 2, 2)),
    "grouped": ("z = Conv<group=2, pads=[1,1,1,1]>(x, k)", (6, 2, 3, 3)),
    "depthwise": ("z = Conv<group=4>(x, k)", (4, 1, 3, 3)),
}


@pytest.mark.parametrize(("nodes", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_columns_times_the_weight_are_the_outputs(nodes, shape, graph, random, lab):
    model, x = graph(nodes, {"k": random(*shape)}), random(3, 4, 6, 6)
    (layer,) = find_layers(read_ir(model).graph)
    columns = columns_of(layer, [x[:2], x[2:]], [lab.run(model, x[:2]), lab.run(model, x[2:])], 40, seed=0)
    weight = grouped(layer, random(*shape))
    assert 30 <= columns.outputs.shape[-1] <= 40  # the second batch may have fewer places
    np.testing.assert_allclose(weight @ columns.inputs, columns.outputs, atol=1e-4)
    np.testing.assert_array_equal(ungrouped(layer, weight, random(*shape)), random(*shape))


@pytest.mark.parametrize("nodes", ["z = MatMul(x, k)", "z = Gemm(x, k)", "z = Gemm<transB=1>(x, t)"])
def test_columns_of_products_are_their_rows(nodes, graph, random, lab):
    model, x = graph(nodes, {"k": random(6, 5), "t": random(5, 6)}, shape=(6,)), random(30, 6)
    (layer,) = find_layers(read_ir(model).graph)
    columns = columns_of(layer, [x], [lab.run(model, x)], 20, seed=0)
    array = layer.weight.const_value.numpy()
    np.testing.assert_allclose(grouped(layer, array) @ columns.inputs, columns.outputs, atol=1e-4)
    np.testing.assert_array_equal(ungrouped(layer, grouped(layer, array), array), array)


CHAIN = "c = Conv3(x, w, b) r = Relu(c) d = Conv3(r, v) s = Relu(d) z = Conv3(s, u)"


def test_it_helps_against_itself_switched_off(graph, random, dialect, lab):
    """One weight of each layer is far larger than all others, so that their error is most of what is lost."""
    weights = {name: random(4, 4, 3, 3, seed=seed) for seed, name in enumerate("wvu")}
    for weight in weights.values():
        weight[0, 0, 0, 0] = 25.0
    model = graph(CHAIN, {"b": random(4), **weights})
    rules, x = dialect(per_channel=False), random(64, 4, 6, 6) + 1
    plan, fresh = lab.plan(model, x, rules), random(64, 4, 6, 6, seed=8) + 1
    made, fitted = refine(model, plan, [Rounding(300)], lab.bench(model, x, rules), lab.folder)
    true = lab.run(model, fresh)
    before = np.square(lab.run_quantized(model, plan, rules, fresh) - true).mean()
    after = np.square(lab.run_quantized(made, fitted, rules, fresh) - true).mean()
    assert after < 0.85 * before
    assert fitted.recovered_by == ("rounding (2 of 3 layers, 300 steps, 64 samples)",)  # one gains nothing


def test_the_dialect_writes_the_learned_integers(graph, random, dialect, lab):
    """Rounding to nearest, which it does, finds them again, and with the same scales."""
    model, x, rules = graph(CHAIN, {"b": random(4)}), random(16, 4, 6, 6), dialect()
    plan = lab.plan(model, x, rules)
    made, fitted = refine(model, plan, [Rounding(100), BiasCorrection()], lab.bench(model, x, rules), lab.folder)
    before = stored(write_plan(model, plan, rules, lab.folder / "before.onnx"))
    after = stored(write_plan(made, fitted, rules, lab.folder / "after.onnx"))
    moved = 0
    for name, (integers, scale) in after.items():
        old, old_scale = before[name]
        np.testing.assert_allclose(scale, old_scale, rtol=1e-6)
        assert np.abs(integers.astype(int) - old.astype(int)).max() <= 1
        moved += int((integers != old).sum())
    assert moved > 0


def test_a_layer_is_rounded_behind_the_rounding_of_those_before(graph, random, dialect, lab, monkeypatch):
    """The second layer is learned on what the first one gives with its learned weight."""
    seen = []

    def spy(layer, inputs, outputs, count, seed):
        seen.append(inputs)
        return columns_of(layer, inputs, outputs, count, seed)

    monkeypatch.setattr("edgeport.calibration.recovery.rounding.columns_of", spy)
    first = random(4, 4, 3, 3, seed=3)
    first[0, 0, 0, 0] = 25.0
    model = graph("c = Conv3(x, w) z = Conv3(c, v)", {"w": first})
    x, rules = random(32, 4, 6, 6) + 1, dialect(per_channel=False)
    plan, bench = lab.plan(model, x, rules), lab.bench(model, x, rules)
    made, fitted = refine(model, plan, [Rounding(200)], bench, lab.folder)
    with bench.side_by_side(made, fitted) as (_, quantized):
        quantized.before("z:Conv")
        np.testing.assert_allclose(seen[1][0], quantized.inputs_of("z:Conv")[0], atol=1e-5)
    with bench.side_by_side(model, plan) as (_, unrounded):
        unrounded.before("z:Conv")
        assert np.abs(seen[1][0] - unrounded.inputs_of("z:Conv")[0]).max() > 1e-3


def stored(model):
    held = {name: value.const_value.numpy() for name, value in read_ir(model).graph.initializers.items()}
    return {name: (held[f"{name}_quantized"], held[f"{name}_scale"]) for name in "wvu"}


@pytest.mark.parametrize(
    "nodes",
    ["z = ConvTranspose(x, k)", 'z = Conv<auto_pad="SAME_UPPER">(x, k)', "c = Conv3(x, k) z = Conv3(c, k)"],
    ids=["transposed", "padded by itself", "a shared weight"],
)
def test_a_model_with_nothing_to_round_is_refused(nodes, graph, random, dialect, lab):
    model, x = graph(nodes, {"k": random(4, 4, 3, 3)}), random(8, 4, 6, 6)
    rules = dialect()
    rules = replace(rules, operators={**rules.operators, "ConvTranspose": rules.operators["Conv"]})
    bench = lab.bench(model, x, rules)
    with pytest.raises(CalibrationError, match="none that can be rounded"):
        round_weights(model, lab.plan(model, x, rules), bench, lab.folder / "rounded.onnx")
