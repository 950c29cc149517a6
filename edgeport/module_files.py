"""Where a module's source lies, found without running any of it.

`importlib.util.find_spec("package.module")` imports `package`: whatever a user's package does then (raise, print, hang,
end the process) it would do to us.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

__all__ = ["module_file"]


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
