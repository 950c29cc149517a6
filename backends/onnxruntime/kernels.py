"""What ONNX Runtime's CPU provider has kernels for here, found by asking it: sessions over a node or two."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeport.contracts import Array

__all__ = [
    "highest_opset",
    "missing_float8",
    "missing_int16",
    "missing_kernel",
    "missing_weights",
    "rounds_activations",
    "takes_integers",
]

_OPSET = 21
_TOO_NEW = 999
_IR_VERSION = 10
_SIZE = 32
_OWN = "com.microsoft"


@functools.cache
def highest_opset() -> int | None:
    """The newest opset of ONNX's own operators that the runtime takes; None where it does not tell.

    It names it where it refuses a newer one.
    """
    import onnxruntime as ort

    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(1,))
    node = ir.node("Identity", [x], name="probe")
    proto = _proto([node], [x], {}, ir.DataType.FLOAT, opset=_TOO_NEW)
    try:
        ort.InferenceSession(proto, _quiet(), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (the runtime's own classes; what it says is the answer)
        found = re.search(r"ai\.onnx is till opset (\d+)", str(error))
        return int(found[1]) if found else None
    return None


@functools.cache
def missing_kernel(dtype: str) -> str:
    """Why products in this type don't run as such here; "" where they do.

    The runtime refuses a MatMul of that type, or puts casts to float32 around it.

    Args:
        dtype: "float16" or "bfloat16".

    """
    import onnxruntime as ort

    kind = ir.DataType[dtype.upper()]
    operands = [ir.val(name, dtype=kind, shape=(4, 4)) for name in ("a", "b")]
    node = ir.node("MatMul", operands, name="probe")
    found = _optimised([node], operands, {}, kind, optimise=False)
    if found is None:
        return f"ONNX Runtime {ort.__version__} has no {dtype} MatMul on this CPU"
    if "Cast" in {node.op_type for node in found}:
        return f"ONNX Runtime {ort.__version__} casts {dtype} to float32 around every product on this CPU"
    return ""


@functools.cache
def missing_weights(bits: int) -> str:
    """Why products and tables with weights of 8 or 4 bits alone don't run here; "" where they do."""
    import onnxruntime as ort

    missing = [
        operator
        for operator, ran in (
            ("MatMulNBits", _run_product(bits, level=0)),
            ("GatherBlockQuantized", _run_table(bits)),
        )
        if ran is None
    ]
    if missing:
        return f"ONNX Runtime {ort.__version__} has no {' and no '.join(missing)} of {bits} bits on this CPU"
    return ""


@functools.cache
def rounds_activations(bits: int) -> bool:
    """Whether such a product turns its activations into int8 while it runs, where it is allowed to (level 4).

    The runtime does not tell; the results of both ways do.
    """
    allowed, exact = _run_product(bits, level=4), _run_product(bits, level=1)
    if allowed is None or exact is None:
        return False
    return bool(np.abs(allowed - exact).max() > 1e-4 * np.abs(exact).max())


@functools.cache
def missing_int16() -> str:
    """Why activations in 16 bits don't run as integers here; "" where one of the operators takes them as they are.

    The runtime keeps a Q/DQ pair of int16 or uint16 on each side of what it can't compute so.
    """
    import onnxruntime as ort

    if any(takes_integers(operator, dtype) for dtype in ("int16", "uint16") for operator in ("MatMul", "Conv", "Add")):
        return ""
    return (
        f"ONNX Runtime {ort.__version__} computes no MatMul, Conv or Add in int16 or uint16 on this CPU: its optimised "
        "graph keeps each in float between a DequantizeLinear and a QuantizeLinear, so int16 would only cost time"
    )


@functools.cache
def missing_float8() -> str:
    """Why floats of 8 bits are not offered here; asked as `missing_int16` asks."""
    import onnxruntime as ort

    if any(takes_integers(operator, "float8e4m3fn") for operator in ("MatMul", "Conv")):
        return "Edgeport writes no floats of 8 bits for ONNX Runtime"
    return (
        f"ONNX Runtime {ort.__version__} multiplies no floats of 8 bits on this CPU: its optimised graph keeps MatMul "
        "and Conv in float behind a DequantizeLinear, so fp8 would only cost time"
    )


def takes_integers(operator: str, dtype: str) -> bool:
    """Whether MatMul, Conv or Add between two Q/DQ pairs of this type reads the integers themselves, when optimised."""
    found = _between_pairs(operator, ir.DataType[dtype.upper()])
    return found is not None and any(
        value is not None and (source := value.producer()) is not None and source.op_type == "QuantizeLinear"
        for node in found
        if node.op_type != "DequantizeLinear"
        for value in node.inputs
    )


def _between_pairs(operator: str, dtype: ir.DataType) -> ir.Graph | None:
    """One operator with a pair before and behind it, its weight in int8."""
    shape = (1, 4, 8, 8) if operator == "Conv" else (4, _SIZE)
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=shape)
    constants = {"scale": np.asarray(0.01, dtype=np.float32), "zero": np.asarray(0, dtype=dtype.numpy())}
    weight = np.ones((4, 4, 1, 1) if operator == "Conv" else (_SIZE, _SIZE), dtype=np.int8)
    values = {name: _constant(name, array) for name, array in constants.items()}
    pair = [values["scale"], values["zero"]]
    nodes = [ir.node("QuantizeLinear", [x, *pair], name="q0")]
    nodes.append(ir.node("DequantizeLinear", [nodes[0].outputs[0], *pair], name="d0"))
    taken = nodes[-1].outputs[0]
    if operator == "Add":
        nodes.append(ir.node("Add", [taken, taken], name="probe"))
    else:
        values["weight"] = _constant("weight", weight)
        nodes.append(ir.node("DequantizeLinear", [values["weight"], values["scale"]], name="dw"))
        nodes.append(ir.node(operator, [taken, nodes[-1].outputs[0]], name="probe"))
    nodes.append(ir.node("QuantizeLinear", [nodes[-1].outputs[0], *pair], name="q1"))
    nodes.append(ir.node("DequantizeLinear", [nodes[-1].outputs[0], *pair], name="d1"))
    return _optimised(nodes, [x], values, ir.DataType.FLOAT)


def _run_product(bits: int, *, level: int) -> Array | None:
    """What a MatMulNBits gives for numbers drawn once; None where the runtime refuses it."""
    random = np.random.default_rng(0)
    packed = random.integers(0, 256, (_SIZE, 1, _SIZE * bits // 8), dtype=np.uint8)
    values = {
        "weight": _constant("weight", packed),
        "scale": _constant("scale", random.random((_SIZE, 1), dtype=np.float32)),
    }
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(4, _SIZE))
    attributes = {"K": _SIZE, "N": _SIZE, "bits": bits, "block_size": _SIZE, "accuracy_level": level}
    node = ir.node("MatMulNBits", [x, *values.values()], attributes, domain=_OWN, name="probe")
    return _run(node, x, values, random.standard_normal((4, _SIZE)).astype(np.float32))


def _run_table(bits: int) -> Array | None:
    """What a GatherBlockQuantized gives for one row; None where the runtime refuses it."""
    values = {
        "weight": _constant("weight", np.zeros((2, _SIZE * bits // 8), dtype=np.uint8)),
        "scale": _constant("scale", np.ones((2, 1), dtype=np.float32)),
    }
    rows = ir.val("x", dtype=ir.DataType.INT64, shape=(1,))
    attributes = {"bits": bits, "block_size": _SIZE, "gather_axis": 0, "quantize_axis": 1}
    node = ir.node("GatherBlockQuantized", [values["weight"], rows, values["scale"]], attributes, domain=_OWN)
    return _run(node, rows, values, np.array([1]))


def _run(node: ir.Node, x: ir.Value, constants: Mapping[str, ir.Value], fed: Array) -> Array | None:
    import onnxruntime as ort

    proto = _proto([node], [x], constants, ir.DataType.FLOAT)
    try:
        session = ort.InferenceSession(proto, _quiet(), providers=["CPUExecutionProvider"])
        found = session.run(None, {"x": fed})[0]
    except Exception:  # noqa: BLE001 (the runtime's own classes; that it refuses is the answer)
        return None
    return np.asarray(found)


def _optimised(
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    constants: Mapping[str, ir.Value],
    output: ir.DataType,
    *,
    optimise: bool = True,
) -> ir.Graph | None:
    """What the runtime makes of the nodes; None where it refuses them."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ran.onnx"
        options = _quiet()
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
        options.optimized_model_filepath = str(path)
        try:
            ort.InferenceSession(_proto(nodes, inputs, constants, output), options, providers=["CPUExecutionProvider"])
        except Exception:  # noqa: BLE001 (the runtime's own classes; that it refuses is the answer)
            return None
        return ir.load(path).graph


def _quiet() -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


def _proto(
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    constants: Mapping[str, ir.Value],
    output: ir.DataType,
    *,
    opset: int = _OPSET,
) -> bytes:
    for index, node in enumerate(nodes):
        node.outputs[0].name = node.outputs[0].name or f"v{index}"
    nodes[-1].outputs[0].name, nodes[-1].outputs[0].dtype = "y", output
    graph = ir.Graph(
        inputs,
        nodes[-1].outputs,
        nodes=nodes,
        initializers=list(constants.values()),
        opset_imports={"": opset, _OWN: 1},
        name="probe",
    )
    data: bytes = ir.to_proto(ir.Model(graph, ir_version=_IR_VERSION)).SerializeToString()
    return data


def _constant(name: str, array: Array) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
