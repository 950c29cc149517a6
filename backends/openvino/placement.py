"""What OpenVINO really ran, read from the graph that it executes.

`CompiledModel.get_runtime_model` gives one operation per kernel; its rt_info holds `layerType`, `runtimePrecision`,
`primitiveType` and the names of what was fused into it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.backends.artifacts import check_artifact
from edgeport.backends.openvino.convert import INFO
from edgeport.backends.openvino.names import onnx_name
from edgeport.backends.openvino.session import OpenVinoSession, open_session
from edgeport.backends.openvino.source import SourceModel
from edgeport.contracts import Array, Arrays, Artifact, NodePlacement, Placement
from edgeport.errors import BackendError

__all__ = ["read_placement"]

GROUP_SIZE = "DYNAMIC_QUANTIZATION_GROUP_SIZE"

_FACTS = ("layerType", "runtimePrecision", "primitiveType", "originalLayersNames")

_MOVES = frozenset(
    (
        *("Input", "Output", "Parameter", "Result", "Const"),
        *("Constant", "Reorder", "Reshape", "Transpose", "Split"),
        *("Concatenation", "StridedSlice", "Convert", "Squeeze", "Unsqueeze"),
        *("Broadcast", "Tile", "Gather", "Pad", "ShapeOf"),
        *("DepthToSpace", "SpaceToDepth", "ShuffleChannels", "MemoryInput", "MemoryOutput"),
        *("ScatterUpdate",),
    )
)
"""Layer types that only move, copy or retype numbers."""

_FLOATS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_PRECISIONS = {"i8": "int8", "u8": "int8", **_FLOATS}
_STORED = {"i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4"}
_PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
_QDQ = ("_QuantizeLinear", "_DequantizeLinear")


def read_placement(artifact: Artifact) -> Placement:
    """Opens the artifact and reads the runtime's graph.

    Raises:
        BackendError: The folder changed after it was compiled, or the runtime refused it.

    """
    path = check_artifact(artifact)
    try:
        return Placement(nodes=_nodes(path, artifact.settings), source="runtime model")
    except RuntimeError as error:
        raise BackendError(
            asked=f"read what ran of {path.name} ({artifact.backend} {artifact.precision})",
            found=f"{type(error).__name__}: {error}",
            fix="compile it again; `edgeport doctor` tells which runtimes work here",
        ) from error


def _nodes(path: Path, settings: Mapping[str, object]) -> tuple[NodePlacement, ...]:
    session = open_session(str(path), settings)
    try:
        planned = _planned(session.model)
        source = SourceModel(session.model)
        devices = session.devices()
        layers = [_layer(operation) for operation in session.compiled.get_runtime_model().get_ordered_ops()]
        dynamic = any(_stored_in_product(layer) for layer in layers) and _quantizes_while_running(
            session, path, settings
        )
    finally:
        session.close()
    placed = [
        _placed({**layer, "index": str(index)}, source, settings, devices, dynamic=dynamic)
        for index, layer in enumerate(layers)
    ]
    kept = {name for node in placed if node.precision == "int8" or node.weights for name in node.origin}
    return tuple(_with_reason(node, planned - kept) for node in placed)


def _with_reason(node: NodePlacement, lost: Collection[str]) -> NodePlacement:
    """Says so where the kernel is float and holds nodes that were planned in integers and ran so nowhere."""
    if node.reason or node.precision in ("", "int8") or not any(name in lost for name in node.origin):
        return node
    reason = f"planned in integers; OpenVINO lists the kernel it is in ({node.operator}) as {node.precision}"
    return replace(node, reason=reason)


def _layer(operation: Any) -> dict[str, str]:
    """The facts of one kernel as strings; `weights` is "int8" where a constant of bytes goes into it."""
    sources = [_facts(value.get_node()) for value in operation.input_values()]
    constants = [
        _PRECISIONS.get(facts["runtimePrecision"].lower()) for facts in sources if facts["layerType"] == "Const"
    ]
    return {
        **_facts(operation),
        "weights": "int8" if "int8" in constants else "",
        "gives": str(operation.output(0).get_element_type().get_type_name()) if operation.get_output_size() else "",
        "name": str(operation.get_friendly_name()),
    }


def _facts(operation: Any) -> dict[str, str]:
    info = operation.get_rt_info()
    return {key: str(info[key].astype(str)) if key in info else "" for key in _FACTS}


def _placed(
    layer: Mapping[str, str],
    source: SourceModel,
    settings: Mapping[str, object],
    devices: Mapping[str, str],
    *,
    dynamic: bool,
) -> NodePlacement:
    names = [name.strip() for name in layer["originalLayersNames"].split(",")]
    origin = source.onnx_nodes(names)
    precision = _arithmetic(layer)
    stored = _stored_in_product(layer)
    reason = ""
    if precision == "int8" and layer["layerType"] not in _PRODUCTS and not source.takes_integers(names):
        # A kernel is listed by the type of its first input, and OpenVINO keeps booleans in bytes.
        precision = _FLOATS.get(str(settings.get("precision", "f32")), "") if source.computes_floats(names) else ""
    if not _computes(layer):
        precision = ""
    elif precision and precision != "int8" and _holds_integer_product(layer, source, names):
        precision = "int8"
        reason = "several products in one kernel; its own type is float, its products take integers"
    elif stored:
        reason = f"weights are stored as {stored}, " + (
            f"activations are quantized while it runs, in groups of {_group_size(settings)}"
            if dynamic
            else f"and multiplied in {precision}"
        )
        precision = "int8" if dynamic else precision
    name = layer["name"]
    return NodePlacement(
        # What OpenVINO made up carries a counter of the process; its place in the graph is the same every time.
        name=name if source.knows(name) else f"{layer['layerType']}_{layer['index']}",
        operator=layer["layerType"],
        device=next((devices[one] for one in names if one in devices), devices[""]),
        precision=precision,
        origin=origin,
        reason=reason,
        weights=stored or _stored_in_table(layer),
    )


def _holds_integer_product(layer: Mapping[str, str], source: SourceModel, names: Collection[str]) -> bool:
    """A fused kernel of products: int8 weights go into it, and what they are multiplied with was quantized too.

    It is listed by its first input, which is float. Where a product is not computed in integers, its weights are
    dequantized ahead, or its input never was quantized.
    """
    return layer["layerType"] == "Subgraph" and layer["weights"] == "int8" and source.takes_integers(names)


def _computes(layer: Mapping[str, str]) -> bool:
    """It is arithmetic of the model: no copy, and not just a quantization that found nothing to be fused into."""
    if layer["layerType"] in _MOVES or not _arithmetic(layer):
        return False
    return not all(onnx_name(name.strip()).endswith(_QDQ) for name in layer["originalLayersNames"].split(","))


def _arithmetic(layer: Mapping[str, str]) -> str:
    """What the kernel computes in.

    The primitive's name ends with it ("brgconv_avx512_I8"). `runtimePrecision` is the precision of the weights where
    they are packed, and of the inputs elsewhere, so it only counts where the name says nothing.
    """
    suffix = layer["primitiveType"].rpartition("_")[2].lower()
    return _PRECISIONS.get(suffix) or _PRECISIONS.get(layer["runtimePrecision"].lower(), "")


def _stored_in_product(layer: Mapping[str, str]) -> str:
    """Width of the packed weights ("int8", "int4") of a product whose kernel takes float activations; else ""."""
    if layer["layerType"] not in ("FullyConnected", "MatMul") or _arithmetic(layer) == "int8":
        return ""
    return _STORED.get(layer["runtimePrecision"].lower(), "")


def _stored_in_table(layer: Mapping[str, str]) -> str:
    """Width of a table's rows that become float when they are picked; else ""."""
    picks_floats = layer["layerType"] == "Gather" and layer["gives"] in _FLOATS
    return _STORED.get(layer["runtimePrecision"].lower(), "") if picks_floats else ""


def _quantizes_while_running(session: OpenVinoSession, path: Path, settings: Mapping[str, object]) -> bool:
    """Whether the activations of such products become integers, which the runtime model doesn't show.

    With groups of 0 the plugin never quantizes them. If the outputs on random inputs differ from that, it did.
    """
    if _group_size(settings) == "0":
        return False
    other = open_session(str(path), {**settings, "config": {**_config(settings), GROUP_SIZE: "0"}})
    try:
        feeds = _random_feeds(session)
        first, second = (_run(opened, feeds) for opened in (session, other))
    finally:
        other.close()
    return any(not np.array_equal(first[name], second[name], equal_nan=True) for name in first)


def _config(settings: Mapping[str, object]) -> dict[str, object]:
    config = settings.get("config")
    return dict(config) if isinstance(config, Mapping) else {}


def _group_size(settings: Mapping[str, object]) -> str:
    return str(_config(settings).get(GROUP_SIZE, "0"))


def _random_feeds(session: OpenVinoSession) -> dict[str, Array]:
    """Inputs of the compiled shapes (axes that are open there are 8 long): floats in -1..1, integers 0 or 1."""
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for name, port in zip(session.input_names, session.compiled.inputs, strict=True):
        shape = [8 if size.is_dynamic else size.get_length() for size in port.get_partial_shape()]
        dtype = np.dtype(port.get_element_type().to_dtype())
        values = rng.uniform(-1, 1, shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        feeds[name] = values.astype(dtype)
    return feeds


def _run(session: OpenVinoSession, feeds: Arrays) -> dict[str, Array]:
    call = session.bind(feeds)
    call.run()
    return call.outputs()


def _planned(model: Any) -> frozenset[str]:
    """Names of the ONNX nodes that the plan wanted in int8, as the IR holds them."""
    if not model.has_rt_info([INFO, "int8"]):
        return frozenset()
    return frozenset(json.loads(model.get_rt_info([INFO, "int8"]).astype(str)))
