"""What an engine is made of: its own layers where a GPU can open it, else the network that it was built from.

A layer of the parsed network is no kernel: TensorRT fuses and chooses when it builds, and tells what it chose only
through the engine inspector, which needs the engine opened on its GPU.
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/engine-tools.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeport.backends.tensorrt.session import KEY_FILE
from edgeport.contracts import NodePlacement, Placement

__all__ = ["placement_of_engine", "placement_of_network"]

_MOVES = frozenset(
    ("CONSTANT", "QUANTIZE", "DEQUANTIZE", "SHUFFLE", "CAST", "IDENTITY", "SHAPE", "SLICE", "GATHER", "CONCATENATION")
)
_MOVING_KERNELS = frozenset(
    ("Reformat", "NoOp", "Constant", "Shuffle", "Slice", "Gather", "Concat", "Quantize", "Dequantize", "Cast", "signal")
)
_TYPES = (
    (re.compile(r"\bint8\b", re.IGNORECASE), "int8"),
    (re.compile(r"\bint4\b", re.IGNORECASE), "int4"),
    (re.compile(r"\bfp8\b|\be4m3", re.IGNORECASE), "fp8"),
    (re.compile(r"\bbf16\b|\bbfloat16\b", re.IGNORECASE), "bf16"),
    (re.compile(r"\bfp16\b|\bhalf\b", re.IGNORECASE), "fp16"),
    (re.compile(r"\bfp32\b|\bfloat\b", re.IGNORECASE), "fp32"),
)
_NARROW = ("int8", "fp8")
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def placement_of_network(folder: Path) -> Placement:
    """The layers that the engine in `folder` was built from; none has a precision, for nothing ran."""
    layers = json.loads((folder / KEY_FILE).read_bytes())["layers"]
    nodes = tuple(_planned(name, operator, takes) for name, operator, takes in layers)
    return Placement(nodes=nodes, source="parsed network: built, not run", ran=False)


def placement_of_engine(text: str) -> Placement:
    """The kernels of an opened engine.

    Args:
        text: `EngineInspector.get_engine_information(JSON)` of an engine that was built with detailed profiling.

    """
    layers = json.loads(text)["Layers"]
    return Placement(
        nodes=tuple(_kernel(layer if isinstance(layer, Mapping) else {"Name": layer}) for layer in layers),
        source="engine inspector",
    )


def _planned(name: str, operator: str, takes: str) -> NodePlacement:
    reason = ""
    if operator not in _MOVES:
        reason = f"not run here, so its kernel is unknown; the network hands it {takes}"
    return NodePlacement(name=name, operator=operator, device="GPU", precision="", origin=(name,), reason=reason)


def _kernel(layer: Mapping[str, Any]) -> NodePlacement:
    name, operator = str(layer.get("Name", "")), str(layer.get("LayerType", ""))
    precision, reason = _arithmetic(layer)
    if operator in _MOVING_KERNELS:
        precision, reason = "", ""
    return NodePlacement(
        name=name,
        operator=operator or "layer",
        device="GPU",
        precision=precision,
        origin=_origin(name, str(layer.get("Metadata", ""))),
        reason=reason,
        weights=_stored(layer) if precision not in ("", "int8") and _stored(layer).startswith("int") else "",
    )


def _arithmetic(layer: Mapping[str, Any]) -> tuple[str, str]:
    """What a kernel computes in, and why it is not what its inputs are.

    In 8 bits only where its inputs and, if it has any, its weights are: a kernel may well read int8 and multiply
    floats.
    """
    inputs = _types(layer.get("Inputs", ()))
    if not inputs:
        return "", "TensorRT does not tell what this layer takes"
    precision = inputs[0]
    stored = _stored(layer)
    if precision in _NARROW and stored not in ("", precision):
        return stored, f"it reads {precision}, but its weights are {stored}"
    return precision, ""


def _stored(layer: Mapping[str, Any]) -> str:
    """Type of the kernel's weights; "" where it has none."""
    weights = layer.get("Weights")
    return _type(str(weights.get("Type", ""))) if isinstance(weights, Mapping) else ""


def _types(tensors: Sequence[Mapping[str, Any]]) -> list[str]:
    found = (_type(str(tensor.get("Format/Datatype", ""))) for tensor in tensors)
    return [name for name in found if name]


def _type(text: str) -> str:
    """The type in "Thirty-two wide channel vectorized row major Int8 format"."""
    return next((name for pattern, name in _TYPES if pattern.search(text)), "")


def _origin(name: str, metadata: str) -> tuple[str, ...]:
    """ONNX nodes: those that the metadata names, else the parts of the layer's own name ("conv1 + relu1")."""
    named = _ONNX_LAYER.findall(metadata)
    return tuple(dict.fromkeys(named or name.split(" + ")))
