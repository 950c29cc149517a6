"""A model run piece by piece gives what it gives as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.backends.qdq.write import write_plan
from edgeport.calibration.data import ArraySamples
from edgeport.calibration.recovery import context
from edgeport.calibration.recovery.context import batches_of
from edgeport.calibration.recovery.layerwise_runner import Stepper
from edgeport.errors import CalibrationError
from edgeport.onnx_files import read_ir

NODES = (
    "c = Conv3(x, w) i = Shape(c) r = Relu(c) d = Conv3(r, v) a = Add(d, r) o = Identity(i) "
    "p, q = Split<axis=1, num_outputs=2>(a) s = Concat<axis=1>(q, p) z = Reshape(s, o)"
)


def test_the_pieces_are_the_whole(graph, random, lab):
    model, x = graph(NODES), random(6, 4, 6, 6)
    stepper = Stepper(model, [{"x": x[:4]}, {"x": x[4:]}], lab.open_model)
    for name in ("c:Conv", "d:Conv", "p:Split", "z:Reshape"):
        stepper.until(name)
        stepper.until(name)
    assert [len(array) for array in stepper.outputs_of("z:Reshape")] == [4, 2]
    pieces = np.concatenate(stepper.outputs_of("z:Reshape"))
    np.testing.assert_allclose(pieces, lab.run(model, x), atol=1e-4)  # the runtime fuses Conv and Add in the whole


def test_what_is_changed_goes_on(graph, random, lab):
    model, x = graph("c = Conv3(x, w) r = Relu(c) z = Neg(r)"), random(2, 4, 6, 6)
    stepper = Stepper(model, [{"x": x}], lab.open_model)
    stepper.until("c:Conv")
    stepper.change("c:Conv", lambda array: np.abs(array) + 1)
    (changed,) = stepper.outputs_of("c:Conv")
    stepper.until("z:Neg")
    np.testing.assert_array_equal(stepper.outputs_of("z:Neg")[0], -changed)


def test_integers_of_a_weight_can_be_exchanged(graph, random, dialect, lab):
    model, x, rules = graph("c = Conv3(x, w) z = Conv3(c, v)"), random(2, 4, 6, 6), dialect()
    written = write_plan(model, lab.plan(model, x, rules), rules, lab.folder / "quantized.onnx")
    stepper = Stepper(written, [{"x": x}], lab.open_model)
    stored = stepper.weight_of("c:Conv")
    np.testing.assert_allclose(stored.integers * stored.scale_for(4), weight(model, "w"), atol=stored.scale.max())
    stepper.before(stored.node)
    stepper.set_weight(stored, np.zeros_like(stored.integers))
    stepper.until("z:Conv")
    np.testing.assert_allclose(stepper.outputs_of("z:Conv")[0], 0.0, atol=1e-6)


def test_a_weight_without_integers_is_refused(graph, random, lab):
    stepper = Stepper(graph("z = Conv3(x, w)"), [{"x": random(2, 4, 6, 6)}], lab.open_model)
    with pytest.raises(CalibrationError, match="not stored as symmetric integers"):
        stepper.weight_of("z:Conv")


def weight(model, name):
    return read_ir(model).graph.initializers[name].const_value.numpy()


def test_only_what_is_read_later_is_held(graph, random, lab):
    model = graph("a = Neg(x) b = Neg(a) c = Neg(b) d = Neg(c) z = Neg(d)")
    stepper = Stepper(model, [{"x": random(2, 4, 6, 6)}], lab.open_model)
    for name in "abcdz":
        stepper.until(f"{name}:Neg")
    assert stepper.most_bytes == 2 * 4 * 6 * 6 * 4


def test_branches_read_what_is_outside(model_text, random, lab):
    text = """(float[batch,4] x, bool k) => (float[batch,n] z) {
        a = Neg(x) b = Abs(x)
        y = If (k) <then_branch = t () => (float[batch,n] u) { u = Identity(a) },
                    else_branch = e () => (float[batch,n] w) { w = Identity(b) }>
        z = Neg(y) }"""
    x = random(2, 4)
    stepper = Stepper(model_text(text), [{"x": x, "k": np.ones((), bool)}], lab.open_model)
    for name in ("b:Abs", "z:Neg"):
        stepper.until(name)
    np.testing.assert_array_equal(stepper.outputs_of("z:Neg")[0], x)


def test_fewer_samples_are_taken_where_tensors_are_large(graph, random, lab, monkeypatch):
    """In the middle: what comes in and out is smaller."""
    model = graph("c = Conv3(x, k) r = Relu(c) z = Conv3(r, l)", {"k": random(16, 4, 3, 3), "l": random(4, 16, 3, 3)})
    samples = ArraySamples({"x": random(200, 4, 6, 6)}, batch_size=50)
    assert [len(feeds["x"]) for feeds in batches_of(model, samples, lab.open_model)] == [32] * 4
    monkeypatch.setattr(context, "HELD_BYTES", 2 * 32 * 16 * 6 * 6 * 4)
    assert [len(feeds["x"]) for feeds in batches_of(model, samples, lab.open_model)] == [32] * 2


def test_a_model_with_a_state_is_refused(model_text, random, lab):
    from dataclasses import replace

    model = replace(
        model_text("(float[b,4] x, float[b,4] h) => (float[b,4] y, float[b,4] g) { g = Add(x, h) y = Neg(g) }"),
        state={"g": "h"},
    )
    with pytest.raises(CalibrationError, match="a model with a state"):
        batches_of(model, ArraySamples({"x": random(4, 4)}), lab.open_model)
