"""Integer weights alone, as ONNX Runtime's own operators: MatMulNBits for products, GatherBlockQuantized for tables.

Both are specified in the runtime's docs/ContribOperators.md. The runtime makes the same MatMulNBits of a
DequantizeLinear with blocks in front of a product; written out, the model keeps its opset, nothing has to be repacked
when it is loaded, and the level of accuracy stands in the file.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.backends.qdq.blocks import BlockedWeight, pack_nibbles, quantize_blocks, quantize_rows
from edgeport.backends.qdq.graph import PRECISION_KEY, GraphEdit
from edgeport.backends.qdq.weight_only import weight_only_uses
from edgeport.backends.qdq.weights import constant_array
from edgeport.contracts import QuantizationPlan, QuantizationRules, WeightQuantization
from edgeport.errors import PlanError

__all__ = ["ACCURACY_LEVEL", "PRODUCT", "TABLE", "write_nbits"]

PRODUCT, TABLE = "MatMulNBits", "GatherBlockQuantized"
DOMAIN = "com.microsoft"
_BITS = {"int8": 8, "uint8": 8, "int4": 4, "uint4": 4}
ACCURACY_LEVEL = 4
"""Activations become int8 while it runs, a scale per block. At level 1 they stay float32, but for 8 bits there is no
such kernel: the whole weight is brought back to float32 in every call."""

_SMALLEST_BLOCK, _LARGEST_BLOCK = 16, 128
"""Of a weight with one scale per channel, which repeats it; the operator wants powers of two, and has no fast kernel
for products above 256."""


def write_nbits(edit: GraphEdit, plan: QuantizationPlan, rules: QuantizationRules) -> None:
    """Rewrites every node that has integer weights alone; nodes that read a weight alike share its constants."""
    uses = weight_only_uses(edit, plan, rules)
    for name, readers in uses.items():
        value, spec = edit.values[name], plan.weights[name]
        shared: dict[str, list[ir.Value]] = {}
        for node, _ in readers:
            operator = TABLE if node.op_type == "Gather" else PRODUCT
            blocks = _blocks(value, spec, table=operator == TABLE)
            if operator not in shared:
                shared[operator] = _constants(edit, name, blocks, spec, operator)
            write = _write_table if operator == TABLE else _write_product
            write(edit, node, shared[operator], blocks, _BITS[spec.dtype])
        edit.drop_if_unused(value)
    if uses and edit.graph.opset_imports.get(DOMAIN) is None:
        edit.graph.opset_imports[DOMAIN] = 1


def _blocks(value: ir.Value, spec: WeightQuantization, *, table: bool) -> BlockedWeight:
    """The weight [K, N] as rows [N, K], a table [rows, values] as it is."""
    array = constant_array(value)
    if array.ndim != 2:
        raise PlanError(
            asked=f"store {value.name!r} alone as {spec.dtype}",
            found=f"a weight of shape {list(array.shape)}; ONNX Runtime's operators take two axes",
            fix="leave the nodes that read it in float, or run them in int8-dynamic",
        )
    if spec.block_size is not None:
        return quantize_blocks(array, spec)
    length = array.shape[1 - (spec.axis or 0)]
    whole = max(_SMALLEST_BLOCK, 1 << (length - 1).bit_length())
    return quantize_rows(array, spec, whole if table else min(whole, _LARGEST_BLOCK))


def _constants(
    edit: GraphEdit, name: str, blocks: BlockedWeight, spec: WeightQuantization, operator: str
) -> list[ir.Value]:
    """Integers (unsigned, packed), scales and, where they are not the middle, zero points."""
    bits = _BITS[spec.dtype]
    middle = 1 << (bits - 1)
    shift = middle if spec.symmetric else 0
    integers = blocks.integers.astype(np.int16) + shift
    if operator == PRODUCT:
        rows, length = integers.shape
        size = blocks.block_size
        padded = np.full((rows, -(-length // size) * size), middle, dtype=np.int16)
        padded[:, :length] = integers
        integers = padded.reshape(rows, -1, size)
    packed = pack_nibbles(integers) if bits == 4 else integers.astype(np.uint8)
    stem = f"{name}_table" if operator == TABLE else name
    constants = [edit.constant(f"{stem}_quantized", packed), edit.constant(f"{stem}_scale", blocks.scale)]
    if not spec.symmetric:
        zero_point = pack_nibbles(blocks.zero_point) if bits == 4 else blocks.zero_point.astype(np.uint8)
        constants.append(edit.constant(f"{stem}_zero_point", zero_point))
    return constants


def _write_product(edit: GraphEdit, node: ir.Node, constants: list[ir.Value], blocks: BlockedWeight, bits: int) -> None:
    """MatMul, or Gemm with its factors: alpha goes into the scales, beta before the sum."""
    name = str(node.name)
    alpha = node.attributes.get_float("alpha", 1.0)
    if alpha != 1.0:
        scale = edit.constant(f"{name}_scale", blocks.scale * np.float32(alpha))
        constants = [constants[0], scale, *constants[2:]]
    rows, length = blocks.integers.shape
    attributes = {"K": length, "N": rows, "bits": bits, "block_size": blocks.block_size}
    product = edit.node(
        PRODUCT,
        [node.inputs[0], *constants],
        name,
        like=node,
        attributes=[
            ir.AttrInt64(key, value) for key, value in (*attributes.items(), ("accuracy_level", ACCURACY_LEVEL))
        ],
        domain=DOMAIN,
    )
    new = [product]
    added = node.inputs[2] if len(node.inputs) > 2 else None
    beta = node.attributes.get_float("beta", 1.0)
    if added is not None and beta != 0.0:
        if beta != 1.0:
            factor = edit.constant(f"{name}_beta", np.asarray(beta, dtype=np.float32))
            new.append(edit.node("Mul", [added, factor], f"{name}_Beta", like=node))
            added = new[-1].outputs[0]
        new.append(edit.node("Add", [product.outputs[0], added], f"{name}_Bias", like=node))
    _replace(edit, node, product, new)


def _write_table(edit: GraphEdit, node: ir.Node, constants: list[ir.Value], blocks: BlockedWeight, bits: int) -> None:
    attributes = {"bits": bits, "block_size": blocks.block_size, "gather_axis": 0, "quantize_axis": 1}
    table = edit.node(
        TABLE,
        [constants[0], node.inputs[1], *constants[1:]],
        str(node.name),
        like=node,
        attributes=[ir.AttrInt64(key, value) for key, value in attributes.items()],
        domain=DOMAIN,
    )
    _replace(edit, node, table, [table])


def _replace(edit: GraphEdit, node: ir.Node, main: ir.Node, new: list[ir.Node]) -> None:
    """Puts `new` where `node` is: `main` takes over its name, the last one its output's name, type and place."""
    old, output = node.outputs[0], new[-1].outputs[0]
    output.type, output.shape = old.type, old.shape
    name, fresh = old.name, output.name
    if main is not new[-1]:
        main.outputs[0].type, main.outputs[0].shape = old.type, old.shape
    edit.graph.insert_after(node, new)
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    edit.graph.remove(node, safe=True)
    old.name, output.name = fresh, name
    main.name, node.name = node.name, main.name
    main.metadata_props[PRECISION_KEY] = node.metadata_props[PRECISION_KEY]
    edit.nodes[str(main.name)] = main
