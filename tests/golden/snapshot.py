"""Snapshots: values of a command without what differs between machines and moments, compared with files."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

VARIES = "<varies>"
NOTHING = "<nothing>"
"""Where a measured value may be missing."""

_PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "numpy", "onnx-ir", "onnxscript", "scipy", "torch-pruning")
_MACHINE = {"cpu", "cores", "memory_bytes", "python", "system", "machine", "isa", "sensors", "runtimes", "tools"}
_MACHINE |= {"versions", "store", "disk_free_bytes"}
_MEASURED = {"latency", "against_float", "refusal", "nearest", "notes", "chosen", "best_float", "confirmation", "lost"}
_MEASURED |= {
    "measurements",
    "measurement",
    "throughput",
    "comparison",
    "searches",
    "candidate",
    "flags",
    "kept",
    "outcome",
}
_ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_KINDS = {VARIES, NOTHING, "<machine>", "<number>", "<bool>", "<text>", "<value>"}
_WRAPPED = re.compile(r"\n {12}(?=\S)")
_SUBSTITUTES = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<digest>"),
    (re.compile(r"\bedgeport(\.\w+){2,}"), "<module>"),
    (re.compile(r"/[^\s'\"]*/(edgeport|backends|calibration|devices|exporter)/[\w/]+\.py"), "<source file>"),
    (re.compile(r"(/tmp|<folder>)/[^\s'\",)]*/(?=[\w.]+)"), "<path>/"),
    (re.compile(r"\b\d+(\.\d+)? (ns|us|ms|s|min|MB|GB|kB|GiB)\b"), "<quantity>"),
    (re.compile(r"\b\d+\.\d+\.\d+(\.\d+)?(\+\w+)?\b"), "<version>"),
)


@functools.cache
def environment() -> dict[str, str]:
    """What the bytes of floats depend on, besides Edgeport."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    lines = re.findall(r"^(?:model name|flags|Features)\s*:.*$", info, re.MULTILINE)
    cpu = hashlib.sha256("\n".join(sorted(set(lines))).encode()).hexdigest()[:16]
    return {"cpu": cpu, "processors": str(os.cpu_count())} | {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def plain_text(text: str, folder: Path) -> str:
    """Without paths of temporary folders, digests, module names, durations, sizes and versions."""
    text = (
        _WRAPPED.sub(" ", _ANSI.sub("", text))
        .replace(str(folder.resolve()), "<folder>")
        .replace(str(folder), "<folder>")
    )
    for pattern, substitute in _SUBSTITUTES:
        text = pattern.sub(substitute, text)
    return text


def normalise(value: Any, folder: Path) -> Any:
    """The same JSON value; what is measured keeps its structure alone."""
    if isinstance(value, Mapping):
        return {plain_text(key, folder): _entry(key, item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [normalise(item, folder) for item in value] if len(value) <= 64 else f"<list of {_kind(value[0])}>"
    return plain_text(value, folder) if isinstance(value, str) else value


def _entry(key: str, value: Any, folder: Path) -> Any:
    if key in _MACHINE:
        return "<machine>"
    if key in _MEASURED:
        return skeleton(list(value.values()) if key == "confirmation" else value)
    if key.endswith(("_ns", "_s", "elapsed", "took")) and isinstance(value, float | int):
        return "<number>"
    return normalise(value, folder)


def skeleton(value: Any) -> Any:
    """Keys and types at every depth."""
    if isinstance(value, Mapping) and value:
        return {key: skeleton(item) for key, item in value.items()}
    if isinstance(value, list) and value:
        return [functools.reduce(merge, map(skeleton, value))]
    return NOTHING if value is None or value in ([], {}) else _kind(value)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return value if value in _KINDS or value.startswith("<list of ") else "<text>"
    if isinstance(value, bool):
        return "<bool>"
    return "<number>" if isinstance(value, float | int) else "<value>"


def merge(one: Any, other: Any) -> Any:
    """What two runs have in common; `merge(golden, actual) == golden` says that nothing changed."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        return {key: merge(one.get(key, VARIES), other.get(key, VARIES)) for key in keys}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [merge(a, b) for a, b in zip(one, other, strict=True)]
    if (type(one) is type(other) and one == other) or other == NOTHING:
        return one
    if one == NOTHING:
        return other
    if VARIES not in (one, other) and not isinstance(one, dict | list) and _kind(one) == _kind(other):
        return _kind(one)
    return VARIES


def differences(golden: Any, actual: Any, where: str = "") -> Iterator[str]:
    """Lines that say where a value is not as it was."""
    if isinstance(golden, dict) and isinstance(actual, dict):
        for key in [*golden, *(key for key in actual if key not in golden)]:
            yield from differences(golden.get(key, "<absent>"), actual.get(key, "<absent>"), f"{where}/{key}")
    elif isinstance(golden, list) and isinstance(actual, list) and len(golden) == len(actual):
        for place, (one, other) in enumerate(zip(golden, actual, strict=True)):
            yield from differences(one, other, f"{where}/{place}")
    elif golden not in (VARIES, NOTHING) and merge(golden, actual) != golden:
        yield f"{where}: {golden!r} became {actual!r}"


def graph_text(path: Path) -> list[str]:
    """Structure of a file: of a graph its nodes, names, attributes and shapes; never the values of constants."""
    if path.suffix == ".onnx":
        return _onnx_text(path)
    if path.suffix == ".xml":
        layers = ET.parse(path).getroot().iter("layer")
        return [_layer_text(layer) for layer in layers]
    if path.suffix == ".safetensors":
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return [f"{name}: {one['dtype']} {one['shape']}" for name, one in sorted(header.items()) if "dtype" in one]
    return []


def _layer_text(layer: ET.Element) -> str:
    ports = [[dim.text for dim in port.iter("dim")] for port in layer.iter("port")]
    attributes = {key: value for data in layer.iter("data") for key, value in data.items() if key not in _OFFSETS}
    return f"{layer.get('type')} {layer.get('name')} {attributes} {ports}"


_OFFSETS = ("offset", "size")


def _onnx_text(path: Path) -> list[str]:
    import onnx

    model = onnx.load(path, load_external_data=False)
    lines = [f"opset {one.domain!r} {one.version}" for one in model.opset_import]
    for name, values in (("input", model.graph.input), ("output", model.graph.output)):
        lines += [f"{name} {one.name}: {_type_text(one.type.tensor_type)}" for one in values]
    for one in model.graph.initializer:
        lines.append(f"constant {one.name}: {one.data_type} {list(one.dims)}")
    for node in model.graph.node:
        attributes = ", ".join(f"{one.name}={_attribute_text(one)}" for one in sorted(node.attribute, key=_by_name))
        lines.append(f"{node.domain}:{node.op_type} {node.name} {list(node.input)} -> {list(node.output)} {attributes}")
    return lines


def _by_name(attribute: Any) -> str:
    return str(attribute.name)


def _type_text(tensor: Any) -> str:
    return f"{tensor.elem_type} {[dim.dim_param or dim.dim_value for dim in tensor.shape.dim]}"


def _attribute_text(attribute: Any) -> str:
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return f"tensor {value.data_type} {list(value.dims)}"
    if isinstance(value, onnx.GraphProto):
        return f"graph {[node.op_type for node in value.node]}"
    return repr(value)


@dataclass(frozen=True, kw_only=True)
class Golden:
    """The files that values are compared with, or that are written anew from two runs."""

    folder: Path
    update: bool

    def check_text(self, name: str, text: str) -> None:
        path = self.folder / name
        if self.update:
            self._write(path, text)
        assert text == path.read_text(encoding="utf-8")

    def check(self, name: str, snapshot: Callable[[], dict[str, Any]], *, runs: int = 2) -> None:
        """With digests and graphs among the values, those of another machine are compared by their structure."""
        path = self.folder / name
        if self.update:
            merged = functools.reduce(merge, [snapshot() for _ in range(runs)])
            self._write(path, json.dumps(merged, indent=1, ensure_ascii=False) + "\n")
            return
        golden, actual = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(snapshot()))
        if golden.get("environment", environment()) != environment():
            shared = golden["graphs"].keys() & actual["graphs"].keys()
            assert shared or not golden["graphs"]
            golden, actual = ({"graphs": {key: one["graphs"][key] for key in shared}} for one in (golden, actual))
        found = list(differences(golden, actual))
        assert not found, "\n".join([f"{path.name}: not as it was", *found[:40]])

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
