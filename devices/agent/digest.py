"""The artifact's digest, computed where it runs: equal to `Artifact.digest` on the host, or it is another artifact."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def artifact_digest(folder: Path, settings: dict[str, Any]) -> str:
    """SHA-256, hexadecimal, over the names and bytes of an artifact's files, and its settings.

    Parts are: the settings as canonical JSON (sorted keys, no spaces, UTF-8); then for each file, in the order of
    their names (relative, with "/"), its name and the hexadecimal SHA-256 of its bytes. Before each part goes its
    length (8 bytes, little-endian).
    """
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    parts = [json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()]
    for name in sorted(files):
        parts += [name.encode(), _file_digest(files[name]).encode()]
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def _file_digest(path: Path) -> str:
    state = hashlib.sha256()
    with path.open("rb") as file:
        chunk = file.read(_CHUNK_BYTES)
        while chunk:
            state.update(chunk)
            chunk = file.read(_CHUNK_BYTES)
    return state.hexdigest()
