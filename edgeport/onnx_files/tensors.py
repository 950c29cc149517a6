"""Constants: their shapes must be possible, and their bytes must fit their shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.errors import ModelFormatError, ModelLimitError
from edgeport.onnx_files.walk import tensors

if TYPE_CHECKING:
    import onnx

__all__ = ["check_tensors", "element_count", "size_bytes"]

_LARGEST_BYTES = (1 << 63) - 1
"""Readers keep sizes in signed 64-bit integers."""

_TYPES_OF_BITS = {
    2: (25, 26),
    4: (21, 22, 23),
    6: (27, 28),
    8: (2, 3, 9, 17, 18, 19, 20, 24),
    16: (4, 5, 10, 16),
    32: (1, 6, 12),
    64: (7, 11, 13, 14),
    128: (15,),
}
"""`TensorProto.DataType` of those with elements of a fixed size (onnx.proto). Not read from onnx-ir, whose import takes
longer than the rest of a command and 50 MB, and which who only opens a file does not need."""

_BITS = {data_type: bits for bits, types in _TYPES_OF_BITS.items() for data_type in types}


def element_count(tensor: onnx.TensorProto, path: Path) -> int:
    """Product of the dimensions.

    Raises:
        ModelLimitError: One is negative, or the bytes would not fit a 64-bit size.

    """
    if any(size < 0 for size in tensor.dims):
        raise ModelLimitError(
            asked=f"open the ONNX model {path.name}",
            found=f"tensor {tensor.name!r} with negative sizes {list(tensor.dims)}",
            fix="export it again",
        )
    # Without the zeros too: [2**40, 2**40, 0] has no elements, yet overflows in a reader that multiplies in order.
    if math.prod(size for size in tensor.dims if size) > _LARGEST_BYTES // 16:
        raise ModelLimitError(
            asked=f"open the ONNX model {path.name}",
            found=f"tensor {tensor.name!r} of shape {list(tensor.dims)}, more bytes than a 64-bit size can say",
            fix="export it again",
        )
    return math.prod(tensor.dims)


def size_bytes(tensor: onnx.TensorProto, path: Path) -> int:
    """Bytes of the tensor's raw form; sub-byte elements are packed, the last byte padded."""
    bits = _BITS.get(tensor.data_type)
    if bits is None:  # not a type, or one without a fixed size
        raise ModelFormatError(
            asked=f"open the ONNX model {path.name}",
            found=f"tensor {tensor.name!r} of element type {tensor.data_type}, which has no raw form",
            fix="export it again",
        )
    return math.ceil(element_count(tensor, path) * bits / 8)


def check_tensors(model: onnx.ModelProto, path: Path) -> None:
    """Checks every constant that lies in the model file itself.

    Raises:
        ModelLimitError: An impossible shape.
        ModelFormatError: Bytes that don't fit the shape.

    """
    for tensor in tensors(model):
        count = element_count(tensor, path)
        if tensor.HasField("raw_data") and len(tensor.raw_data) != size_bytes(tensor, path):
            raise ModelFormatError(
                asked=f"open the ONNX model {path.name}",
                found=f"tensor {tensor.name!r} of shape {list(tensor.dims)} with {len(tensor.raw_data)} bytes, "
                f"where {size_bytes(tensor, path)} belong",
                fix="the file is damaged; export or copy it again",
            )
        typed = sum(
            len(field)
            for field in (
                tensor.float_data,
                tensor.int32_data,
                tensor.int64_data,
                tensor.string_data,
                tensor.double_data,
                tensor.uint64_data,
            )
        )
        # Complex numbers take two values, sub-byte ones share one: the exact count is the reader's business.
        if tensor.data_location == 0 and not tensor.HasField("raw_data") and (typed == 0) != (count == 0):
            raise ModelFormatError(
                asked=f"open the ONNX model {path.name}",
                found=f"tensor {tensor.name!r} of shape {list(tensor.dims)} with {typed} values",
                fix="the file is damaged; export or copy it again",
            )
