"""Imports what a recipe names as `pkg.mod:fn`; in a child, since a user's module runs when it is imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["importable", "user_function"]


def user_function(spelled: str, search_path: Path | None = None) -> object:
    """What stands under a name in a user's module; whatever the module raises goes on to the caller, who can say why.

    Args:
        spelled: `pkg.mod:fn`, or `pkg.mod:Class.fn`.
        search_path: Folder that is on the import path while the module is imported.

    Raises:
        ValueError: No colon between module and name.

    """
    module, _, name = spelled.partition(":")
    if not (module and name):
        raise ValueError("no colon between module and function")
    with importable(search_path):
        found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


@contextmanager
def importable(folder: Path | None) -> Iterator[None]:
    """The folder is the first on the import path; None for no folder."""
    before = list(sys.path)
    if folder is not None:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        yield
    finally:
        sys.path[:] = before
