"""What a model's location names, and where that lies."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["CHECKPOINTS", "COLLECTIONS", "FILES", "FUNCTION", "SCHEMES", "located"]

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
