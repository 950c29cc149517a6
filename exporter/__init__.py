"""PyTorch up to ONNX: load a trained module, export it, and verify that the file computes the same."""

from edgeport.exporter.options import Capture, ExportOptions, ExportResult, ModuleNodes

__all__ = ["Capture", "ExportOptions", "ExportResult", "ModuleNodes"]
