"""Finds the packed session module, and opens the artifact with it."""

from __future__ import annotations

import builtins
import hashlib
import importlib
from types import ModuleType, TracebackType
from typing import Any

from edgeport.devices.agent.clock import now_ns
from edgeport.devices.agent.failure import JobError


def packed_name(session: str) -> str:
    """The flat module name under which the archive holds the session module of a dotted name.

    Flat, so that nothing of the package it came from (which is not on the device) is imported on the way; with a
    digest, so that `a_b.c` and `a.b_c` stay apart.
    """
    digest = hashlib.sha256(session.encode()).hexdigest()[:8]
    return "session_{}_{}".format(session.replace(".", "_"), digest)


def load_session_module(session: str) -> ModuleType:
    """The packed module.

    Raises:
        JobError: It was not packed.

    """
    name = packed_name(session)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise JobError(
            "DEVICE_FAILED",
            "open a session of " + session,
            "an agent in which it is not packed",
            "build the agent with this session module",
        ) from error


class ImportClock:
    """Times the outermost imports while it is entered, so that loading a runtime is not taken for opening a model.

    Attributes:
        import_ns: Time spent in import statements so far.

    """

    def __init__(self) -> None:
        self.import_ns = 0
        self._depth = 0
        self._original: Any = None

    def __enter__(self) -> ImportClock:  # noqa: PYI034 (typing.Self is not in Python 3.8)
        """Starts to watch."""
        self._original = builtins.__import__
        builtins.__import__ = self._timed_import
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Puts the plain import back."""
        builtins.__import__ = self._original

    def _timed_import(self, *arguments: Any, **keywords: Any) -> Any:
        if self._depth:
            return self._original(*arguments, **keywords)
        self._depth = 1
        before = now_ns()
        try:
            return self._original(*arguments, **keywords)
        finally:
            self.import_ns += now_ns() - before
            self._depth = 0
