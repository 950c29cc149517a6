"""External data: weights in files beside the model. The file says where, so it is not to be trusted.

ONNX Runtime 1.32 follows hard links, and other readers follow more; so nothing but a regular file with one name, inside
the model's folder, passes (https://onnx.ai/onnx/repo-docs/ExternalData.html names the keys).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgeport.errors import ModelFormatError, UnsafeFileError
from edgeport.onnx_files.tensors import element_count, size_bytes
from edgeport.onnx_files.walk import tensors

if TYPE_CHECKING:
    import onnx

__all__ = ["check_external_data", "load_external_data"]

_KEYS = frozenset({"location", "offset", "length", "checksum"})
_LARGEST_OFFSET = (1 << 63) - 1
_EXTERNAL = 1  # onnx.TensorProto.EXTERNAL


def check_external_data(model: onnx.ModelProto, path: Path) -> dict[str, Path]:
    """Checks each reference to a file beside the model.

    Returns:
        The files, by the location that the model gives.

    Raises:
        UnsafeFileError: It reaches outside the model's folder, or outside the file.

    """
    files: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    for tensor in tensors(model):
        if tensor.data_location != _EXTERNAL:
            if tensor.external_data:
                raise _unsafe(path, tensor, "external data on a tensor that says it has none")
            continue
        entries = _entries(tensor, path)
        location = entries["location"]
        if location not in files:
            files[location], sizes[location] = _check_location(location, tensor, path)
        _check_extent(entries, sizes[location], tensor, path)
    return files


def load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Moves all external data that `check_external_data` passed into the model in memory.

    onnx-ir and onnx have readers of their own, but those leave out functions or follow links.
    """
    no_follow = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    for tensor in tensors(model):
        if tensor.data_location != _EXTERNAL:
            continue
        entries = _entries(tensor, path)
        wanted = size_bytes(tensor, path)
        descriptor = os.open(path.parent / entries["location"], os.O_RDONLY | no_follow)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(int(entries.get("offset", "0")))
            data = file.read(wanted)
        if len(data) != wanted:
            raise _unsafe(path, tensor, "an external file that was cut short after it was checked")
        tensor.raw_data = data
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _entries(tensor: onnx.TensorProto, path: Path) -> dict[str, str]:
    keys = [entry.key for entry in tensor.external_data]
    unknown = sorted(set(keys) - _KEYS)
    if unknown:
        raise _unsafe(path, tensor, f"unknown external data keys {unknown}")
    if len(keys) != len(set(keys)) or "location" not in keys:
        raise _unsafe(path, tensor, f"external data keys {keys}, where location must be given once")
    return {entry.key: entry.value for entry in tensor.external_data}


def _check_location(location: str, tensor: onnx.TensorProto, path: Path) -> tuple[Path, int]:
    """The file and its size, if every step towards it stays in the folder and is no link."""
    pure = PurePosixPath(location)
    if not location or pure.is_absolute() or "\0" in location or "\\" in location or ":" in location:
        raise _unsafe(path, tensor, f"external data at {location!r}, which is no plain relative path")
    if ".." in pure.parts:
        raise _unsafe(path, tensor, f"external data at {location!r}, which leaves the model's folder")
    file = path.parent
    state: os.stat_result | None = None
    for part in pure.parts:
        file = file / part
        try:
            state = file.lstat()
        except OSError as error:
            raise ModelFormatError(
                asked=f"open the ONNX model {path.name}",
                found=f"no external data file {location!r} ({error.strerror})",
                fix="copy the data files together with the model",
            ) from error
        if stat.S_ISLNK(state.st_mode):
            raise _unsafe(path, tensor, f"external data at {location!r}, which is or lies behind a symbolic link")
    if state is None or not stat.S_ISREG(state.st_mode):
        raise _unsafe(path, tensor, f"external data at {location!r}, which is no regular file")
    if state.st_nlink > 1:
        raise _unsafe(path, tensor, f"external data at {location!r}, which has other names (a hard link)")
    return file, state.st_size


def _check_extent(entries: dict[str, str], size: int, tensor: onnx.TensorProto, path: Path) -> None:
    offset = _number(entries.get("offset", "0"), tensor, path)
    wanted = size_bytes(tensor, path)
    length = _number(entries["length"], tensor, path) if "length" in entries else wanted
    if offset + length > size:
        raise _unsafe(path, tensor, f"bytes {offset}..{offset + length} of an external file with {size}")
    if length != wanted:
        raise _unsafe(
            path, tensor, f"{length} external bytes for {element_count(tensor, path)} elements, which take {wanted}"
        )


def _number(text: str, tensor: onnx.TensorProto, path: Path) -> int:
    # int() would take "1_0", " 1" and "+1" too, which readers in other languages don't
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > _LARGEST_OFFSET:
        raise _unsafe(path, tensor, f"external offset or length {text[:40]!r}")
    return int(text)


def _unsafe(path: Path, tensor: onnx.TensorProto, found: str) -> UnsafeFileError:
    return UnsafeFileError(
        asked=f"open the ONNX model {path.name}",
        found=f"tensor {tensor.name!r} with {found}",
        fix="nothing was read; save the model again with its data as plain files in one folder",
    )
