"""Rows that an earlier start of the benchmark left in `--out`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["kept", "slug"]

Row = TypeVar("Row")


def kept(path: Path, form: type[Row], make: Callable[[], Row] | None) -> Row | None:
    """The row in a file, or made now and written there; None where there is none and none is to be made.

    Args:
        path: The `.json`.
        form: A dataclass of JSON values.
        make: Makes the row.

    """
    if path.exists():
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return form(**fields)
    if make is None:
        return None
    row = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(row), indent=1, allow_nan=False), encoding="utf-8")  # type: ignore[call-overload]
    partial.replace(path)
    return row


def slug(name: str) -> str:
    """A name of a table as one of a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
