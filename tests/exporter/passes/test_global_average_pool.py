"""Means over the pixels become GlobalAveragePool, and everything computes as before."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import ModelSource, Outcome
from edgeport.exporter.passes.global_average_pool import pool_means
from edgeport.onnx_files import node_module, read_ir


def _proto(
    axes, *, keepdims=1, shape=("n", 3, 5, 4), before=(), after=(), source="x", dtype=TensorProto.FLOAT, opset=20
):
    """x, the nodes before, ReduceMean of `source` to y, the nodes after; outputs y and z where it is computed."""
    inputs, weights, attributes = [source], [], {"keepdims": keepdims}
    if axes is not None and opset >= 18:
        inputs.append("axes")
        weights.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
    elif axes is not None:
        attributes["axes"] = axes
    mean = helper.make_node("ReduceMean", inputs, ["y"], name="mean", **attributes)
    outputs = ["y", *(["z"] if after else [])]
    graph = helper.make_graph(
        [*before, mean, *after],
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(proto)


def _run(proto, x):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})


def _operators(model):
    return [node.op_type for node in model.graph]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    axes=st.sampled_from([[2, 3], [3, 2], [-1, -2], [2, -1]]),
    keepdims=st.booleans(),
    opset=st.sampled_from([17, 18, 20, 22]),
    shape=st.tuples(*[st.integers(1, 6)] * 4),
    follower=st.sampled_from([None, "Mul", "Relu"]),
    seed=st.integers(0, 99),
)
def test_a_pool_computes_what_the_mean_did(axes, keepdims, opset, shape, follower, seed):
    after = {
        None: [],
        "Relu": [helper.make_node("Relu", ["y"], ["z"])],
        "Mul": [helper.make_node("Mul", ["x", "y"], ["z"])],  # as squeeze and excitation does
    }[follower if keepdims else "Relu"]
    proto = _proto(axes, keepdims=int(keepdims), after=after, opset=opset, shape=("n", 3, "h", "w"))
    model = ir.from_proto(proto)
    x = np.random.default_rng(seed).normal(size=(shape[0], 3, *shape[2:])).astype(np.float32)

    assert pool_means(model) == 1

    assert _operators(model)[: 1 if keepdims else 2] == ["GlobalAveragePool", "Flatten"][: 1 if keepdims else 2]
    assert [value.name for value in model.graph.outputs] == [value.name for value in proto.graph.output]
    assert not model.graph.initializers
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    for expected, found in zip(_run(proto, x), _run(ir.to_proto(model), x), strict=True):
        assert expected.shape == found.shape
        np.testing.assert_allclose(expected, found, rtol=1e-5, atol=1e-5)


def test_metadata_and_known_sizes_are_kept():
    model = ir.from_proto(_proto([2, 3], keepdims=0))
    (mean,) = model.graph
    mean.metadata_props["edgeport.module"] = "head.pool"

    pool_means(model)

    assert [node_module(node) for node in model.graph] == ["head.pool", "head.pool"]
    pool, flat = (node.outputs[0] for node in model.graph)
    assert [str(size) for size in pool.shape] == ["n", "3", "1", "1"]
    assert [str(size) for size in flat.shape] == ["n", "3"]


def test_axes_that_another_node_needs_stay():
    after = [helper.make_node("ReduceMax", ["x", "axes"], ["z"])]
    model = ir.from_proto(_proto([2, 3], after=after))

    assert pool_means(model) == 1

    assert list(model.graph.initializers) == ["axes"]


@dataclass(frozen=True, kw_only=True)
class Kept:
    id: str
    proto: onnx.ModelProto


def _computed_axes():
    proto = _proto(None, before=[helper.make_node("Identity", ["which"], ["axes"])])
    proto.graph.node[1].input.append("axes")
    proto.graph.input.append(helper.make_tensor_value_info("which", TensorProto.INT64, [2]))
    return proto


KEPT = [
    Kept(id="channels", proto=_proto([1])),
    Kept(id="channels-last", proto=_proto([1, 2])),
    Kept(id="rows-only", proto=_proto([2])),
    Kept(id="everything", proto=_proto(None)),
    Kept(id="axes-that-are-computed", proto=_computed_axes()),
    Kept(id="three-axes", proto=_proto([1, 2], shape=("n", 5, 4))),
    Kept(id="video", proto=_proto([2, 3], shape=("n", 3, 2, 5, 4))),
    Kept(id="unknown-rank", proto=_proto([2, 3], shape=None)),
    Kept(id="integers", proto=_proto([2, 3], dtype=TensorProto.INT32)),
    Kept(id="a-norm's-mean", proto=_proto([2, 3], after=[helper.make_node("Sub", ["x", "y"], ["z"])])),
    Kept(
        id="a-norm's-variance",
        proto=_proto([2, 3], source="h", before=[helper.make_node("Mul", ["x", "x"], ["h"])]),
    ),
]


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.id)
def test_a_mean_stays_a_mean(case):
    model = ir.from_proto(case.proto)

    assert pool_means(model) == 0

    assert ir.to_proto(model).graph.node[-1].op_type == case.proto.graph.node[-1].op_type
    assert "ReduceMean" in _operators(model)


def test_both_ways_of_writing_it_are_pooled(export_and_verify, images, filled):
    torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

    class SqueezeAndExcite(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.gate, self.head = (
                torch.nn.AdaptiveAvgPool2d(1),
                torch.nn.Conv2d(3, 3, 1),
                torch.nn.Linear(3, 2),
            )

        def forward(self, x):
            x = x * torch.sigmoid(self.gate(self.pool(x)))
            return self.head(x.mean((2, 3)))

    result, checked = export_and_verify(filled(SqueezeAndExcite()), images)

    assert checked.outcome is Outcome.PASS
    assert [node.name for node in read_ir(result.model.path).graph] == [
        "pool/GlobalAveragePool",
        "gate/Conv",
        "Sigmoid",
        "Mul",
        "GlobalAveragePool",
        "Flatten",
        "head/Gemm",
    ]
    assert not [name for name in read_ir(result.model.path).graph.initializers if "Reduce" in name]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "pools"), [("efficientnet_b0", 17), ("mobilenet_v3_large", 9)])
def test_squeeze_and_excitation_of_real_networks_is_pooled(name, pools, export_and_verify):
    """One pool per block and the one before the head; every block of EfficientNet-B0 has one, 8 of MobileNetV3."""
    pytest.importorskip("torch", reason="the exporter needs the torch extra")
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    from edgeport.exporter.loaders.model_source import load_module

    module = load_module(ModelSource(location=f"torchvision:{name}"))
    x = np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)

    result, checked = export_and_verify(module, {"x": x})

    found = _operators(read_ir(result.model.path))
    assert (found.count("GlobalAveragePool"), found.count("ReduceMean")) == (pools, 0)
    assert checked.outcome is Outcome.PASS, checked.outputs
