"""Finished work is kept in files, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgeport.contracts import digest_json, load_json, to_jsonable

T = TypeVar("T")


def write(path: Path, data: str | bytes) -> None:
    """Whole or not at all; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(data.encode() if isinstance(data, str) else data)
    partial.replace(path)


def kept(path: Path, form: type[T], make: Callable[[], T]) -> T:
    """The value of a `.json`; made now and written there where there is none.

    Args:
        path: The file.
        form: A dataclass, or a type of JSON values.
        make: Makes the value.

    """
    if not path.exists():
        write(path, json.dumps(to_jsonable(make()), ensure_ascii=False))  # in the order in which tables show it
    return load_json(form, path.read_bytes())


def kept_by_key(folder: Path, name: str, key: Mapping[str, Any], make: Callable[[Path], Any]) -> Any:
    """The JSON value that is kept for the key, or what is made now.

    `make` gets a folder of this value alone. Other settings are another key: what they gave stays beside it.
    """
    place = folder / f"{name}-{digest_json(dict(key))[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    return kept(place / "row.json", dict, lambda: {"key": dict(key), "value": make(place)})["value"]


def slug(name: str) -> str:
    """A name of a table as one of a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
