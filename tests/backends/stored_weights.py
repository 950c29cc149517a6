"""A small model with a table and two products, and what it gives when its weights are rounded, in plain numpy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import OnnxModel, QuantizationPlan
from edgeport.onnx_files import open_onnx

ROWS, TOKENS, CLASSES = 20, 6, 7
LIMITS = {"int8": (-127, 127), "int4": (-7, 7), "uint4": (0, 15)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """The model, its weights, and feeds; `y = alpha * mean(relu(table[i] @ w)) @ g.T + beta * b`."""

    model: OnnxModel
    weights: Mapping[str, np.ndarray]
    feeds: Mapping[str, np.ndarray]
    alpha: float
    beta: float

    def outputs(self, plan: QuantizationPlan) -> np.ndarray:
        """With the plan's weights rounded, everything else in double precision."""
        taken = {name: rounded(array, plan.weights.get(name)) for name, array in self.weights.items()}
        hidden = np.maximum(taken["table"][self.feeds["i"]] @ taken["w"], 0).mean(axis=1)
        return self.alpha * hidden @ taken["g"].T + self.beta * taken["b"]


def rounded(array: np.ndarray, spec) -> np.ndarray:
    """Each group of values, one after the other, to the nearest of its own integers."""
    if spec is None:
        return array.astype(np.float64)
    result = np.empty(array.shape)
    lines = array if spec.axis == 1 else array.T  # blocks lie along a line; channels count lines
    into = result if spec.axis == 1 else result.T
    if spec.block_size is None:  # a scale per index of the axis: the other axis is the group
        for index in range(lines.shape[1]):
            into[:, index] = _group(lines[:, index], spec.dtype)
        return result
    for row, target in zip(lines, into, strict=True):
        for start in range(0, len(row), spec.block_size):
            stop = min(start + spec.block_size, len(row))
            target[start:stop] = _group(row[start:stop], spec.dtype)
    return result


def _group(values: np.ndarray, dtype: str) -> np.ndarray:
    low, high = LIMITS[dtype]
    least, most = min(values.min(), 0.0), max(values.max(), 0.0)
    if low < 0:
        scale, zero = max(-least, most) / high, 0
    else:
        scale = (most - least) / (high - low)
        zero = round(low - least / scale)
    scale = float(np.float32(scale))
    return (np.clip([round(value) for value in (values / np.float32(scale)) + zero], low, high) - zero) * scale


def make_stored(folder: Path, *, summed: int = 64, hidden: int = 32, alpha: float = 1.0, beta: float = 1.0) -> Stored:
    """A model whose table has rows of `summed` values, and whose hidden layer has `hidden`."""
    random = np.random.default_rng(5)
    shapes = {"table": (ROWS, summed), "w": (summed, hidden), "g": (CLASSES, hidden), "b": (CLASSES,)}
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "i"], ["e"], name="embed"),
            helper.make_node("MatMul", ["e", "w"], ["a"], name="hidden"),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
            helper.make_node("ReduceMean", ["r", "axes"], ["p"], name="pool", keepdims=0),
            helper.make_node("Gemm", ["p", "g", "b"], ["y"], name="head", transB=1, alpha=alpha, beta=beta),
        ],
        "main",
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["batch", TOKENS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in (*weights.items(), ("axes", np.array([1])))],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "stored.onnx"
    path.write_bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())
    feeds = {"i": random.integers(-ROWS, ROWS, (5, TOKENS))}
    return Stored(model=open_onnx(path), weights=weights, feeds=feeds, alpha=alpha, beta=beta)


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    noise = max(float(np.square(reference - other).sum()), 1e-30)
    return float(10 * np.log10(np.square(reference).sum() / noise))
