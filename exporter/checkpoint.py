"""Weights from a file, read so that nothing in the file is executed, and weights into one.

Only two readers are ever used: safetensors, and `torch.load(weights_only=True)`. Where the second refuses a
file, that is the answer; there is no second try with the unsafe loader.
"""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.archives import check_archive
from edgeport.atomic import atomic_file
from edgeport.errors import SourceError, UnsafeFileError
from edgeport.exporter.silence import quiet

if TYPE_CHECKING:
    import torch

__all__ = ["is_safetensors", "read_state_dict", "write_weights"]

_CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
"""Keys under which training scripts keep the weights beside optimizer and epoch."""

_MOST_TENSORS = 1 << 16
"""The largest models have some ten thousand; each costs time and memory before its name can be compared."""

_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put in front of every name."""

_WANTS_CODE = r"GLOBAL|global|Unsupported operand (147|149)\b"
"""In the words of torch's safe unpickler; 147 and 149 are STACK_GLOBAL and FRAME of protocol 4, which it has not."""

_SHOWN = 5
"""Names listed in a message; the details hold them all."""

_SAVE = "save only the weights: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, by name, on the CPU.

    Weights are also found under the usual keys ("state_dict", "model", ...) of a larger checkpoint, and the
    prefixes of DataParallel and torch.compile are taken off.

    Args:
        path: A `.safetensors` file, or what `torch.save` wrote.

    Raises:
        UnsafeFileError: A pickle that needs more than plain tensors; nothing of it was executed.
        SourceError: Missing, damaged, or without weights.

    """
    asked = f"load the weights {path.name}"
    if not path.is_file():
        raise SourceError(asked=asked, found=f"no file at {path}", fix="check the path")
    raw = _read_safetensors(path) if is_safetensors(path) else _read_pickle(path)
    found = _tensors_of(raw)
    if not found:
        kind = type(raw).__name__
        keys = ", ".join(repr(key) for key in list(raw)[:_SHOWN]) if isinstance(raw, Mapping) else ""
        raise SourceError(
            asked=asked,
            found=f"a {kind} without a state dict" + (f" (its keys: {keys})" if keys else ""),
            fix=_SAVE,
        )
    return _without_prefix(found)


def write_weights(module: torch.nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes all of a module's state as safetensors, in one step; whoever may read a file made here may read it.

    Tensors that share memory get a copy each, which the format wants.
    """
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    with atomic_file(path) as draft:
        draft.touch()
        usual = stat.S_IMODE(draft.stat().st_mode)
        save_file(tensors, draft, metadata=dict(metadata) if metadata else None)
        draft.chmod(usual)  # save_file makes a file that its owner alone can read


def is_safetensors(path: Path) -> bool:
    """By content, so that a renamed pickle is not handed to the wrong reader: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    return path.suffix == ".safetensors" or (len(head) == 9 and head[8:] == b"{" and head[:2] != b"PK")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            count = len(file.keys())
        if count > _MOST_TENSORS:
            raise SourceError(
                asked=f"load the weights {path.name}",
                found=f"{count} tensors, more than the {_MOST_TENSORS} that a model may have",
                fix="use a file whose maker you know, or save the weights of this model alone",
            )
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise SourceError(
            asked=f"load the weights {path.name}", found=f"a damaged safetensors file ({error})", fix="save it again"
        ) from error


def _read_pickle(path: Path) -> object:
    import pickle  # noqa: TID251 (only the name of its error is used; nothing is unpickled here)

    import torch

    asked = f"load the weights {path.name}"
    try:
        if zipfile.is_zipfile(path):
            check_archive(path, asked=asked, paths=True)
        with quiet():  # It warns of pickle protocols before it refuses them.
            # Files older than the zip format can't be mapped into memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnsafeFileError:
        raise
    except pickle.UnpicklingError as error:
        message = str(error)
        if "Weights only load failed" in message and re.search(_WANTS_CODE, message):
            raise UnsafeFileError(
                asked=asked, found=f"a pickle that {_wants(message)}; nothing of it was executed", fix=_SAVE
            ) from error
        raise SourceError(
            asked=asked, found=f"a damaged or foreign file ({_first_line(message)})", fix=_SAVE
        ) from error
    except Exception as error:  # a damaged file makes the safe unpickler raise anything, IndexError too
        raise SourceError(
            asked=asked, found=f"a damaged or foreign file ({_first_line(str(error))})", fix=_SAVE
        ) from error


def _wants(message: str) -> str:
    """What a refused pickle asked for, in a few words."""
    named = re.search(r"GLOBAL ([\w.]+)", message)
    return f"calls {named.group(1)}" if named else "only the unsafe loader would read"


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0][:200] if message.strip() else "no reason given"


def _tensors_of(raw: object) -> dict[str, torch.Tensor]:
    """The state dict in what was read; empty where there is none."""
    import torch

    if not isinstance(raw, Mapping) or not raw:
        return {}
    if all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in raw.items()):
        return dict(raw)
    for key in _CONTAINERS:
        inner = _tensors_of(raw.get(key))
        if inner:
            return inner
    return {}


def _without_prefix(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in _PREFIXES * 2:
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights
