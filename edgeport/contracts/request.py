"""What makes two requests of work the same: their fields, files by content, scratch left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, get_type_hints

from edgeport.contracts.serialise import digest_file, to_jsonable

__all__ = ["ByContent", "Scratch", "fingerprint"]


class ByContent:
    """Marks a path whose file counts by its bytes: `Annotated[Path, ByContent]`."""


class Scratch:
    """Marks a field that decides nothing, such as where a file of known content lies: `Annotated[Path, Scratch]`."""


def fingerprint(request: object) -> dict[str, Any]:
    """JSON values that are equal for requests of the same work.

    Args:
        request: A dataclass; the marks of its fields, and of those of the dataclasses in it, are heeded.

    """
    cls: Any = type(request)
    marks = _marks(cls)
    return {
        one.name: _content(getattr(request, one.name))
        if ByContent in marks[one.name]
        else _plain(getattr(request, one.name))
        for one in fields(request)  # type: ignore[arg-type] # any dataclass
        if Scratch not in marks[one.name]
    }


@cache
def _marks(cls: Any) -> dict[str, tuple[object, ...]]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return fingerprint(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return to_jsonable(value)


def _content(path: Path | None) -> str:
    if path is None:
        return ""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """Of a file in this very state: what many requests name is read once."""
    del size, mtime_ns
    return digest_file(path)
