"""What a model's location names, and where that lies."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["CHECKPOINTS", "COLLECTIONS", "FILES", "FUNCTION", "SCHEMES", "located", "relative_text", "spelled_location"]

FILES = (".onnx", ".pt2")
COLLECTIONS = ("torchvision:", "timm:")
SCHEMES = (*COLLECTIONS, "hf:", "ultralytics:")
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pkl")
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def located(location: str, folder: Path) -> tuple[str, Path | None]:
    """The location with the paths in it absolute, and the folder that is put on the import path for a function.

    Nothing is checked here: a name that is neither file nor folder stays as it is, and its loader says so.

    Args:
        location: As the user wrote it.
        folder: Where relative paths start.

    """
    if location.startswith(COLLECTIONS):
        return location, None
    scheme, colon, name = location.partition(":")
    if colon and f"{scheme}:" in SCHEMES:
        # "hf:org/name" may be in the cache; "hf:./name" can't.
        here = (folder / name).exists() or name.startswith((".", "/", "~"))
        return (f"{scheme}:{(folder / Path(name).expanduser()).absolute()}" if here else location), None
    if location.endswith(FILES):
        return str((folder / location).absolute()), None
    return location, folder


def spelled_location(location: str, folder: Path) -> str:
    """The other way: with paths that start at the folder, where they lie in it."""
    scheme, colon, path = location.rpartition(":")  # "hf:/models/net"; a plain path has no scheme
    if not Path(path).is_absolute():
        return location
    relative = relative_text(Path(path), folder)
    return f"{scheme}:./{relative}" if colon and not Path(relative).is_absolute() else scheme + colon + relative


def relative_text(path: Path, folder: Path) -> str:
    """The path as it is written in the folder."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else os.fspath(path)
