"""A model with inner tensors among its outputs, in a temporary copy."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeport.calibration.graph import activations, infer_types
from edgeport.contracts import OnnxModel, OpenModel, RunModel
from edgeport.onnx_files import read_ir

__all__ = ["open_observed"]

_EXTERNAL_ABOVE_BYTES = 1536 << 20


@contextlib.contextmanager
def open_observed(model: OnnxModel, names: Sequence[str], open_model: OpenModel, folder: Path) -> Iterator[RunModel]:
    """The model with `names` among its outputs, opened by the handed runtime.

    Args:
        model: Its file is only read.
        names: Float tensors; those of inputs are known anyway, and are no outputs.
        open_model: Opens an ONNX file with some runtime.
        folder: For the temporary file.

    """
    ir_model = read_ir(model)
    infer_types(ir_model)
    wanted = set(names)
    for value in activations(ir_model.graph):
        # What is fed is known without asking the runtime to copy it.
        if value.name in wanted and not value.is_graph_output() and not value.is_graph_input():
            ir_model.graph.outputs.append(value)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own) / model.path.name  # as errors name it
        # Not by write_ir: that checks what it wrote, and a tensor whose rank nobody knows is no output to be shipped.
        ir.save(ir_model, path, external_data="observed.data" if _is_large(ir_model) else None)
        del ir_model
        with open_model(path) as run:
            yield run


def _is_large(ir_model: ir.Model) -> bool:
    """Too large for one protobuf file, which ends at 2 GiB."""
    weights = (value.const_value for value in ir_model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in weights if tensor is not None) > _EXTERNAL_ABOVE_BYTES
