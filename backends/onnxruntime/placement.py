"""What really ran: read from the graph that ONNX Runtime made of the model, node by node.

The runtime writes its optimised graph when a session is opened; that graph is what its executor walks.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir as ir

from edgeport.backends.artifacts import check_artifact
from edgeport.backends.onnxruntime.constants import BROKEN_FUSION, FAST_BF16, LEVELS
from edgeport.backends.onnxruntime.execution_options import CPU
from edgeport.backends.onnxruntime.kernels import rounds_activations
from edgeport.backends.onnxruntime.nbits import ACCURACY_LEVEL, PRODUCT, TABLE
from edgeport.backends.onnxruntime.node_mapping import MOVING, Origins
from edgeport.backends.onnxruntime.session import OPTIMISED, PROVIDERS, describe_session, parts_of
from edgeport.backends.session_errors import runtime_errors
from edgeport.contracts import Artifact, NodePlacement, Placement
from edgeport.errors import BackendError
from edgeport.isolation.memory import give_back_of

__all__ = ["node_precisions", "read_placement", "stored_weights", "told_placement"]

CONVERTING = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_OUTPUT_TYPES = {
    "DequantizeLinear": ir.DataType.FLOAT,
    "MatMulIntegerToFloat": ir.DataType.FLOAT,
    "DynamicQuantizeMatMul": ir.DataType.FLOAT,
    "DynamicQuantizeLSTM": ir.DataType.FLOAT,
    "MatMulNBits": ir.DataType.FLOAT,
    "GatherBlockQuantized": ir.DataType.FLOAT,
    "ConvInteger": ir.DataType.INT32,
    "MatMulInteger": ir.DataType.INT32,
    "Shape": ir.DataType.INT64,
    "Size": ir.DataType.INT64,
}
"""Operators whose output has one type, whatever goes in."""

_NAMES = {
    ir.DataType.FLOAT: "fp32",
    ir.DataType.DOUBLE: "fp64",
    ir.DataType.FLOAT16: "fp16",
    ir.DataType.BFLOAT16: "bf16",
    ir.DataType.INT8: "int8",
    ir.DataType.UINT8: "int8",
}
# QGemm has the output's scale and zero point last; without them its output is float.
_GEMM_OUTPUT_SCALE = 7
_Known = Callable[[ir.Value | None], ir.DataType | None]


def read_placement(artifact: Artifact) -> Placement:
    """Opens the artifact as its session does, and reads the optimised graph and who runs what; of stages, one by one.

    Raises:
        BackendError: The folder is not what was compiled, or the runtime refused it.

    """
    path = check_artifact(artifact)
    _require_graph(path)
    give_back_of(path)  # what it was written from
    with tempfile.TemporaryDirectory(prefix="edgeport-placement-") as folder:
        with runtime_errors(f"read back what ONNX Runtime makes of {path.name}"):
            describe_session(path, artifact.settings, folder)
        return _read(path, artifact, Path(folder))


def told_placement(artifact: Artifact, told: Path) -> Placement:
    """The placement in what `describe_session` wrote on a device.

    Raises:
        BackendError: The folder is not what was compiled, or it wrote something else.

    """
    path = check_artifact(artifact)
    _require_graph(path)
    # What came from a device may be anything.
    with runtime_errors(
        f"read what ONNX Runtime made of {path.name}", "run it again; the files are not what a session writes"
    ):
        return _read(path, artifact, told)


def _read(path: Path, artifact: Artifact, told: Path) -> Placement:
    parts = parts_of(artifact.settings)
    read = [
        _told(path.with_name(str(one.get("entry", path.name))), one, told / str(index))
        for index, one in enumerate(parts)
    ]
    return Placement(nodes=tuple(node for one in read for node in one.nodes), source=read[0].source)


def _require_graph(path: Path) -> None:
    if path.suffix == ".ort":
        raise BackendError(
            asked=f"read back what ONNX Runtime makes of {path.name}",
            found="a graph in the runtime's own format, which was optimised before",
            fix="see placement.json beside the artifact, which was read when it was written",
        )


def _told(path: Path, settings: Mapping[str, object], told: Path) -> Placement:
    providers = json.loads((told / PROVIDERS).read_text(encoding="utf-8"))
    if not (told / OPTIMISED).exists():
        return _assigned(path, providers)
    graph = ir.load(told / OPTIMISED).graph
    nodes = _place(graph, Origins(ir.load(path).graph, graph), providers, _is_fast(settings))
    return Placement(nodes=nodes, source=f"optimised graph of ONNX Runtime{_left_out(settings)}")


def _left_out(settings: Mapping[str, object]) -> str:
    """What the artifact is opened without, because the runtime breaks the graph with it; empty for most."""
    level, skip = settings.get("optimization", LEVELS[0]), settings.get("skip")
    if level != LEVELS[0]:
        return f", at its level {level}: it does not open the graph at a higher one"
    if isinstance(skip, list) and BROKEN_FUSION in skip:
        return f", without {BROKEN_FUSION}: it does not open the graph with it"
    return ""


def _assigned(path: Path, providers: Mapping[str, str]) -> Placement:
    """Who runs which of the file's nodes, where a provider compiles them into something of its own."""
    graph = ir.load(path).graph
    precisions = node_precisions(graph)
    placed = []
    for node in graph:
        name = node.name or ""
        device = providers.get(name)
        if device is None:  # folded into a constant, or taken away
            continue
        own = device == CPU
        placed.append(
            NodePlacement(
                name=name,
                operator=node.op_type,
                device=device,
                precision=precisions[node] if own else "",
                origin=(name,),
                reason="" if own else f"{device} compiled it, and does not tell what it computes in",
            )
        )
    return Placement(nodes=tuple(placed), source="assignment by ONNX Runtime")


def _place(graph: ir.Graph, origins: Origins, providers: Mapping[str, str], fast: bool) -> tuple[NodePlacement, ...]:
    precisions = node_precisions(graph)
    default = next(iter(providers.values()), "CPUExecutionProvider")
    placed = []
    for node in graph:
        origin = origins.of(node)
        precision, weights = precisions[node], stored_weights(node)
        placed.append(
            NodePlacement(
                name=node.name or "",
                operator=node.op_type,
                device=next((providers[name] for name in origin if name in providers), default),
                precision=precision,
                origin=origin,
                reason=_reason(node, precision, origins.planned_int8(node), fast),
                weights=weights,
            )
        )
    return tuple(placed)


def _reason(node: ir.Node, precision: str, planned_int8: bool, fast: bool) -> str:
    if node.op_type in CONVERTING:
        return "converts between float and integers; computes nothing"
    if node.op_type == TABLE:
        return "brings the rows that it picks back to float"
    if node.op_type.startswith(PRODUCT):
        return f"weights of {stored_weights(node)}; activations " + (
            "become int8 while it runs, in blocks" if _rounds(node) else "stay float"
        )
    if planned_int8 and precision not in ("", "int8"):
        return "planned int8; ONNX Runtime found no integer kernel for this pattern and computes it in float"
    if fast and precision == "fp32" and node.op_type in ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv"):
        return "bfloat16 products were asked for; ONNX Runtime does not tell where it uses them"
    return ""


def stored_weights(node: ir.Node) -> str:
    """What a node of the runtime's own that takes integer weights alone keeps them in: "int8" or "int4"; else ""."""
    if not node.op_type.startswith((PRODUCT, TABLE)):
        return ""
    return f"int{node.attributes.get_int('bits', 4)}"


def node_precisions(graph: ir.Graph) -> dict[ir.Node, str]:
    """The precision that each node of an optimised graph computes in; "" for those that compute nothing.

    The runtime's file names few types, so they are followed from the inputs through the graph.
    """
    types: dict[ir.Value, ir.DataType | None] = {}

    def known(value: ir.Value | None) -> ir.DataType | None:
        if value is None:
            return None
        return types.get(value) or value.dtype or (value.const_value.dtype if value.const_value is not None else None)

    precisions = {}
    for node in graph:
        first = known(node.inputs[0]) if node.inputs else None
        output = _output_type(node, first, known)
        types.update((value, value.dtype or output) for value in node.outputs)
        precisions[node] = _precision(node, first or output)
    return precisions


def _output_type(node: ir.Node, first: ir.DataType | None, known: _Known) -> ir.DataType | None:
    """Of the node's first output, as far as precision needs it."""
    fixed = _OUTPUT_TYPES.get(node.op_type)
    if fixed is not None:
        return fixed
    if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):
        return (known(node.inputs[2]) if len(node.inputs) > 2 else None) or ir.DataType.UINT8
    if node.op_type == "QGemm" and not any(node.inputs[_GEMM_OUTPUT_SCALE:]):
        return ir.DataType.FLOAT
    if node.op_type == "QLinearConcat":  # starts with the output's scale and zero point
        return known(node.inputs[1])
    if node.op_type == "Cast":
        return ir.DataType(node.attributes.get_int("to", ir.DataType.FLOAT.value))
    return first


def _precision(node: ir.Node, dtype: ir.DataType | None) -> str:
    if node.op_type in CONVERTING or node.op_type in MOVING or node.op_type == TABLE:
        return ""
    if node.op_type.startswith(PRODUCT):
        return "int8" if _rounds(node) else "fp32"
    if node.op_type.startswith(("QLinear", "QGemm", "QAttention")) or "Integer" in node.op_type:
        return "int8"
    if node.op_type.startswith("DynamicQuantize"):
        return "int8"
    # Arithmetic on shapes is not the model's arithmetic.
    return _NAMES.get(dtype, "") if dtype is not None else "fp32"


def _rounds(node: ir.Node) -> bool:
    """Whether it multiplies integers, which the runtime does where the file allows it and the CPU has a kernel."""
    allowed = node.attributes.get_int("accuracy_level", 0) == ACCURACY_LEVEL
    return allowed and rounds_activations(node.attributes.get_int("bits", 4))


def _is_fast(settings: Mapping[str, object]) -> bool:
    config = settings.get("config")
    return isinstance(config, Mapping) and config.get(FAST_BF16) == "1"
