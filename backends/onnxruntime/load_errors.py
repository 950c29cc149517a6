"""What ONNX Runtime says of a model that it does not open, as an error with the node, the reason and the next step.

The patterns are of its own messages: onnxruntime/core/graph/graph.cc and
onnxruntime/core/framework/kernel_registry_manager.cc.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from edgeport.errors import BackendError, UnsupportedByBackend
from edgeport.onnx_files import node_module

__all__ = ["not_opened"]

_NODES = (
    re.compile(r"In Node, \(\"([^\"]*)\""),
    re.compile(r"node with name '([^']*)'"),
    re.compile(r"\bin node \(([^)]*)\)"),
    re.compile(r"\bof node \(([^)]*)\)"),
    re.compile(r"\bNode \(([^)]*)\) Op"),
)
_MISSING = ("No Op registered", "Could not find an implementation")
_BEFORE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|This is an invalid model\. "
    r"|In Node, .*? , Error "
)


def not_opened(error: Exception, graph: Iterable[Any], file: str) -> BackendError:
    """The error of a model that the runtime opens at none of its levels.

    Args:
        error: As ONNX Runtime raised it.
        graph: The ONNX nodes.
        file: Name of the model.

    """
    text = str(error)
    asked, reason = f"compile {file} for ONNX Runtime", _BEFORE.sub("", text).strip()
    name = next((match[1] for pattern in _NODES if (match := pattern.search(text)) is not None), "")
    node = next((node for node in graph if node.name == name), None) if name else None
    if node is None:
        return BackendError(
            asked=asked, found=f"that it does not open: {reason}", fix="see what the runtime says, or leave it out"
        )
    kind = UnsupportedByBackend if any(words in text for words in _MISSING) else BackendError
    module = node_module(node)
    where = f"node {name!r}" + (f" (module {module!r})" if module else "") + f" uses {node.op_type}"
    return kind(
        asked=asked,
        found=f"{where}: {reason}",
        fix="correct what it names, write that module with operators that the runtime has, or leave ONNX Runtime out",
        details={"nodes": [name], "operators": [node.op_type]},
    )
