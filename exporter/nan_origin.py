"""Which node first turns finite numbers into NaN or Inf."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeport.contracts import Arrays, OpenModel
from edgeport.onnx_files import node_module, read_ir, write_ir

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["DivergentNode", "first_divergent_node"]


@dataclass(frozen=True, kw_only=True)
class DivergentNode:
    """The culprit.

    Attributes:
        name: Of the node.
        operator: Its ONNX operator.
        module: Its PyTorch module, or empty.

    """

    name: str
    operator: str
    module: str

    def __str__(self) -> str:
        return f"{self.name} ({self.operator}{f' of module {self.module}' if self.module else ''})"


def first_divergent_node(model_path: Path, open_model: OpenModel, feeds: Arrays) -> DivergentNode | None:
    """Runs the model with every float tensor as an output, and walks it from the inputs.

    Args:
        model_path: The ONNX file.
        open_model: Opens an ONNX file in some runtime.
        feeds: One call's inputs, for which an output was not finite.

    Returns:
        The first node, in the order of the graph, that gives NaN or Inf; None where none does, which happens where
        a runtime fuses nodes and the fused one overflows.

    """
    import onnx_ir as ir

    model = read_ir(model_path)
    floats = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
    watched = {value.name for value in model.graph.outputs}
    for node in model.graph:
        for value in node.outputs:
            if value.name and value.name not in watched and value.dtype in floats:
                model.graph.outputs.append(value)
                watched.add(value.name)
    with tempfile.TemporaryDirectory() as folder:
        write_ir(model, path := Path(folder) / "watched.onnx")
        with open_model(path) as run:
            found = run(feeds)
    return next((_described(node) for node in model.graph if _diverges(node, found)), None)


def _diverges(node: ir.Node, found: Arrays) -> bool:
    arrays = [found[name] for value in node.outputs if (name := value.name) and name in found]
    return any(np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all() for array in arrays)


def _described(node: ir.Node) -> DivergentNode:
    return DivergentNode(name=node.name or "", operator=node.op_type, module=node_module(node))
