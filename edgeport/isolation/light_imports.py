"""Spares a child what an import loads and nothing uses.

`onnx_ir` imports SymPy, for arithmetic with symbolic sizes that Edgeport does not do. That takes 0.3 s of CPU time on a
server's core, more than all else in the start of a child that compiles or calibrates; most steps of a run start one.
Here `onnx_ir` gets a module in its place that imports SymPy when something of it is used. All others get SymPy itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["defer_sympy"]

_READER = "onnx_ir"
_DEFERRED = "sympy"


def defer_sympy() -> None:
    """From now on, importing `onnx_ir` does not import SymPy; for a process of our own, before it starts threads."""
    if _READER not in sys.modules and _DEFERRED not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Later(ModuleType):
    """SymPy, imported when it is first used. Its functions can be had before that."""

    while_importing = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if not self.while_importing:
            return getattr(importlib.import_module(_DEFERRED), name)

        def call(*arguments: Any, **options: Any) -> Any:
            return getattr(importlib.import_module(_DEFERRED), name)(*arguments, **options)

        return call


class _Finder:
    """Hands `onnx_ir` another SymPy while it is imported, and only then."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _READER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None or _DEFERRED in sys.modules:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            later = sys.modules[_DEFERRED] = _Later(_DEFERRED)
            try:
                execute(module)
            finally:
                later.while_importing = False
                if sys.modules.get(_DEFERRED) is later:
                    del sys.modules[_DEFERRED]

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
