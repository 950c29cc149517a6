"""What OpenVINO says of a model that it does not take, as an error that names the node, the reason and the next step.

The patterns are of OpenVINO's own messages: src/plugins/intel_cpu/src/node.cpp, and
src/frontends/common_translators/src/unconverted_ops_report.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from edgeport.backends.openvino.names import onnx_name
from edgeport.errors import BackendError, UnsupportedByBackend
from edgeport.onnx_files import node_module

__all__ = ["not_compiled", "not_converted"]

_DYNAMIC_RANK = re.compile(r"doesn't support (\w+) operation with dynamic rank\. Operation name: (\S+)")
_MISSING = re.compile(r"No conversion rule found for operations: (.+)")
_FAILED = re.compile(r"Conversion is failed for: (.+)")
_ONNX_NODE = re.compile(r"<Node\((\w+)\): ([^>]*)>")
_SHOWN = 3


def not_converted(error: Exception, graph: Iterable[Any], file: str) -> BackendError:
    """The error of a conversion, with the node and the PyTorch module that it is about.

    Args:
        error: As OpenVINO raised it.
        graph: The ONNX nodes.
        file: Name of the model.

    """
    asked, text = f"convert {file} to OpenVINO", str(error)
    match = _MISSING.search(text)
    if match is not None:
        missing = {part.strip() for part in match.group(1).split(",")}
        culprits = [node for node in graph if not missing.isdisjoint(_spellings(node))]
        where = ", ".join(_described(node) for node in culprits[:_SHOWN]) or "a node inside a function"
        return UnsupportedByBackend(
            asked=asked,
            found=f"{where}: OpenVINO has no {', '.join(sorted(missing))}",
            fix="write that module with operators that it has, or leave OpenVINO out",
            details={"nodes": [node.name for node in culprits], "operators": sorted(missing)},
        )
    failed = _FAILED.search(text)
    if failed is not None:
        named = list(dict.fromkeys(f"node {name!r} ({kind})" for kind, name in _ONNX_NODE.findall(text)))
        return UnsupportedByBackend(
            asked=asked,
            found=f"{', '.join(named[:_SHOWN]) or failed.group(1)}: {_reason(text)}",
            fix="give every tensor there a known type and number of axes (onnx.shape_inference, or an export without "
            "branches), or leave OpenVINO out",
            details={"operators": [part.strip() for part in failed.group(1).split(",")]},
        )
    return BackendError(
        asked=asked, found=_last_lines(error), fix="export the model with opset 20, or leave OpenVINO out"
    )


def not_compiled(error: BackendError, graph: Iterable[Any], file: str) -> BackendError:
    """The error of the CPU plugin, which takes less than the conversion does.

    Args:
        error: With what OpenVINO said in it; it stays as it is where that is nothing known.
        graph: The ONNX nodes.
        file: Name of the model.

    """
    asked = f"compile {file} for OpenVINO on the CPU"
    match = _DYNAMIC_RANK.search(error.found)
    if match is None:
        return error
    kind, name = match[1], onnx_name(match[2])
    # OpenVINO puts the names of the nodes in front whose branches it is in.
    inside = [node for node in graph if node.op_type == kind and node.name and name.endswith(node.name)]
    node = max(inside, key=lambda node: len(node.name), default=None)
    where = _described(node) if node is not None else f"node {name!r} uses {kind}"
    return UnsupportedByBackend(
        asked=asked,
        found=f"{where}, whose branches give tensors of different numbers of axes; OpenVINO's CPU plugin takes none of "
        "unknown rank",
        fix=f"let both branches of that {kind} give as many axes, or fold it where its condition is constant "
        "(onnxsim, or an export without the condition); or leave OpenVINO out",
        details={"nodes": [node.name if node is not None else name], "operators": [kind]},
    )


def _spellings(node: Any) -> set[str]:
    """How OpenVINO may spell the node's operator: with its domain, or with the opset behind it."""
    if node.domain:
        return {f"{node.domain}.{node.op_type}"}
    return {node.op_type} | {f"{node.op_type}-{version}" for version in range(1, 40)}


def _described(node: Any) -> str:
    module = node_module(node)
    return f"node {node.name!r}" + (f" (module {module!r})" if module else "") + f" uses {node.op_type}"


def _reason(text: str) -> str:
    """The sentence behind the first check that failed."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(("--", "[", "Check", "While", "FrontEnd", "Model"))]
    return said[0] if said else "it is not converted"


def _last_lines(error: Exception) -> str:
    """OpenVINO's message without the stack of C++ source lines in front of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[-3:]) or type(error).__name__
