"""OpenVINO IR from ONNX: the same file every time, with node names that lead back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgeport.backends.openvino.session import import_openvino
from edgeport.contracts import OnnxModel
from edgeport.errors import BackendError, UnsupportedByBackend
from edgeport.onnx_files import node_module, read_ir

__all__ = ["GENERATED", "INFO", "IrFromOnnx", "onnx_name"]

GENERATED = "~"
"""First character of names that OpenVINO made up; no ONNX node of ours begins with it."""

INFO = "edgeport"
"""Section of the IR's rt_info that holds what the plan wanted."""

_SUFFIX = re.compile(r"(/WithoutBiases|/Dequantization\w+|/transpose_[ab]|/sink_port_\d+)+$")
_MISSING = re.compile(r"No conversion rule found for operations: (.+)")


def onnx_name(name: str) -> str:
    """The ONNX node's name in the name of what OpenVINO made of it ("conv/WithoutBiases")."""
    return _SUFFIX.sub("", name)


class IrFromOnnx:
    """Converts one model.

    Attributes:
        model: The ONNX file, with the plan already written into it.
        planned: Names of the nodes that the plan runs in integers; kept in the IR, so that a placement can tell
            which of them did not.

    """

    def __init__(self, model: OnnxModel, planned: Iterable[str] = ()) -> None:
        self.model = model
        self.planned = sorted(planned)

    def __call__(self, path: Path) -> None:
        """Writes `path` (`.xml`) and the weights beside it, in the precision that they have in the ONNX file.

        Raises:
            UnsupportedByBackend: An operator that OpenVINO has no words for.
            BackendError: Whatever else it says.

        """
        ov = import_openvino()
        graph = read_ir(self.model).graph
        try:
            converted = ov.convert_model(str(self.model.path))
        except Exception as error:
            raise self._explained(error, graph) from error
        _name_canonically(converted, graph)
        converted.set_rt_info(json.dumps(self.planned), [INFO, "int8"])
        ov.save_model(converted, str(path), compress_to_fp16=False)

    def _explained(self, error: Exception, graph: Iterable[Any]) -> BackendError:
        """The error of a conversion, with the node and the PyTorch module that it is about."""
        match = _MISSING.search(str(error))
        if match is None:
            return BackendError(
                asked=f"convert {self.model.path.name} to OpenVINO",
                found=_last_lines(error),
                fix="export the model with opset 20, or leave OpenVINO out",
            )
        missing = {part.strip() for part in match.group(1).split(",")}
        culprits = [node for node in graph if not missing.isdisjoint(_spellings(node))]
        where = ", ".join(_described(node) for node in culprits[:3]) or "a node inside a function"
        return UnsupportedByBackend(
            asked=f"convert {self.model.path.name} to OpenVINO",
            found=f"{where}: OpenVINO has no {', '.join(sorted(missing))}",
            fix="write that module with operators that it has, or leave OpenVINO out",
            details={"nodes": [node.name for node in culprits], "operators": sorted(missing)},
        )


def _spellings(node: Any) -> set[str]:
    """How OpenVINO may spell the node's operator: with its domain, or with the opset behind it."""
    if node.domain:
        return {f"{node.domain}.{node.op_type}"}
    return {node.op_type} | {f"{node.op_type}-{version}" for version in range(1, 40)}


def _described(node: Any) -> str:
    module = node_module(node)
    return f"node {node.name!r}" + (f" (module {module!r})" if module else "") + f" uses {node.op_type}"


def _last_lines(error: Exception) -> str:
    """OpenVINO's message without the stack of C++ source lines in front of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[-3:]) or type(error).__name__


def _name_canonically(model: Any, graph: Any) -> None:
    """Names every operation after its ONNX node, or by its place in the model where OpenVINO made it up.

    OpenVINO's own names carry a counter of the process ("Constant_14160"), so equal models would give files of
    different bytes; and it names what computes an output after the output.
    """
    known = {node.name for node in graph if node.name}
    makers = {value.name: value.producer().name for value in graph.outputs if value.producer() is not None}
    for index, operation in enumerate(model.get_ordered_ops()):
        if operation.get_type_name() in ("Parameter", "Result"):
            continue
        name = operation.get_friendly_name()
        generated = f"{GENERATED}{operation.get_type_name()}_{index}"
        operation.set_friendly_name(name if onnx_name(name) in known else makers.get(name) or generated)
