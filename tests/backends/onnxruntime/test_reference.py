"""The reference that calibrations read: it opens what the runtime's own fusions would break."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.errors import BackendError

GELU = """
    <ir_version: 10, opset_import: ["" : 18]>
    net (float[N, 8] x) => (float[N, 8] y, int64[2] sizes)
    <float half = {0.5}, float three = {3.0}, float part = {0.044715}, float root = {0.7978846}, float one = {1.0}>
    {
        h = Mul(x, half)
        c = Pow(x, three)
        d = Mul(c, part)
        a = Add(x, d)
        b = Mul(a, root)
        t = Tanh(b)
        p = Add(t, one)
        g = Mul(h, p)
        y = Neg(g)
        sizes = Shape(h)
    }
"""


@pytest.fixture
def gelu(tmp_path):
    """A tanh GELU, one of whose inner tensors is read by a node that does not belong to it."""
    model = onnx.parser.parse_model(GELU)
    path = tmp_path / "gelu.onnx"
    onnx.save(model, path)
    return path


def test_tensor_that_a_fusion_takes_away_is_there(gelu):
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    with open_reference(gelu) as run:
        found = run({"x": x})
    assert found["sizes"].tolist() == [4, 8]
    wanted = 0.5 * x * (1 + np.tanh(0.7978846 * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(found["y"], -wanted, rtol=1e-5, atol=1e-6)


def test_what_no_level_opens_is_refused_in_the_words_of_the_first(gelu):
    model = onnx.load(gelu)
    model.graph.node[0].op_type = "Sqrt"
    onnx.save(model, gelu)
    with pytest.raises(BackendError, match="Sqrt"), open_reference(gelu):
        pass
