"""Reading a `.pt2` file without giving it a way to run code.

`torch.export.load` (seen in torch 2.13) falls back to the unsafe unpickler, and hands the expressions of
symbolic shapes to `sympy.sympify`, which evaluates them as Python. So the file is looked through first, and
the safe unpickler is forced while it loads.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.archives import check_archive
from edgeport.errors import SourceError, UnsafeFileError

if TYPE_CHECKING:
    import torch

__all__ = ["load_pt2"]

_TARGET = re.compile(r"torch\.ops(\.\w+){2,3}|(_operator|math)\.\w+|torch\.sym_\w+|torch\._sym_\w+")
"""Operators and the arithmetic of sizes; anything else would be a call into Python."""

_SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)")
_EXPRESSION = re.compile(r"[\w+\-*/%(),<>=!&|~. ]*")
_ATTRIBUTE = re.compile(r"\.\s*[A-Za-z_]|__")
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
_SYMPY = frozenset(
    {"Abs", "Add", "And", "Eq", "Equality", "Ge", "GreaterThan", "Gt", "Integer", "Le", "LessThan", "Lt"}
    | {"Max", "Min", "Mod", "Mul", "Ne", "Not", "Or", "Pow", "Rational", "StrictGreaterThan", "StrictLessThan"}
    | {"Unequality", "ceiling", "floor"}
)

_MAXIMUM_GRAPH_BYTES = 256 << 20


def load_pt2(path: Path) -> torch.nn.Module:
    """The module in a file that `torch.export.save` wrote.

    Raises:
        UnsafeFileError: It would run code while it is read; nothing of it was executed.
        SourceError: Missing or damaged.

    """
    import torch

    asked = f"load {path.name}"
    if not path.is_file():
        raise SourceError(asked=asked, found=f"no file at {path}", fix="check the path")
    fix = "save it again with torch.export.save in this version of PyTorch"
    try:
        check_archive(path, asked=asked, paths=True)
        for graph in _graphs(path):
            _refuse_code(graph, asked)
        with _weights_only():
            module: torch.nn.Module = torch.export.load(path).module()
    except (SourceError, MemoryError):
        raise
    except Exception as error:
        if "Weights only load failed" in str(error):
            raise UnsafeFileError(
                asked=asked,
                found="a pickle that holds more than plain tensors; nothing of it was executed",
                fix="export the model again without custom objects, or give pkg.mod:factory and a .safetensors file",
            ) from error
        raise SourceError(
            asked=asked,
            found=f"a damaged or foreign file ({str(error).strip()[:200] or type(error).__name__})",
            fix=fix,
        ) from error
    return module


def _graphs(path: Path) -> Iterator[Any]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.endswith(".json"):
                continue
            if entry.file_size > _MAXIMUM_GRAPH_BYTES:
                raise SourceError(
                    asked=f"load {path.name}", found=f"a graph of {entry.file_size} bytes", fix="export a smaller model"
                )
            yield json.loads(archive.read(entry))


def _refuse_code(graph: Any, asked: str) -> None:
    """Looks at every operator name and every size expression, at any depth, without recursion."""
    waiting = [graph]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            target, expression = value.get("target"), value.get("expr_str")
            if isinstance(target, str) and "inputs" in value and not _TARGET.fullmatch(target):
                raise _unsafe(asked, f"a call to {target[:80]!r}")
            if isinstance(expression, str) and not _is_arithmetic(expression):
                raise _unsafe(asked, f"the size expression {expression[:80]!r}")
            waiting += value.values()


def _is_arithmetic(expression: str) -> bool:
    import torch.utils._sympy.functions as torch_sympy

    expression = _SYMBOL.sub("s", expression)
    if not _EXPRESSION.fullmatch(expression) or _ATTRIBUTE.search(expression):
        return False
    allowed = _SYMPY | set(torch_sympy.__all__)
    return all(name in allowed for name in _CALL.findall(expression))


def _unsafe(asked: str, found: str) -> UnsafeFileError:
    return UnsafeFileError(
        asked=asked,
        found=f"{found} where only operators and sizes may stand; nothing of it was executed",
        fix="use a file whose maker you know, or give pkg.mod:factory",
    )


@contextmanager
def _weights_only() -> Iterator[None]:
    """Overrides even an explicit `weights_only=False` inside torch (`torch.load` reads this variable)."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
