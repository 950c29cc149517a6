"""Writes an ONNX file of the bytes that protobuf makes of it, without holding the weights once more.

protobuf makes a message of the whole graph, then its bytes, for which it also holds a buffer that it doubles: of a
model of 57 MB that takes 190 MB. Here a message is made of all but the large weights, and these go from their arrays
to the file. What was read from a file and not changed is in messages, not arrays, and is copied. The
wire format is that of https://protobuf.dev/programming-guides/encoding/; fields stand in the order of their numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import onnx
    import onnx_ir

    from edgeport.contracts import Array

__all__ = ["save_streamed"]

_LARGE_BYTES = 64 << 10
"""Of a tensor; smaller ones are no weight in a message."""

_MARK = "edgeport.streamed."
"""In the message, before the index of a tensor whose data is left out."""

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Numbers of the fields in ModelProto, GraphProto and TensorProto."""

_BY_LENGTH = 2
"""Wire type of bytes and messages."""


@dataclass(frozen=True, kw_only=True)
class _Framed:
    """A field of bytes: what stands before its content, and the content in parts."""

    head: bytes
    parts: tuple[bytes | Array | _Framed, ...]

    @classmethod
    def of(cls, number: int, parts: tuple[bytes | Array | _Framed, ...]) -> _Framed:
        head = _varint(number << 3 | _BY_LENGTH) + _varint(sum(map(_size, parts)))
        return cls(head=head, parts=parts)

    def chunks(self) -> Iterator[Any]:
        yield self.head
        for part in self.parts:
            if isinstance(part, _Framed):
                yield from part.chunks()
            else:
                yield part


def save_streamed(model: onnx_ir.Model, path: Path) -> None:
    """Writes the model as `onnx_ir.save` does without external data, to the same bytes.

    Args:
        model: It is as it was when this returns. Weights that lie in a file beside it stay there.
        path: Of the file.

    """
    import onnx_ir

    found = [(value, array) for value in model.graph.initializers.values() if (array := _raw(value)) is not None]
    held = [value.const_value for value, _ in found]
    try:
        for index, (value, _) in enumerate(found):
            value.const_value = _without_data(value, f"{_MARK}{index}")
        proto = onnx_ir.to_proto(model)
    finally:
        for (value, _), tensor in zip(found, held, strict=True):
            value.const_value = tensor
    large = {f"{_MARK}{index}": array for index, (_, array) in enumerate(found)}
    with path.open("wb") as file:
        for chunk in _of_model(proto, large):
            file.write(chunk)


def _raw(value: onnx_ir.Value) -> Array | None:
    """The bytes of a large tensor as protobuf has them, without a copy; None where it is small or they are others."""
    import onnx_ir

    tensor = value.const_value
    if type(tensor) is not onnx_ir.Tensor or tensor.nbytes < _LARGE_BYTES or sys.byteorder != "little":
        return None
    array = tensor.numpy()
    if not array.flags.c_contiguous or array.nbytes != tensor.nbytes:  # such as two integers of 4 bits in a byte
        return None
    return array.reshape(-1).view("uint8")


def _without_data(value: onnx_ir.Value, mark: str) -> onnx_ir.ExternalTensor:
    import onnx_ir

    tensor = cast("onnx_ir.TensorProtocol", value.const_value)
    return onnx_ir.ExternalTensor(
        mark,
        None,
        None,
        tensor.dtype,
        shape=onnx_ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _of_model(model: onnx.ModelProto, large: Mapping[str, Array]) -> Iterator[Any]:
    graph = model.graph
    tensors = tuple(_Framed.of(_INITIALIZER, _of_tensor(one, large)) for one in graph.initializer)
    before, after = _around(graph, _INITIALIZER)
    first, last = _around(model, _GRAPH)
    yield first
    yield from _Framed.of(_GRAPH, (before, *tensors, after)).chunks()
    yield last


def _of_tensor(tensor: onnx.TensorProto, large: Mapping[str, Array]) -> tuple[bytes | Array | _Framed, ...]:
    data = next((large[one.value] for one in tensor.external_data if one.value in large), None)
    if data is None:
        return (tensor.SerializeToString(),)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    before, after = _around(tensor, _RAW_DATA)
    return before, _Framed.of(_RAW_DATA, (data,)), after


def _around(message: Any, number: int) -> tuple[bytes, bytes]:
    """The bytes of the fields with smaller numbers, and of those with larger ones."""
    parts = type(message)(), type(message)()
    for field, value in message.ListFields():
        if field.number == number:
            continue
        part = parts[field.number > number]
        if hasattr(value, "extend"):
            getattr(part, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(part, field.name).CopyFrom(value)
        else:
            setattr(part, field.name, value)
    before, after = (part.SerializeToString() for part in parts)
    return before, after


def _size(part: bytes | Array | _Framed) -> int:
    if isinstance(part, _Framed):
        return len(part.head) + sum(map(_size, part.parts))
    return len(part)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
