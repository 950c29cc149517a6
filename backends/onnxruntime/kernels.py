"""Whether ONNX Runtime's CPU provider computes in a narrow float type here, found by asking it."""

from __future__ import annotations

import tempfile
from pathlib import Path

__all__ = ["missing_kernel"]

_OPSET = 20
_IR_VERSION = 10


def missing_kernel(dtype: str) -> str:
    """Why products in this type don't run as such here; "" where they do.

    A session over one MatMul tells: the runtime refuses it, or puts casts to float32 around it.

    Args:
        dtype: "float16" or "bfloat16".

    """
    import onnx_ir as ir
    import onnxruntime as ort

    kind = ir.DataType[dtype.upper()]
    operands = [ir.val(name, dtype=kind, shape=(4, 4)) for name in ("a", "b")]
    node = ir.node("MatMul", operands, name="probe")
    node.outputs[0].name = "y"
    node.outputs[0].dtype = kind
    graph = ir.Graph(operands, node.outputs, nodes=[node], opset_imports={"": _OPSET}, name="probe")
    model = ir.to_proto(ir.Model(graph, ir_version=_IR_VERSION)).SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ran.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.optimized_model_filepath = str(path)
        try:
            ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception:  # noqa: BLE001 (the runtime's own classes; that it refuses is the answer)
            return f"ONNX Runtime {ort.__version__} has no {dtype} MatMul on this CPU"
        operators = {node.op_type for node in ir.load(path).graph}
    if "Cast" in operators:
        return f"ONNX Runtime {ort.__version__} casts {dtype} to float32 around every product on this CPU"
    return ""
