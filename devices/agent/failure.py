"""What a job ends with where it can't be done."""

from __future__ import annotations

from typing import Any, Tuple


class JobError(Exception):
    """Becomes an `EdgeportError` of the same code on the host.

    Args:
        code: Of the error class.
        asked, found, fix: As in every error of Edgeport.

    """

    def __init__(self, code: str, asked: str, found: str, fix: str) -> None:
        super().__init__(found)
        self.record: dict[str, Any] = {"code": code, "asked": asked, "found": found, "fix": fix, "details": {}}


def three_parts(text: str, asked: str, fix: str) -> Tuple[str, str, str]:  # noqa: UP006 (Python 3.8)
    """What was asked, found and is to be done, of a session's "asked to A; found B; F"; another text was found."""
    said, colon, rest = text.partition("; found ")
    if not colon or not said.startswith("asked "):
        return asked, text, fix
    found, _, told = rest.partition("; ")
    return said[len("asked to ") if said.startswith("asked to ") else len("asked ") :], found, told or fix
