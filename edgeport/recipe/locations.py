"""What a model's location names, and where that lies."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

from edgeport.errors import UsageError

__all__ = [
    "CHECKPOINTS",
    "COLLECTIONS",
    "FILES",
    "FUNCTION",
    "SCHEMES",
    "function_in",
    "located",
    "relative_text",
    "spelled_location",
]

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


def function_in(file: Path, name: str, folder: Path, command: str = "") -> str:
    """A function or class of a Python file, spelled `module:name` for an import path that starts at the folder.

    Args:
        file: That it stands in, inside of the folder.
        name: Its own; empty for the only one there that is public.
        folder: That is put on the import path.
        command: That asked, for what the error says to write.

    Raises:
        UsageError: There is no such file, it lies elsewhere, or it does not say by itself which is meant.

    """
    asked = f"look at the model {file}{':' if name else ''}{name}"
    if not file.is_file():
        raise UsageError(asked=asked, found="no such file", fix="give the path of a file that exists")
    absolute, folder = (Path(os.path.normpath(path.absolute())) for path in (file, folder))  # "../net.py" is outside
    if not absolute.is_relative_to(folder):
        raise UsageError(
            asked=asked,
            found=f"a file outside of the recipe's folder {folder}",
            fix=f"write the recipe beside it: -o {file.parent / 'edgeport.toml'}",
        )
    parts = absolute.relative_to(folder).with_suffix("").parts
    dotted = [part for part in parts if "." in part]
    if dotted:
        raise UsageError(
            asked=asked, found=f"a dot in {dotted[0]!r}, which `import` takes for a package's", fix="rename it"
        )
    module = ".".join(parts)
    if name:
        return f"{module}:{name}"
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), file.name)
    except (SyntaxError, ValueError) as error:
        raise UsageError(asked=asked, found=f"no Python: {error}", fix="correct the file") from error
    names = [one.name for one in tree.body if isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name[0] != "_"]
    if len(names) == 1:
        return f"{module}:{names[0]}"
    written = f"{command} {file}".strip()
    raise UsageError(
        asked=asked,
        found=f"{', '.join(names) or 'no class and no function'} in it",
        fix=f"say which: {written}:{names[-1]}" if names else "name a file with the model's class",
    )
