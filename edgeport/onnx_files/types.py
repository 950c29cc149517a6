"""The types that a file leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["infer_types"]


def infer_types(model: ir.Model) -> None:
    """Fills in the types that the file leaves out, by ONNX's own shape inference, in place."""
    if all(value.dtype is not None for node in model.graph for value in node.outputs if value.name):
        return
    from onnx_ir.passes.common import ShapeInferencePass

    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
