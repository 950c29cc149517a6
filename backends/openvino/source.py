"""The model that OpenVINO was given, for whoever must tell what a kernel was made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from edgeport.backends.openvino.names import GENERATED, onnx_name

__all__ = ["SourceModel"]

_FLOATS = ("f64", "f32", "f16", "bf16")
_RETYPES = ("Convert", "Constant", "Parameter", "Result")
_SHIFTS = ("Subtract", "Multiply")
_MOVES = (
    *("Convert", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "VariadicSplit", "StridedSlice", "Slice"),
    *("Gather", "Concat", "Broadcast", "Tile"),
)


class SourceModel:
    """Looks its operations up by the names that the runtime's kernels give.

    Args:
        model: The `openvino.Model` that was read, before it was compiled.

    """

    def __init__(self, model: Any) -> None:
        self._operations: dict[str, list[Any]] = {}
        for operation in model.get_ordered_ops():
            self._operations.setdefault(str(operation.get_friendly_name()), []).append(operation)
        self._onnx = {onnx_name(name) for name in self._operations}

    def knows(self, name: str) -> bool:
        """It is the name of an ONNX node, or of a part of one."""
        return onnx_name(name) in self._onnx

    def onnx_nodes(self, names: Iterable[str]) -> tuple[str, ...]:
        """The ONNX nodes among them, once each; what OpenVINO made up, ahead or while it compiled, is left out."""
        found = dict.fromkeys(onnx_name(name) for name in names)
        return tuple(name for name in found if name in self._onnx and not name.startswith(GENERATED))

    def takes_integers(self, names: Iterable[str]) -> bool:
        """One of the operations reads numbers that were quantized: a FakeQuantize, then nothing but its reversal."""
        return any(
            _is_quantized(source.get_node())
            for operation in self._all(names)
            for source in operation.input_values()
            if str(source.get_element_type().get_type_name()) in _FLOATS
        )

    def computes_floats(self, names: Iterable[str]) -> bool:
        """One of the operations gives floats, and does more than to retype them."""
        return any(
            str(output.get_element_type().get_type_name()) in _FLOATS
            for operation in self._all(names)
            if operation.get_type_name() not in _RETYPES
            for output in operation.outputs()
        )

    def _all(self, names: Iterable[str]) -> Iterator[Any]:
        for name in names:
            yield from self._operations.get(name, ())


def _is_quantized(operation: Any) -> bool:
    """The way back from here leads over moves, shifts and scalings by a constant to a FakeQuantize."""
    while True:
        kind = operation.get_type_name()
        if kind == "FakeQuantize":
            return True
        scaled = kind in _SHIFTS and operation.input_value(1).get_node().get_type_name() in ("Constant", "Convert")
        if not (kind in _MOVES or scaled):
            return False
        operation = operation.input_value(0).get_node()
