"""The architectures of `benchmarks.architectures` as files: exported once, with weights that make outputs vary."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx

from benchmarks.architecture_names import ARCHITECTURES, Architecture
from benchmarks.harness import kept
from benchmarks.robustness.node_tests import Case
from edgeport.contracts import Array, Limits, ModelSource, to_jsonable
from edgeport.errors import EdgeportError
from edgeport.exporter.options import ExportOptions
from edgeport.isolation import run_isolated

_SAMPLES = 8
_PATCHES = 4
_SHOWN = 12
_LAYERS = ("Conv", "Gemm", "MatMul", "Add")
_LIMITS = Limits(time_s=600.0, memory_bytes=8 << 30)


def networks(folder: Path, *, every: int = 1) -> tuple[list[Case], dict[str, str]]:
    """Files with what they are fed, and why an architecture has none, by its name.

    Args:
        folder: Keeps them.
        every: Only one of so many.

    """
    cases, failed = [], {}
    for architecture in ARCHITECTURES[::every]:
        place = folder / architecture.name
        error = kept(place / "exported.json", dict, partial(_export, architecture, place))["error"]
        if error:
            failed[architecture.name] = error
        else:
            model, feeds = place / "model.onnx", place / "feeds.npz"
            cases.append(Case(name=architecture.name, model=model, feeds=feeds, part="architectures"))
    return cases, failed


def show_layers(path: Path) -> None:
    """Makes outputs of some layers on the way, so that it shows where noise comes from."""
    model = onnx.load(path)
    shapes = onnx.shape_inference.infer_shapes(model).graph.value_info
    layers = {name for node in model.graph.node if node.op_type in _LAYERS for name in node.output}
    shown = [value for value in shapes if value.name in layers]
    order = {name: index for index, node in enumerate(model.graph.node) for name in node.output}
    shown.sort(key=lambda value: order[value.name])
    last = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([*shown[:: max(1, len(shown) // _SHOWN)], *last])
    onnx.save(model, path)


def smooth_images(count: int, channels: int, height: int, width: int) -> Array:
    """Random pictures, float32 [N, C, H, W]: patches of colour and some grain, of a variance near 1.

    Noise alone looks the same to a network that averages over the picture.
    """
    random = np.random.default_rng(0)
    coarse = random.standard_normal((count, channels, _PATCHES + 1, _PATCHES + 1))
    rows, columns = (np.linspace(0, _PATCHES, size, endpoint=False) for size in (height, width))
    images = _between(_between(coarse, rows, 2), columns, 3)
    return (1.4 * images + 0.3 * random.standard_normal(images.shape)).astype(np.float32)


def _between(array: Array, where: Array, axis: int) -> Array:
    """Linear interpolation at these places along an axis."""
    low = where.astype(np.int64)
    part = (where - low).reshape([-1 if index == axis else 1 for index in range(array.ndim)])
    mixed: Array = np.take(array, low, axis) * (1 - part) + np.take(array, low + 1, axis) * part
    return mixed


def _export(architecture: Architecture, place: Path) -> dict[str, str]:
    """Why it has no file; empty where it has."""
    print(f"exporting {architecture.name}", flush=True)
    place.mkdir(parents=True, exist_ok=True)
    shape = [int(size) for size in architecture.inputs.partition("=")[2].split(",")[1:]]
    images = smooth_images(_SAMPLES, *shape)
    np.savez(place / "feeds.npz", x=images)
    np.savez(place / "example.npz", x=images[:2])
    source = ModelSource(
        location="benchmarks.robustness.scaled:create",
        arguments={
            "source": architecture.source, "arguments": dict(architecture.arguments), "shape": [_SAMPLES, *shape],
        },
    )  # fmt: skip
    payload = {
        "source": to_jsonable(source),
        "example": str(place / "example.npz"),
        "output": str(place / "model.onnx"),
        "options": to_jsonable(ExportOptions(static_batch_fallback=True)),
    }
    try:
        run_isolated("edgeport.exporter.worker:export_in_child", payload, limits=_LIMITS)
        show_layers(place / "model.onnx")
    except EdgeportError as raised:
        return {"error": f"{raised.code}: {raised.found}"[:300]}
    return {"error": ""}
