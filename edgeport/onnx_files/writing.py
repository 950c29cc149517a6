"""Writes a model so that its path shows the old file or the new one, never half of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.atomic import sync
from edgeport.contracts.model import OnnxModel
from edgeport.errors import OutputError
from edgeport.onnx_files.mapped_weights import load_weights, weights_folder
from edgeport.onnx_files.reading import open_onnx
from edgeport.onnx_files.streamed import save_streamed

if TYPE_CHECKING:
    import onnx_ir

__all__ = ["write_ir", "write_scratch"]

_EXTERNAL_ABOVE_BYTES = 1536 << 20
"""protobuf ends at 2 GiB; the graph itself needs room too."""

_INLINE_BELOW_BYTES = 256
"""Scalars and small vectors stay in the model file, where shape inference finds them."""


def write_ir(model: onnx_ir.Model, path: Path) -> OnnxModel:
    """Writes the model, with the IR version that it has, and opens what was written.

    Above 1.5 GiB of weights these go to `NAME.onnx.DIGEST.data` beside it. That name changes with the content, so that
    an older model at the same path keeps its own data until the new one is in place.

    Raises:
        OutputError: The path is a link or can't be written; what was there is as it was.

    """
    path = Path(path)
    weights = _weights(model)
    external = _is_large(weights)
    if not external:
        load_weights(model)
    data_name = f"{path.name}.{_digest(weights)}.data" if external else None
    _refuse_link(path)
    if data_name:
        _refuse_link(path.parent / data_name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            _save(model, Path(folder), path, data_name)
    except OSError as error:
        raise OutputError(
            asked=f"write {path}", found=f"{error.strerror or error}", fix="free space there, or choose another folder"
        ) from error
    _remove_old_data(path, data_name)
    return open_onnx(path)


def write_scratch(model: onnx_ir.Model, folder: Path, name: str) -> Path:
    """Writes a model that a runtime opens next, and nobody reads after this process: without checks or syncing.

    It may have what `write_ir` refuses, such as an output whose rank nobody knows.

    Args:
        model: A graph.
        folder: An empty one.
        name: Of the file, as a runtime's errors will name it.

    Returns:
        The file: in `folder`, or beside the weights that the graph maps, where `name` is free there.

    """
    import onnx_ir

    beside = weights_folder(model)
    held = [tensor for tensor in _weights(model) if not isinstance(tensor, onnx_ir.ExternalTensor)]
    if beside is not None and not (beside / name).exists() and not _is_large(held):
        onnx_ir.save(model, beside / name)
        return beside / name
    load_weights(model)
    if _is_large(_weights(model)):
        onnx_ir.save(model, folder / name, external_data="scratch.data")
    else:
        save_streamed(model, folder / name)
    return folder / name


def _weights(model: onnx_ir.Model) -> list[onnx_ir.TensorProtocol]:
    return [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]


def _is_large(weights: list[onnx_ir.TensorProtocol]) -> bool:
    return sum(tensor.nbytes for tensor in weights) > _EXTERNAL_ABOVE_BYTES


def _save(model: onnx_ir.Model, folder: Path, path: Path, data_name: str | None) -> None:
    import onnx_ir

    if data_name is None:
        save_streamed(model, folder / path.name)
    else:
        onnx_ir.save(model, folder / path.name, external_data=data_name, size_threshold_bytes=_INLINE_BELOW_BYTES)
    # The data first: a model without its data would be half.
    for name in filter(None, (data_name, path.name)):
        sync(folder / name)
        target = path.parent / name
        _refuse_link(target)  # again: planted while the model was written
        (folder / name).replace(target)
    sync(path.parent)


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise OutputError(
            asked=f"write {path}",
            found=f"a symbolic link there, to {os.readlink(path)!r}",  # noqa: PTH115 (as it is written in the link)
            fix="remove the link, or write to where it points",
        )
    if path.exists() and not path.is_file():
        raise OutputError(asked=f"write {path}", found="something there that is no file", fix="choose another name")


def _digest(tensors: list[onnx_ir.TensorProtocol]) -> str:
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(f"{tensor.name} {tensor.dtype} {tensor.shape} ".encode())
        state.update(tensor.tobytes())
    return state.hexdigest()[:16]


def _remove_old_data(path: Path, data_name: str | None) -> None:
    """Data of earlier models at this path; nothing names it any more."""
    for file in path.parent.glob("*.data"):
        middle = file.name.removeprefix(f"{path.name}.").removesuffix(".data")
        is_ours = file.name.startswith(f"{path.name}.") and len(middle) == 16 and set(middle) <= set("0123456789abcdef")
        if is_ours and file.name != data_name and not file.is_symlink():
            with contextlib.suppress(OSError):  # a reader on Windows may hold it
                file.unlink()
