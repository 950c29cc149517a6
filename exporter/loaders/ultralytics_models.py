"""Models of Ultralytics, through their own package where it is installed.

Their checkpoints are pickles, and reading one runs whatever it says. So a `.pt` is read only where the user has named
its digest. An architecture (`.yaml`) holds no code and needs no leave. The package is AGPL and optional: it is
imported for a location that asks for it, and never else.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import digest_file
from edgeport.errors import DependencyError, SourceError, UnsafeFileError
from edgeport.exporter.explain import user_line
from edgeport.exporter.silence import quiet

if TYPE_CHECKING:
    import torch

__all__ = ["load_ultralytics"]

_CHECKPOINT = ".pt"
_ARCHITECTURE = (".yaml", ".yml")


def load_ultralytics(name: str, allowed_sha256: str | None) -> torch.nn.Module:
    """Builds the model as its own exporter would hand it over: fused, in float32, without the training outputs.

    Args:
        name: A `.pt` file; or an architecture, as a `.yaml` file or the name of one that comes with the package, which
            gets random weights.
        allowed_sha256: Digest of the one `.pt` that may be read.

    Raises:
        UnsafeFileError: A `.pt` that was not allowed by its digest; nothing of it was read as a pickle.
        SourceError: No such file, or it can't be built.
        DependencyError: ultralytics is not installed.

    """
    asked = f"load ultralytics:{name}"
    suffix = Path(name).suffix
    if suffix == _CHECKPOINT:
        _require_file(asked, Path(name))
        _require_allowed(asked, Path(name), allowed_sha256)
    elif suffix not in _ARCHITECTURE:
        raise SourceError(
            asked=asked,
            found=f"the ending {suffix!r}",
            fix="give a .pt checkpoint, or the .yaml of an architecture; an exported .onnx is given as it is",
        )
    try:
        with quiet(), _own_settings():
            return _for_export(_yolo(asked)(name).model)
    except DependencyError:
        raise
    except Exception as error:
        line = user_line(error)
        raise SourceError(
            asked=asked,
            found=f"that ultralytics raised {type(error).__name__}{f' at {line}' if line else ''}: "
            f"{str(error).strip()[:300]}",
            fix="load it with ultralytics alone first",
        ) from error


def _require_file(asked: str, path: Path) -> None:
    """Its own loader would look for a missing file on the network."""
    if path.is_file():
        return
    there = [file.name for file in path.parent.glob("*.pt")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1)
    raise SourceError(
        asked=asked,
        found=f"no such file in {path.absolute().parent}; nothing is downloaded",
        fix=f"did you mean {near[0]!r}?" if near else "download it yourself, and give its path",
    )


def _require_allowed(asked: str, path: Path, allowed: str | None) -> None:
    digest = digest_file(path)
    if allowed is not None and allowed.strip().lower() == digest:
        return
    line = f'allow_pickle_sha256 = "{digest}"'
    raise UnsafeFileError(
        asked=asked,
        found=f"a pickle, whose reading runs code that it holds; its SHA-256 is {digest}"
        + (f", and {allowed} is what was allowed" if allowed is not None else ""),
        fix=f"if you trust where this very file came from, write under [model]: {line}",
        details={"sha256": digest, "line": line},
    )


@contextmanager
def _own_settings() -> Iterator[None]:
    """Read when it is imported: it would look for the network, install packages and write into the home folder."""
    with tempfile.TemporaryDirectory(prefix="edgeport-ultralytics-") as folder:
        settings = {"OFFLINE": "true", "AUTOINSTALL": "false", "VERBOSE": "false", "CONFIG_DIR": folder}
        for key, value in settings.items():
            os.environ.setdefault(f"YOLO_{key}", value)
        try:
            yield
        finally:
            if os.environ.get("YOLO_CONFIG_DIR") == folder:
                del os.environ["YOLO_CONFIG_DIR"]


def _yolo(asked: str) -> Any:
    try:
        from ultralytics import YOLO
    except ImportError as error:
        raise DependencyError(
            asked=asked,
            found=f"ultralytics can't be imported ({error})",
            fix="pip install ultralytics; mind that its licence is AGPL-3.0",
        ) from error
    return YOLO


def _for_export(model: torch.nn.Module) -> torch.nn.Module:
    """What ultralytics' own exporter sets before it exports; the attributes are those of its heads."""
    model = model.float().eval()
    if callable(fuse := getattr(model, "fuse", None)):
        model = fuse(verbose=False)
    for parameter in model.parameters():
        parameter.requires_grad = False
    part: Any
    for part in model.modules():
        if hasattr(part, "export") and not callable(part.export):
            part.export, part.format = True, "onnx"
        if hasattr(part, "dynamic") and hasattr(part, "anchors"):
            part.dynamic = True  # anchors are made anew in each call; kept ones would fix the batch
    return model
