"""Means over the pixels of an image become GlobalAveragePool.

torch.export writes `adaptive_avg_pool2d(x, 1)` and `x.mean((2, 3))` as ReduceMean over the axes 2 and 3. Both
compute the same (ONNX operator specification: GlobalAveragePool averages all axes from 2 on and keeps them as 1), but
only GlobalAveragePool has an integer kernel on every runtime; ONNX Runtime computes ReduceMean in float.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeport.exporter.passes.initializers import drop_unused

__all__ = ["pool_means"]

_RANK = 4
"""Of a batch of images, [N, C, H, W]."""

_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
"""What GlobalAveragePool takes in every opset; ReduceMean takes integers too."""


def pool_means(model: ir.Model) -> int:
    """Writes GlobalAveragePool for ReduceMean over the axes 2 and 3 of images, and a Flatten where these are dropped.

    The means that a norm takes of its input stay: they are wanted exactly, not in 8 bits.

    Args:
        model: Changed in place. The new nodes keep the metadata of the old one.

    Returns:
        How many were rewritten.

    """
    return sum(_pool(model.graph, node) for node in list(model.graph) if node.op_type == "ReduceMean")


def _pool(graph: ir.Graph, mean: ir.Node) -> bool:
    images = mean.inputs[0]
    if mean.domain not in ("", "ai.onnx") or images is None or images.dtype not in _TYPES:
        return False
    if images.shape is None or len(images.shape) != _RANK or _axes(mean) != {2, 3} or _is_of_a_norm(mean, images):
        return False
    old = mean.outputs[0]
    pool = ir.node("GlobalAveragePool", [images], metadata_props=dict(mean.metadata_props))
    new = pool.outputs[0]
    new.type, new.shape = images.type, ir.Shape([images.shape[0], images.shape[1], 1, 1])
    added = [pool]
    keepdims = mean.attributes.get("keepdims")
    if keepdims is not None and keepdims.as_int() == 0:
        added.append(ir.node("Flatten", [new], {"axis": 1}, metadata_props=dict(mean.metadata_props)))
        new = added[-1].outputs[0]
        new.type, new.shape = images.type, ir.Shape([images.shape[0], images.shape[1]])
    graph.insert_before(mean, added)
    name, axes = old.name, mean.inputs[1] if len(mean.inputs) > 1 else None
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(mean, safe=True)
    new.name = name
    if axes is not None:
        drop_unused(graph, axes)
    return True


def _axes(mean: ir.Node) -> set[int] | None:
    """Counted from the front; None where they are computed. An input since opset 18, an attribute before."""
    attribute = mean.attributes.get("axes")
    if attribute is not None:
        return {axis % _RANK for axis in attribute.as_ints()}
    value = mean.inputs[1] if len(mean.inputs) > 1 else None
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return {int(axis) % _RANK for axis in value.const_value.numpy().reshape(-1)}


def _is_of_a_norm(mean: ir.Node, images: ir.Value) -> bool:
    """The mean is subtracted from its own input, or is one of squares."""
    centres = any(
        node.op_type == "Sub" and any(value is images for value in node.inputs) for node in mean.outputs[0].consumers()
    )
    source = images.producer()
    squares = source is not None and (
        source.op_type == "Pow" or (source.op_type == "Mul" and source.inputs[0] is source.inputs[1])
    )
    return centres or squares
