"""Opens an ONNX file: size, parse, checks, and only then anything else."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts.model import OnnxModel
from edgeport.contracts.serialise import digest_file, digest_json
from edgeport.errors import ModelFormatError, ModelLimitError, OutputError, SourceError
from edgeport.onnx_files.external import check_external_data, load_external_data
from edgeport.onnx_files.functions import check_functions
from edgeport.onnx_files.mapped_weights import lay_out_weights, locate_weights
from edgeport.onnx_files.names import name_nodes
from edgeport.onnx_files.specs import default_opset, read_specs
from edgeport.onnx_files.structure import check_structure
from edgeport.onnx_files.tensors import check_tensors

if TYPE_CHECKING:
    import onnx
    import onnx_ir

__all__ = ["open_onnx", "read_ir", "read_once"]

_PROTOBUF_LIMIT_BYTES = (1 << 31) - 1
"""protobuf.dev, "Proto Limits": a message must be smaller than 2 GiB."""

_READ: dict[str, tuple[onnx.ModelProto, Path]] = {}
"""By digest, what `read_once` has read, and the folder of its weights."""


def open_onnx(path: Path) -> OnnxModel:
    """Checks a file and says what it takes and gives.

    Args:
        path: The `.onnx` file; external data lies in the same folder or below.

    Returns:
        The checked model. Unknown axes are named `unk_0`, `unk_1`, ...

    Raises:
        SourceError: No such file.
        UnsafeFileError: Its external data reaches outside its folder or its file.
        ModelFormatError: Not a complete, well-formed ONNX model.
        ModelLimitError: Larger or deeper than anything real.

    """
    return _open(Path(path))[1]


@contextlib.contextmanager
def read_once(model: OnnxModel | Path, folder: Path) -> Iterator[OnnxModel]:
    """Opens a file as `open_onnx` does; as long as this lasts, `read_ir` of it gives graphs of what was read now.

    For a process that reads one model again and again. Its large weights are written to a file in `folder` and mapped
    from there by every graph: nothing of them stays in memory between two.

    Args:
        model: The file.
        folder: Empty, and nobody else's.

    Raises:
        ModelFormatError: The file is not the one that was opened as `model`, or what `open_onnx` raises.
        OutputError: The folder has no room for them.

    """
    proto, opened = _opened(model)
    _load_external(proto, opened.path)
    try:
        _READ[opened.digest] = lay_out_weights(proto, folder), folder
    except OSError as error:
        raise OutputError(
            asked=f"lay out the weights of {opened.path.name} in {folder}",
            found=f"{error.strerror or error}",
            fix="free space there, or set TMPDIR to a folder that has some",
        ) from error
    del proto
    try:
        yield opened if not isinstance(model, OnnxModel) else model
    finally:
        del _READ[opened.digest]


def read_ir(model: OnnxModel | Path) -> onnx_ir.Model:
    """Checks a file as `open_onnx` does and reads it, weights included; no file stays open (but see `read_once`).

    Every node has a name of its own afterwards: a missing or doubled one is replaced, always by the same.

    Raises:
        ModelFormatError: The file is not the one that was opened as `model`, or what `open_onnx` raises.

    """
    import onnx_ir

    proto, folder = _READ.get(model.digest, (None, None)) if isinstance(model, OnnxModel) else (None, None)
    path = _path(model)
    if proto is None:
        proto, _ = _opened(model)
        _load_external(proto, path)
    try:
        result = onnx_ir.from_proto(proto)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OSError) as error:
        raise _unrepresentable(path, error) from error
    if folder is not None:
        locate_weights(result, folder)
    name_nodes(result)
    return result


def _path(model: OnnxModel | Path) -> Path:
    return model.path if isinstance(model, OnnxModel) else Path(os.fspath(model))


def _opened(model: OnnxModel | Path) -> tuple[onnx.ModelProto, OnnxModel]:
    proto, opened = _open(_path(model))
    if isinstance(model, OnnxModel) and model.digest != opened.digest:
        raise ModelFormatError(
            asked=f"read {model.path.name} as it was opened",
            found=f"other content (digest {opened.digest[:12]}, was {model.digest[:12]})",
            fix="open it again",
        )
    return proto, opened


def _load_external(proto: onnx.ModelProto, path: Path) -> None:
    try:
        load_external_data(proto, path)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OSError) as error:
        raise _unrepresentable(path, error) from error


def _unrepresentable(path: Path, error: Exception) -> ModelFormatError:
    return ModelFormatError(
        asked=f"read {path.name}", found=f"a model that onnx-ir can't represent ({error})", fix="export it again"
    )


def _open(path: Path) -> tuple[onnx.ModelProto, OnnxModel]:
    proto = _parse(path)
    files = check_external_data(proto, path)
    check_tensors(proto, path)
    check_functions(proto, path)
    check_structure(proto, path)
    inputs, outputs = read_specs(proto, path)
    digest = digest_json([digest_file(path), *([name, digest_file(file)] for name, file in sorted(files.items()))])
    opened = OnnxModel(path=path, inputs=inputs, outputs=outputs, opset=default_opset(proto, path), digest=digest)
    return proto, opened


def _parse(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    asked = f"open the ONNX model {path.name}"
    try:
        state = path.stat()
    except OSError as error:
        raise SourceError(asked=asked, found=f"no readable file there ({error})", fix="check the path") from error
    if not stat.S_ISREG(state.st_mode):
        raise SourceError(asked=asked, found="no regular file", fix="give the path of a .onnx file")
    if state.st_size == 0:
        raise ModelFormatError(asked=asked, found="an empty file", fix="export or copy it again")
    if state.st_size > _PROTOBUF_LIMIT_BYTES:
        raise ModelFormatError(
            asked=asked,
            found=f"{state.st_size} bytes, and protobuf ends at 2 GiB",
            fix="use external data: torch.onnx.export(external_data=True), or onnx_ir.save(external_data=...)",
        )
    try:
        data = path.read_bytes()
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        _require_no_other(data, asked)
        if "depth" in str(error).lower() or "recursion" in str(error).lower():
            raise ModelLimitError(
                asked=asked, found=f"messages nested too deep to parse ({error})", fix="flatten its subgraphs"
            ) from error
        raise ModelFormatError(
            asked=asked,
            found=f"no complete ONNX file ({error})",
            fix="export or copy it again; if it is complete, its subgraphs may be nested too deep to parse",
        ) from error
    except OSError as error:
        raise SourceError(asked=asked, found=f"it can't be read ({error})", fix="check its permissions") from error
    if proto.ir_version <= 0 or not proto.HasField("graph"):
        _require_no_other(data, asked)
        raise ModelFormatError(
            asked=asked, found="no graph or no IR version in it", fix="give an ONNX model, not another protobuf file"
        )
    return proto


def _require_no_other(data: bytes, asked: str) -> None:
    """Tells what else people take for an ONNX file: safetensors begin with the size of their JSON header."""
    if data[:4] == b"PK\x03\x04":
        raise ModelFormatError(
            asked=asked,
            found="a zip file, such as an .npz of samples or what torch.save writes",
            fix="export the model first: edgeport export pkg.mod:factory -o model.onnx",
        )
    if data[8:9] == b"{" and 8 + int.from_bytes(data[:8], "little") <= len(data):
        raise ModelFormatError(
            asked=asked,
            found="weights alone (safetensors), without a graph",
            fix="export the model with them first: edgeport export pkg.mod:factory --weights FILE -o model.onnx",
        )
