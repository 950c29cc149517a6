"""Where a module's source lies, found without running any of it; and a session module as the one file that ships.

`importlib.util.find_spec("package.module")` imports `package`: whatever a user's package does then (raise, print, hang,
end the process) it would do to us.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.machinery
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TypeGuard

__all__ = ["module_file", "standalone_source"]

_OURS = "edgeport."


def module_file(name: str, search_path: Path | None = None) -> Path | None:
    """The file that `import name` would run, or None where there is none that can be found without importing.

    Args:
        name: Dotted name of a module or package.
        search_path: Folder that is looked through before the import path.

    """
    if not all(name.split(".")):
        return None
    importlib.invalidate_caches()  # the file may have been written a moment ago
    spec: ModuleSpec | None = None
    parents: Iterable[str] | None = None
    whole = ""
    for part in name.split("."):
        whole = f"{whole}.{part}" if whole else part
        spec = _find(whole, parents, search_path if parents is None else None)
        if spec is None:
            return None
        parents = list(spec.submodule_search_locations or ())
    found = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
    return found if found is not None and found.is_file() else None


def _find(name: str, parents: Iterable[str] | None, search_path: Path | None) -> ModuleSpec | None:
    """Asks the finders, as the import system does."""
    if search_path is not None:
        own = importlib.machinery.PathFinder.find_spec(name, [str(search_path), *sys.path])
        if own is not None:
            return own
    path = None if parents is None else list(parents)
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find(name, path) if find is not None else None
        if spec is not None:
            return spec
    return None


def standalone_source(file: Path) -> bytes:
    """The module's source, in which each import from a module of Edgeport is replaced by that module's own source.

    So a session ships as one file, to devices and in bundles, whatever it is made of. A module that imports nothing of
    ours is left as it is, byte for byte.

    Raises:
        ValueError: It can't be one file: it imports a package of ours, or a module under another name or in an inner
            block, or two modules define one name.

    """
    source = file.read_bytes()
    return b"".join(_inlined(file, {})) if _OURS.encode() in source else source


def _inlined(file: Path, seen: dict[Path, frozenset[str]]) -> list[bytes]:
    """The module's lines; `seen` are the files that are in already, with the names that each defines."""
    source = file.read_bytes()
    is_outermost = not seen
    try:
        statements, names = _outline(source)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error
    taken = sorted(names & frozenset().union(*seen.values()))
    if taken:
        raise ValueError(f"{file.name} defines {taken[0]}, which a module that it ships with defines too")
    seen[file] = names
    lines, written, position = source.splitlines(keepends=True), list[bytes](), 0
    for node in statements:
        if _imports_ours(node):
            module = _module_of(node, file)
            replacement = [] if module in seen else _inlined(module, seen)
        elif not is_outermost:
            replacement = []
        else:
            continue
        written += lines[position : node.lineno - 1] + replacement
        position = node.end_lineno or node.lineno
    return written + lines[position:]


@functools.lru_cache(maxsize=64)
def _outline(source: bytes) -> tuple[list[ast.stmt], frozenset[str]]:
    """The statements that may be replaced, and the top-level names that the module defines; kept, for each job asks."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(str(error)) from error
    if {node for node in ast.walk(tree) if _imports_ours(node)} - set(tree.body):
        raise ValueError("it imports a module of Edgeport in an inner block")
    return [node for node in tree.body if _imports_ours(node) or _is_preamble(node)], _definitions(tree)


def _imports_ours(node: ast.AST) -> TypeGuard[ast.Import | ast.ImportFrom]:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").startswith(_OURS)
    return isinstance(node, ast.Import) and any(alias.name.startswith(_OURS) for alias in node.names)


def _module_of(node: ast.Import | ast.ImportFrom, file: Path) -> Path:
    """The file of `from MODULE import NAME`, the one form of import that the module's source can stand for."""
    found = module_file(node.module or "") if isinstance(node, ast.ImportFrom) else None
    if found is None or found.name == "__init__.py" or any(alias.asname for alias in node.names):
        raise ValueError(f"{file.name}, line {node.lineno}: not of the form `from edgeport.PACKAGE.MODULE import NAME`")
    return found


def _definitions(tree: ast.Module) -> frozenset[str]:
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else ()
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        names |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return frozenset(names - {"__all__"})


def _is_preamble(node: ast.stmt) -> bool:
    """It stands in a file once: the import from `__future__`, or `__all__`."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__"
    return isinstance(node, ast.Assign) and any(
        isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets
    )
