"""Reads, checks and writes ONNX files; all parts go through here, so a file is checked before it is used."""

from edgeport.onnx_files.constants import write_constants
from edgeport.onnx_files.domains import refuse_custom_operators
from edgeport.onnx_files.mapped_weights import load_weights
from edgeport.onnx_files.names import MODULE_KEY, node_module
from edgeport.onnx_files.node_inputs import values_read
from edgeport.onnx_files.quantized import integer_nodes, is_quantized, quantization_evidence, refuse_quantized
from edgeport.onnx_files.reading import open_onnx, read_ir, read_once
from edgeport.onnx_files.types import infer_types, values_not_tensors
from edgeport.onnx_files.writing import write_ir, write_scratch

__all__ = [
    "MODULE_KEY",
    "infer_types",
    "integer_nodes",
    "is_quantized",
    "load_weights",
    "node_module",
    "open_onnx",
    "quantization_evidence",
    "read_ir",
    "read_once",
    "refuse_custom_operators",
    "refuse_quantized",
    "values_not_tensors",
    "values_read",
    "write_constants",
    "write_ir",
    "write_scratch",
]
