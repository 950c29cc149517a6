"""Imports what a recipe names as `pkg.mod:fn`; in a child, since a user's module runs when it is imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeport.errors import EdgeportError

__all__ = ["importable", "load_function", "user_function"]


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


def load_function(
    spelled: str, search_path: Path | None, *, refuse: Callable[[str, str], EdgeportError], fixes: tuple[str, str]
) -> Callable[..., Any]:
    """The function of that name; an error of the caller's where it does not import, or is none.

    Args:
        spelled: `pkg.mod:fn`, or `pkg.mod:Class.fn`.
        search_path: Folder that is on the import path while the module is imported.
        refuse: What was found, and what to do, to the error.
        fixes: What to do where it does not import, and where it is no function.

    """
    try:
        found = user_function(spelled, search_path)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise refuse(f"{type(error).__name__}: {error}", fixes[0]) from error
    if not callable(found):
        raise refuse(f"a {type(found).__name__}", fixes[1])
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
