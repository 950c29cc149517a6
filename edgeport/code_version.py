"""Which code computed something: a name that changes whenever any of Edgeport's own source files does."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

__all__ = ["code_version"]


@cache
def code_version() -> str:
    """Release and digest of the package's `.py` files, read once per process."""
    import edgeport
    from edgeport.contracts.serialise import digest_bytes

    root = Path(edgeport.__file__).parent
    parts: list[bytes] = []
    # In a checkout four of the folders are links. os.walk follows them in any order, so the names are sorted.
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            if name.endswith(".py"):
                file = Path(folder, name)
                parts += [file.relative_to(root).as_posix().encode(), file.read_bytes()]
    return f"{edgeport.__version__}+{digest_bytes(parts)[:16]}"
