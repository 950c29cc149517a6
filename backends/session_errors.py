"""What a session module raises, as Edgeport's errors; for use on this machine, where our classes exist."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from edgeport.backends.artifacts import check_artifact
from edgeport.contracts import Array, Arrays, Artifact, Call, Session
from edgeport.errors import BackendError, EdgeportError, SamplesError

__all__ = ["feed_error", "open_artifact", "runtime_errors"]

T = TypeVar("T")


def open_artifact(artifact: Artifact) -> Session:
    """Opens an artifact with its own session module, in this process.

    Its `bind` raises SamplesError for feeds that do not fit; whatever else the runtime says is a BackendError.

    Raises:
        BackendError: The folder is not what was compiled, or the runtime refused it.

    """
    path = check_artifact(artifact)
    module = importlib.import_module(artifact.session)
    opened = _guarded(artifact, "open it", lambda: module.open_session(str(path), dict(artifact.settings)))
    return _Session(artifact, opened)


class _Session:
    """A session whose errors are ours."""

    def __init__(self, artifact: Artifact, session: Session) -> None:
        self._artifact = artifact
        self._session = session

    def bind(self, feeds: Arrays) -> Call:
        """See `Session.bind`."""
        try:
            call = self._session.bind(feeds)
        except ValueError as error:
            raise feed_error(f"feed {self._artifact.backend} {self._artifact.precision}", error) from error
        except Exception as error:
            raise _backend_error(self._artifact, "bind its inputs", error) from error
        return _Call(self._artifact, call)

    def close(self) -> None:
        """See `Session.close`."""
        self._session.close()


class _Call:
    """A call whose errors are ours."""

    def __init__(self, artifact: Artifact, call: Call) -> None:
        self._artifact = artifact
        self._call = call

    def run(self) -> None:
        """See `Call.run`."""
        _guarded(self._artifact, "run it", self._call.run)

    def outputs(self) -> dict[str, Array]:
        """See `Call.outputs`."""
        return _guarded(self._artifact, "read its outputs", self._call.outputs)


def feed_error(asked: str, error: ValueError) -> SamplesError:
    """What a session says of feeds that do not fit: "asked to A; found B; F" or any text.

    Args:
        asked: Where the session does not say it.
        error: Of its `bind`.

    """
    said, colon, rest = str(error).partition("; found ")
    found, _, fix = rest.partition("; ")
    return SamplesError(
        asked=said.removeprefix("asked to ") if colon else asked,
        found=found if colon else str(error),
        fix=fix or "give arrays of the names, dtypes and shapes that the model takes",
    )


@contextmanager
def runtime_errors(asked: str, fix: str = "see what the runtime says") -> Iterator[None]:
    """Whatever the block raises is a BackendError: a runtime raises what it likes.

    Raises:
        BackendError: The block failed.

    """
    try:
        yield
    except Exception as error:
        raise BackendError(asked=asked, found=f"{type(error).__name__}: {error}", fix=fix) from error


def _guarded(artifact: Artifact, what: str, function: Callable[[], T]) -> T:
    try:
        return function()
    except EdgeportError:
        raise
    except Exception as error:
        raise _backend_error(artifact, what, error) from error


def _backend_error(artifact: Artifact, what: str, error: Exception) -> BackendError:
    return BackendError(
        asked=f"{what} ({artifact.backend} {artifact.precision}, {artifact.entry})",
        found=f"{type(error).__name__}: {error}",
        fix="see what the runtime says; `edgeport doctor` tells which runtimes work here",
    )
