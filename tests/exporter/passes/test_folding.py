"""Folding keeps what the network computes, for any shape, grouping and norm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeport.exporter.passes.attention_transpose import merge_key_transposes
from edgeport.exporter.passes.batch_norm_folding import fold_batch_norms
from edgeport.exporter.passes.weight_transpose import fold_transposed_weights


def _model(nodes, weights, shape, outputs=("y",)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _run(proto, x):
    """On ONNX Runtime without its own folding (onnx's reference computes grouped ConvTranspose wrongly)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})


def _norm(rng, channels, prefix=""):
    return {
        f"{prefix}gamma": rng.normal(size=channels).astype(np.float32),
        f"{prefix}beta": rng.normal(size=channels).astype(np.float32),
        f"{prefix}mean": rng.normal(size=channels).astype(np.float32),
        f"{prefix}var": rng.uniform(0.1, 3, size=channels).astype(np.float32),
    }


NORM = helper.make_node("BatchNormalization", ["h", "gamma", "beta", "mean", "var"], ["y"], epsilon=1e-3, name="norm")


@dataclass(frozen=True, kw_only=True)
class Layer:
    operator: str
    groups: int
    inner: int
    outer: int
    bias: bool
    transposed: bool
    seed: int

    def build(self):
        rng = np.random.default_rng(self.seed)
        inputs, outputs = self.inner * self.groups, self.outer * self.groups
        if self.operator == "Gemm":
            weight = rng.normal(size=(outputs, inputs) if self.transposed else (inputs, outputs))
            settings_, x = {"transB": int(self.transposed), "beta": 0.5}, rng.normal(size=(2, inputs))
        elif self.operator == "Conv":
            weight = rng.normal(size=(outputs, self.inner, 3, 3))
            settings_, x = {"group": self.groups}, rng.normal(size=(2, inputs, 5, 5))
        else:
            weight = rng.normal(size=(inputs, self.outer, 3, 3))
            settings_, x = {"group": self.groups}, rng.normal(size=(2, inputs, 5, 5))
        weights = {"layer.weight": weight.astype(np.float32)} | _norm(rng, outputs)
        names = ["x", "layer.weight"]
        if self.bias:
            weights["layer.bias"] = rng.normal(size=outputs).astype(np.float32)
            names.append("layer.bias")
        layer = helper.make_node(self.operator, names, ["h"], name="layer", **settings_)
        return _model([layer, NORM], weights, x.shape), x.astype(np.float32)


layers = st.builds(
    Layer,
    operator=st.sampled_from(["Conv", "ConvTranspose", "Gemm"]),
    groups=st.integers(1, 3),
    inner=st.integers(1, 3),
    outer=st.integers(1, 3),
    bias=st.booleans(),
    transposed=st.booleans(),
    seed=st.integers(0, 99),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(layers)
def test_a_folded_norm_keeps_the_outputs(layer):
    proto, x = layer.build()
    model = ir.from_proto(proto)

    assert fold_batch_norms(model) == 1

    assert [node.name for node in model.graph] == ["layer"]
    assert set(model.graph.initializers) == {"layer.weight", "layer.bias"}
    expected, found = _run(proto, x)[0], _run(ir.to_proto(model), x)[0]
    assert np.max(np.abs(expected - found)) <= 1e-5 * max(1.0, np.max(np.abs(expected)))


def _conv(inputs="x", out="h", name="layer"):
    return helper.make_node("Conv", [inputs, "layer.weight"], [out], name=name, pads=[1, 1, 1, 1])


def _conv_weights(seed=0):
    rng = np.random.default_rng(seed)
    return {"layer.weight": rng.normal(size=(3, 3, 3, 3)).astype(np.float32)} | _norm(rng, 3)


X = np.random.default_rng(7).normal(size=(2, 3, 5, 5)).astype(np.float32)


def test_a_weight_with_two_norms_is_copied():
    second = helper.make_node("BatchNormalization", ["h2", "g2", "b2", "m2", "v2"], ["z"], name="norm2")
    rng = np.random.default_rng(3)
    more = dict(zip(["g2", "b2", "m2", "v2"], _norm(rng, 3).values(), strict=True))
    proto = _model(
        [_conv(), NORM, _conv("y", "h2", "again"), second], _conv_weights() | more, [2, 3, 5, 5], outputs=("z",)
    )
    model = ir.from_proto(proto)

    assert fold_batch_norms(model) == 2

    assert len(set(model.graph.initializers)) == 4
    np.testing.assert_allclose(_run(proto, X)[0], _run(ir.to_proto(model), X)[0], rtol=1e-4, atol=1e-4)


@dataclass(frozen=True, kw_only=True)
class Kept:
    id: str
    proto: onnx.ModelProto


def _training_norm():
    return helper.make_node(
        "BatchNormalization", ["h", "gamma", "beta", "mean", "var"], ["y", "m", "v"], training_mode=1
    )


KEPT = [
    Kept(
        id="its-convolution-feeds-something-else",
        proto=_model(
            [_conv(), NORM, helper.make_node("Relu", ["h"], ["z"])],
            _conv_weights(),
            [2, 3, 5, 5],
            outputs=("y", "z"),
        ),
    ),
    Kept(
        id="its-convolution-is-an-output",
        proto=_model([_conv(), NORM], _conv_weights(), [2, 3, 5, 5], outputs=("y", "h")),
    ),
    Kept(id="it-learns", proto=_model([_conv(), _training_norm()], _conv_weights(), [2, 3, 5, 5])),
    Kept(
        id="something-else-stands-before-it",
        proto=_model([helper.make_node("Relu", ["x"], ["h"]), NORM], _conv_weights(), [2, 3, 5, 5]),
    ),
    Kept(
        id="its-weight-is-computed",
        proto=_model(
            [
                helper.make_node("Exp", ["raw"], ["layer.weight"]),
                _conv(),
                NORM,
            ],
            {("raw" if name == "layer.weight" else name): array for name, array in _conv_weights().items()},
            [2, 3, 5, 5],
        ),
    ),
]


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.id)
def test_a_norm_stays_where(case):
    model = ir.from_proto(case.proto)

    assert fold_batch_norms(model) == 0

    assert [node.op_type for node in model.graph] == [node.op_type for node in case.proto.graph.node]


def test_a_norm_that_is_the_output_keeps_the_outputs_name_and_shape():
    model = ir.from_proto(_model([_conv(), NORM], _conv_weights(), [2, 3, 5, 5]))

    fold_batch_norms(model)

    assert [value.name for value in model.graph.outputs] == ["y"]


def test_a_transposed_weight_is_turned_once_and_keeps_its_name():
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["fc.weight"], ["t"], perm=[1, 0]),
        helper.make_node("Transpose", ["fc.weight"], ["t2"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["h"]),
        helper.make_node("MatMul", ["x", "t2"], ["h2"]),
        helper.make_node("Add", ["h", "h2"], ["y"]),
    ]
    proto = _model(nodes, {"fc.weight": weight}, [2, 3])
    model = ir.from_proto(proto)
    x = np.ones((2, 3), np.float32)

    assert fold_transposed_weights(model) == 2

    assert list(model.graph.initializers) == ["fc.weight.T"]
    np.testing.assert_array_equal(_run(proto, x)[0], _run(ir.to_proto(model), x)[0])


def _turning(axes):
    """key.transpose(-2, -1) as torch.onnx writes it; `axes` is the order in which the shape is put together."""
    slices = {"lead": (0, -2), "rows": (-2, -1), "columns": (-1, 2**63 - 1)}
    weights = {"minus": np.array([-1])}
    nodes = [helper.make_node("Shape", ["x"], ["shape"])]
    for name, (start, end) in slices.items():
        weights |= {f"{name}.start": np.array([start]), f"{name}.end": np.array([end])}
        nodes.append(helper.make_node("Slice", ["shape", f"{name}.start", f"{name}.end"], [name]))
    nodes += [
        helper.make_node("Concat", ["minus", "rows", "columns"], ["merged"], axis=0),
        helper.make_node("Reshape", ["x", "merged"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["turned"], perm=[0, 2, 1], name="turn"),
        helper.make_node("Concat", axes, ["split"], axis=0),
        helper.make_node("Reshape", ["turned", "split"], ["y"]),
    ]
    return _model(nodes, weights, ["batch", 2, 4, "length"])


def test_a_key_is_turned_by_one_node():
    proto = _turning(["lead", "columns", "rows"])
    model = ir.from_proto(proto)
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype(np.float32)

    assert merge_key_transposes(model) == 1
    RemoveUnusedNodesPass()(model)

    assert [node.op_type for node in model.graph if node.op_type in ("Reshape", "Transpose")] == ["Transpose"]
    np.testing.assert_array_equal(_run(proto, x)[0], _run(ir.to_proto(model), x)[0])


def test_another_reshape_behind_it_is_left_alone():
    model = ir.from_proto(_turning(["lead", "rows", "columns"]))

    assert merge_key_transposes(model) == 0
