"""What goes in and comes out, as `TensorSpec`s."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts.tensors import DTYPES, TensorSpec
from edgeport.errors import ModelFormatError, ModelLimitError

if TYPE_CHECKING:
    import onnx

__all__ = ["default_opset", "read_specs"]


_DEFAULT = ("", "ai.onnx")


def default_opset(model: onnx.ModelProto, path: Path) -> int:
    """Version of the default operator domain; the newest one where the model has no operator of it."""
    import onnx

    versions = {entry.version for entry in model.opset_import if entry.domain in _DEFAULT}
    if not versions and model.opset_import and not any(node.domain in _DEFAULT for node in model.graph.node):
        return int(onnx.defs.onnx_opset_version())
    if len(versions) != 1:
        raise ModelFormatError(
            asked=f"open the ONNX model {path.name}",
            found=f"opset versions {sorted(versions)} of the default domain",
            fix="exactly one must be imported; export it again",
        )
    return int(versions.pop())


def read_specs(model: onnx.ModelProto, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs (without those that have a default value) and outputs.

    Raises:
        ModelFormatError: No outputs, no shape, or something else than a tensor.

    """
    defaults = {tensor.name for tensor in model.graph.initializer}
    defaults |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    entries = [value for value in model.graph.input if value.name not in defaults]
    taken = {dim.dim_param for value in (*entries, *model.graph.output) for dim in value.type.tensor_type.shape.dim}
    names = _unknown_names(taken)
    inputs = tuple(_spec(value, "input", names, path) for value in entries)
    outputs = tuple(_spec(value, "output", names, path) for value in model.graph.output)
    if not outputs:
        raise ModelFormatError(
            asked=f"open the ONNX model {path.name}", found="a graph without outputs", fix="export it again"
        )
    return inputs, outputs


def _unknown_names(taken: Iterable[str]) -> Iterable[str]:
    used = set(taken)
    number = 0
    while True:
        if f"unk_{number}" not in used:
            yield f"unk_{number}"
        number += 1


def _spec(value: onnx.ValueInfoProto, kind: str, unknown: Iterable[str], path: Path) -> TensorSpec:
    import onnx

    asked = f"open the ONNX model {path.name}"
    which = value.type.WhichOneof("value")
    if which != "tensor_type":
        raise ModelFormatError(
            asked=asked,
            found=f"{kind} {value.name!r} of type {which or 'unknown'}",
            fix="Edgeport takes and gives tensors; export it with plain tensors",
        )
    tensor = value.type.tensor_type
    try:
        dtype = str(onnx.TensorProto.DataType.Name(tensor.elem_type)).lower()
    except ValueError:
        dtype = str(tensor.elem_type)
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    if dtype not in DTYPES:
        raise ModelFormatError(
            asked=asked,
            found=f"{kind} {value.name!r} of element type {dtype}",
            fix=f"cast it inside the model to one of {', '.join(sorted(DTYPES))}",
        )
    if not tensor.HasField("shape"):
        raise ModelFormatError(
            asked=asked,
            found=f"{kind} {value.name!r} without a shape, so not even its number of axes is known",
            fix="run onnx.shape_inference.infer_shapes over the model and save it",
        )
    shape: list[int | str] = []
    for dim in tensor.shape.dim:
        if dim.HasField("dim_value"):
            if dim.dim_value < 0:
                raise ModelLimitError(
                    asked=asked,
                    found=f"{kind} {value.name!r} with size {dim.dim_value}",
                    fix="name a dynamic axis (dim_param) instead of giving it a negative size",
                )
            shape.append(int(dim.dim_value))
        else:
            shape.append(dim.dim_param or next(iter(unknown)))
    return TensorSpec(name=value.name, dtype=dtype, shape=tuple(shape))
