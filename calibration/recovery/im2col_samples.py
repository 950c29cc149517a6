"""Columns of a layer's input: what each number of its output is a product of the weight with, at some random places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeport.calibration.graph import constant_of
from edgeport.calibration.recovery.layers import Layer
from edgeport.contracts import Array

__all__ = ["Im2ColSamples", "columns_of", "grouped", "has_columns", "ungrouped"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Im2ColSamples:
    """Inputs and outputs of a layer at some places.

    Attributes:
        inputs: float32 [G, K, N].
        outputs: float32 [G, M, N].

    """

    inputs: Floats
    outputs: Floats


def has_columns(layer: Layer) -> bool:
    """A two-dimensional Conv with pads that are written down, a plain Gemm, or a MatMul."""
    node, weight = layer.node, constant_of(layer.weight)
    if node.op_type == "Conv":
        padding = node.attributes.get_string("auto_pad", "NOTSET")
        return weight is not None and weight.ndim == 4 and padding in ("NOTSET", "VALID")
    if node.op_type == "Gemm":
        plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        return plain and node.attributes.get_int("transA", 0) == 0
    return node.op_type == "MatMul"


def columns_of(layer: Layer, inputs: Sequence[Array], outputs: Sequence[Array], count: int, seed: int) -> Im2ColSamples:
    """Up to `count` columns, drawn at random and in random order.

    Args:
        layer: One that `has_columns`.
        inputs: Of its node, an array per batch.
        outputs: Of its node, of the same batches.
        count: At most.
        seed: Of the places.

    """
    share = -(-count // len(inputs))
    random = np.random.default_rng(seed)
    take = _patches if layer.node.op_type == "Conv" else _rows
    parts = [take(layer, given, gives, share, random) for given, gives in zip(inputs, outputs, strict=True)]
    group = layer.node.attributes.get_int("group", 1) if layer.node.op_type == "Conv" else 1
    order = random.permutation(sum(len(given) for given, _ in parts))
    columns, results = (np.concatenate(arrays).astype(np.float32)[order] for arrays in zip(*parts, strict=True))
    return Im2ColSamples(
        inputs=np.ascontiguousarray(columns.reshape(len(columns), group, -1).transpose(1, 2, 0)),
        outputs=np.ascontiguousarray(results.reshape(len(results), group, -1).transpose(1, 2, 0)),
    )


def grouped(layer: Layer, weight: Array) -> Floats:
    """The weight as [G, M, K]."""
    node = layer.node
    if node.op_type == "Conv":
        group = node.attributes.get_int("group", 1)
        return np.asarray(weight.reshape(group, weight.shape[0] // group, -1), dtype=np.float32)
    as_rows = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
    rows: Floats = np.asarray((weight if as_rows else weight.T)[None], dtype=np.float32)
    return rows


def ungrouped(layer: Layer, weight: Floats, like: Array) -> Floats:
    """What `grouped` made it of."""
    if layer.node.op_type == "Conv":
        return weight.reshape(like.shape)
    as_rows = layer.node.op_type == "Gemm" and layer.node.attributes.get_int("transB", 0) == 1
    rows: Floats = weight[0]
    return rows if as_rows else rows.T


def _rows(layer: Layer, given: Array, gives: Array, count: int, random: np.random.Generator) -> tuple[Array, Array]:
    del layer
    inputs, outputs = given.reshape(-1, given.shape[-1]), gives.reshape(-1, gives.shape[-1])
    chosen = random.permutation(len(inputs))[:count]
    return inputs[chosen], outputs[chosen]


def _patches(layer: Layer, given: Array, gives: Array, count: int, random: np.random.Generator) -> tuple[Array, Array]:
    """The inputs [P, C, height, width] of the kernel at some places, and the outputs [P, M] there."""
    weight = constant_of(layer.weight)
    height, width = weight.shape[2:] if weight is not None else (1, 1)
    top, left, bottom, right = _ints(layer.node, "pads", (0, 0, 0, 0))
    down, across = _ints(layer.node, "strides", (1, 1))
    high, wide = _ints(layer.node, "dilations", (1, 1))
    padded = np.pad(given, ((0, 0), (0, 0), (top, bottom), (left, right)))
    places = random.permutation(len(gives) * gives.shape[2] * gives.shape[3])[:count]
    sample, row, column = np.unravel_index(places, (len(gives), *gives.shape[2:]))
    rows = (row * down)[:, None, None, None] + (np.arange(height) * high)[None, None, :, None]
    columns = (column * across)[:, None, None, None] + (np.arange(width) * wide)[None, None, None, :]
    channels = np.arange(padded.shape[1])[None, :, None, None]
    patches = padded[sample[:, None, None, None], channels, rows, columns]
    return patches.reshape(len(places), -1), gives[sample, :, row, column]


def _ints(node: ir.Node, name: str, default: Sequence[int]) -> Sequence[int]:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_ints()
