"""What a job ends with where it can't be done."""

from __future__ import annotations

from typing import Any


class JobError(Exception):
    """Becomes an `EdgeportError` of the same code on the host.

    Args:
        code: Of the error class.
        asked, found, fix: As in every error of Edgeport.

    """

    def __init__(self, code: str, asked: str, found: str, fix: str) -> None:
        super().__init__(found)
        self.record: dict[str, Any] = {"code": code, "asked": asked, "found": found, "fix": fix, "details": {}}
