"""Attention keys are turned by one Transpose instead of seven nodes.

torch.onnx writes `key.transpose(-2, -1)` for any rank: it merges the leading axes, swaps the last two, and splits
the leading axes again, with shapes that are computed while it runs. Runtimes see no attention in that, and
quantized transformers would carry the shape arithmetic along.
"""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["merge_key_transposes"]

_Size = int | tuple[str, int]
"""A number, or ("axis", i) for a free axis of the key."""


def merge_key_transposes(model: ir.Model) -> int:
    """Finds Reshape, Transpose(0, 2, 1), Reshape that together swap the last two axes.

    Args:
        model: Changed in place; shape arithmetic that is left over is for the caller to remove.

    Returns:
        How many were merged.

    """
    return sum(_merge(model.graph, node) for node in list(model.graph) if node.op_type == "Transpose")


def _merge(graph: ir.Graph, swap: ir.Node) -> bool:
    perm = swap.attributes.get("perm")
    first = swap.inputs[0].producer() if swap.inputs[0] is not None else None
    uses = swap.outputs[0].uses()
    if perm is None or list(perm.as_ints()) != [0, 2, 1] or first is None or first.op_type != "Reshape":
        return False
    if len(uses) != 1 or swap.outputs[0].is_graph_output():
        return False
    second, key = next(iter(uses)).node, first.inputs[0]
    if second.op_type != "Reshape" or second.inputs[0] is not swap.outputs[0] or key is None or key.shape is None:
        return False
    sizes = [_size(key, axis) for axis in range(len(key.shape))]
    merged, split = _sizes_of(first.inputs[1], key), _sizes_of(second.inputs[1], key)
    if len(sizes) < 3 or merged != [-1, *sizes[-2:]] or not _equal(split, [*sizes[:-2], sizes[-1], sizes[-2]]):
        return False
    axes = [*range(len(sizes) - 2), len(sizes) - 1, len(sizes) - 2]
    turned = ir.node("Transpose", [key], {"perm": axes}, metadata_props=dict(swap.metadata_props))
    graph.insert_before(second, turned)
    old, new = second.outputs[0], turned.outputs[0]
    new.name, new.type = old.name, key.type
    new.shape = ir.Shape([key.shape[axis] for axis in axes])
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    for node in (second, swap):
        graph.remove(node, safe=True)
    return True


def _equal(found: list[_Size] | None, wanted: list[_Size]) -> bool:
    """One size may be left to be found out (-1)."""
    return (
        found is not None
        and len(found) == len(wanted)
        and found.count(-1) <= 1
        and all(size in (-1, want) for size, want in zip(found, wanted, strict=True))
    )


def _size(key: ir.Value, axis: int) -> _Size:
    size = key.shape[axis] if key.shape is not None else None
    return size if isinstance(size, int) else ("axis", axis)


def _sizes_of(shape: ir.Value | None, key: ir.Value) -> list[_Size] | None:
    """The sizes that a shape operand will have, in terms of the key's; None where it can't be told."""
    if shape is not None and shape.const_value is not None:
        return [int(size) for size in shape.const_value.numpy().reshape(-1)]
    node = shape.producer() if shape is not None else None
    if node is not None and node.op_type == "Concat":
        parts = [_sizes_of(value, key) for value in node.inputs]
        return None if any(part is None for part in parts) else [size for part in parts for size in part or []]
    if node is not None and node.op_type == "Shape" and node.inputs[0] is key:
        start, end = (node.attributes.get(name) for name in ("start", "end"))
        whole: list[_Size] = [_size(key, axis) for axis in range(len(key.shape or ()))]
        return whole[start.as_int() if start else 0 : end.as_int() if end else None]
    if node is not None and node.op_type == "Slice" and len(node.inputs) == 3:
        sizes = _sizes_of(node.inputs[0], key)
        first, last = (_number(node.inputs[index]) for index in (1, 2))
        return sizes[first:last] if sizes is not None and first is not None and last is not None else None
    return None


def _number(value: ir.Value | None) -> int | None:
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    return int(value.const_value.numpy().reshape(-1)[0])
