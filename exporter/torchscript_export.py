"""The TorchScript exporter: older, recording one run; used only where the user allows it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir
import torch

from edgeport.contracts import Arrays
from edgeport.exporter.input_binding import Binding
from edgeport.exporter.options import ExportOptions
from edgeport.onnx_files import MODULE_KEY

__all__ = ["export_legacy"]

_NEWEST_OPSET = 20
"""TorchScript's exporter stops here."""


def export_legacy(module: torch.nn.Module, binding: Binding, feeds: Arrays, options: ExportOptions) -> ir.Model:
    """Exports by tracing one run.

    Args:
        module: In evaluation mode.
        binding: Which feed goes where.
        feeds: An example.
        options: Opset and free axes.

    Raises:
        Exception: Whatever torch raises.

    """
    args, kwargs = binding.tensors(feeds)
    axes = {
        name: ({0: "batch"} if options.dynamic_batch and name not in options.state.values() else {})
        | dict(options.dynamic_axes.get(name, {}))
        for name in binding.feeds
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            args,
            str(path),
            kwargs=kwargs or None,
            dynamo=False,
            opset_version=min(options.opset, _NEWEST_OPSET),
            input_names=list(binding.feeds),
            dynamic_axes={name: named for name, named in axes.items() if named},
            verbose=False,
        )
        model = ir.load(path)
        for value in model.graph.initializers.values():
            if value.const_value is not None:  # The file is gone once the folder is.
                value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
    _name_scopes(model)
    return model


def _name_scopes(model: ir.Model) -> None:
    """Node names are "/layer1/layer1.0/conv1/Conv"; the module's path is the part before the last slash.

    TorchScript repeats the parents' names in front of each child's, or not ("/layer1/0/conv1"), so the longest
    part that holds the others as its prefix is taken.
    """
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        parts = [part for part in (node.name or "").split("/")[:-1] if part]
        path = ""
        for part in parts:
            path = part if not path or part.startswith(path + ".") else f"{path}.{part}"
        if path:
            node.metadata_props[MODULE_KEY] = path
