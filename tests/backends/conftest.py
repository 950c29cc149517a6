"""A small network with what backends fuse, shared by the folders of the backends. Nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgeport.contracts import Calibration, OnnxModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A float model, its calibration, other inputs, what float32 gives for them, and its products with a weight."""

    model: OnnxModel
    calibration: Calibration
    feeds: dict[str, np.ndarray]
    scores: np.ndarray
    products: tuple[str, ...] = ()

    def example(self, count: int = 1) -> dict[str, np.ndarray]:
        return {"image": self.feeds["image"][:count]}


class Graph:
    """Nodes with seeded weights; each method returns the name of what it computes."""

    def __init__(self, seed: int = 3) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._rng = np.random.default_rng(seed)

    def node(self, operator: str, inputs: list[str], name: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{name}_out"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, array: np.ndarray) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        fan_in = max(int(np.prod(shape[1:])), 1)
        return self.constant(name, (self._rng.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32))

    def conv(self, x: str, name: str, channels: tuple[int, int], *, size: int = 3, group: int = 1) -> str:
        into, out = channels
        inputs = [x, self.weight(f"{name}.w", out, into // group, size, size), self.weight(f"{name}.b", out)]
        return self.node("Conv", inputs, name, kernel_shape=[size, size], pads=[size // 2] * 4, group=group)

    def save(self, path: Path, shape: list[Any], scores: list[Any]) -> Path:
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores)],
            self.weights,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(proto.SerializeToString())
        return path


def write_cnn(path: Path) -> Path:
    """Residual, depthwise, SiLU, pooling, concatenation and a product: image [batch, 3, 16, 16]."""
    g = Graph()
    stem = g.node("Relu", [g.conv("image", "stem", (3, 16))], "stem_relu")
    deep = g.node(
        "Clip",
        [
            g.conv(stem, "depthwise", (16, 16), group=16),
            g.constant("low", np.float32(0)),
            g.constant("high", np.float32(6)),
        ],
        "depthwise_relu6",
    )
    point = g.conv(deep, "pointwise", (16, 16), size=1)
    x = g.node("Relu", [g.node("Add", [point, stem], "residual")], "residual_relu")
    x = g.node("MaxPool", [x], "maxpool", kernel_shape=[2, 2], strides=[2, 2])
    left = g.node("Relu", [g.conv(x, "left", (16, 16), size=1)], "left_relu")
    right = g.conv(x, "right", (16, 16))
    right = g.node("Mul", [right, g.node("Sigmoid", [right], "gate")], "silu")
    x = g.node("Concat", [left, right], "concat", axis=1)
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x], "pool")], "flatten")
    g.node("Gemm", [x, g.weight("head.w", 10, 32), g.weight("head.b", 10)], "head", output="scores", transB=1)
    return g.save(path, ["batch", 3, 16, 16], ["batch", 10])


def write_perceptron(path: Path) -> Path:
    """MatMul, bias, Gelu, MatMul on a sequence: image [batch, 8, 64]."""
    g = Graph()
    x = g.node("Add", [g.node("MatMul", ["image", g.weight("up.w", 64, 128)], "up"), g.weight("up.b", 128)], "up_bias")
    x = g.node("MatMul", [g.node("Gelu", [x], "gelu"), g.weight("down.w", 128, 64)], "down")
    g.node("Add", [x, g.weight("down.b", 64)], "down_bias", output="scores")
    return g.save(path, ["batch", 8, 64], ["batch", 8, 64])


def write_attention(path: Path) -> Path:
    """A layer norm, one head of attention with a Softmax, a residual: image [batch, 8, 32]."""
    g = Graph()
    ones, zeros = g.constant("ones", np.ones(32, np.float32)), g.constant("zeros", np.zeros(32, np.float32))
    x = g.node("LayerNormalization", ["image", ones, zeros], "norm")
    query, key, value = (g.node("MatMul", [x, g.weight(f"{n}.w", 32, 32)], n) for n in ("query", "key", "value"))
    scores = g.node("MatMul", [query, g.node("Transpose", [key], "turn", perm=[0, 2, 1])], "similarity")
    scaled = g.node("Mul", [scores, g.constant("scale", np.float32(0.02))], "scaled")
    mixed = g.node("MatMul", [g.node("Softmax", [scaled], "softmax", axis=-1), value], "mixed")
    out = g.node("MatMul", [mixed, g.weight("out.w", 32, 32)], "out")
    g.node("Add", [out, "image"], "residual", output="scores")
    return g.save(path, ["batch", 8, 32], ["batch", 8, 32])


def make_network(path: Path) -> Network:
    """Calibrates the file on smooth noise."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.calibration.collect import collect
    from edgeport.calibration.data.arrays import ArraySamples
    from edgeport.onnx_files import open_onnx

    model = open_onnx(path)
    shape = [size for size in model.inputs[0].shape[1:] if isinstance(size, int)]
    noise = np.random.default_rng(5).standard_normal((20, *shape)).astype(np.float32)
    images = (noise + np.roll(noise, 1, axis=-1)) / 2
    feeds = {"image": images[16:]}
    scores = ReferenceEvaluator(onnx.load(path)).run(None, feeds)[0]
    calibration = collect(model, ArraySamples({"image": images[:16]}), open_reference)
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    products = tuple(
        node.name for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in weights
    )
    return Network(model=model, calibration=calibration, feeds=feeds, scores=scores, products=products)


@pytest.fixture(scope="session")
def cnn(tmp_path_factory) -> Network:
    return make_network(write_cnn(tmp_path_factory.mktemp("cnn") / "cnn.onnx"))


@pytest.fixture(scope="session")
def perceptron(tmp_path_factory) -> Network:
    return make_network(write_perceptron(tmp_path_factory.mktemp("perceptron") / "perceptron.onnx"))


@pytest.fixture(scope="session")
def attention(tmp_path_factory) -> Network:
    return make_network(write_attention(tmp_path_factory.mktemp("attention") / "attention.onnx"))


@pytest.fixture(scope="session")
def foreign_model(tmp_path_factory) -> OnnxModel:
    """A convolution and an operator that no runtime knows, which came from the module "neck.fold"."""
    import onnx
    from onnx import TensorProto, helper

    from edgeport.onnx_files import MODULE_KEY, open_onnx

    node = helper.make_node("Fold", ["image"], ["scores"], name="fold", domain="com.acme")
    node.metadata_props.append(onnx.StringStringEntryProto(key=MODULE_KEY, value="neck.fold"))
    graph = helper.make_graph(
        [node],
        "foreign",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.acme", 1)]
    path = tmp_path_factory.mktemp("foreign") / "foreign.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return open_onnx(path)


@pytest.fixture(scope="session")
def stored_weights() -> ModuleType:
    """The module stored_weights beside this file, with `make_stored(folder, ...)` and `sqnr_db(reference, other)`."""
    spec = importlib.util.spec_from_file_location("stored_weights", Path(__file__).with_name("stored_weights.py"))
    if spec is None or spec.loader is None:
        raise ImportError("stored_weights")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
