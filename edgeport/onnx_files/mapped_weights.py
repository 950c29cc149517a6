"""Large weights in a file of our own, which every graph of one model maps, so that none holds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir

__all__ = ["lay_out_weights", "load_weights", "locate_weights", "weights_folder"]

WEIGHTS = "weights.data"
_LARGE_BYTES = 4096
"""Smaller constants stay in the graph, where type inference and a runtime's patterns look at them."""
_ALIGNED = 64
"""Bytes; a cache line, and what a runtime's own allocator gives."""


def lay_out_weights(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model with its large float32 initializers in a file in `folder`.

    Args:
        model: Complete in memory; it is changed, and of no use afterwards.
        folder: Without such a file.

    Returns:
        The model, without what the other one holds.

    """
    import onnx
    from google.protobuf.message import EncodeError

    with (folder / WEIGHTS).open("xb") as file:
        for tensor in model.graph.initializer:
            size = len(tensor.raw_data)
            if tensor.data_type != onnx.TensorProto.FLOAT or size < _LARGE_BYTES:
                continue
            file.write(b"\0" * (-file.tell() % _ALIGNED))
            for key, value in {"location": WEIGHTS, "offset": file.tell(), "length": size}.items():
                tensor.external_data.add(key=key, value=str(value))
            file.write(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    # protobuf keeps what a field held as long as there is the message.
    try:
        graph: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    except EncodeError:  # more than its 2 GiB is of other types, and stays in memory
        return model
    return graph


def locate_weights(model: onnx_ir.Model, folder: Path) -> None:
    """Tells a graph of what `lay_out_weights` returned where the file is."""
    for tensor in _mapped(model):
        tensor.base_dir = folder


def weights_folder(model: onnx_ir.Model) -> Path | None:
    """Where the weights are that a graph maps; None where it holds them all."""
    return next((Path(tensor.base_dir) for tensor in _mapped(model)), None)


def load_weights(model: onnx_ir.Model) -> None:
    """Brings what is mapped into memory, in place."""
    import onnx_ir

    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, onnx_ir.ExternalTensor):
            value.const_value = onnx_ir.Tensor(
                tensor.numpy(), name=tensor.name, doc_string=tensor.doc_string, metadata_props=tensor.metadata_props
            )


def _mapped(model: onnx_ir.Model) -> list[onnx_ir.ExternalTensor]:
    import onnx_ir

    found = (value.const_value for value in model.graph.initializers.values())
    return [tensor for tensor in found if isinstance(tensor, onnx_ir.ExternalTensor)]
