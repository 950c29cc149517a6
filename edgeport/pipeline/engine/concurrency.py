"""Work for several devices at once: one thread for each, which spends its time waiting for its device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from edgeport.contracts import OnProgress, ProgressEvent, silent

__all__ = ["on_each"]

T = TypeVar("T")

_LOOK_S = 0.1


def on_each(work: Mapping[str, Callable[[OnProgress], T]], on_progress: OnProgress = silent) -> dict[str, T]:
    """Does each device's work, all of them at the same time.

    Args:
        work: By name of the device; told whom to tell of progress, and must do so between its steps.
        on_progress: Told of all, one event at a time.

    Returns:
        What each gave, in the order of `work`.

    Raises:
        BaseException: What the work of the first device raised whose work failed, once the others are done. Where
            this thread is interrupted, all end at their next step.

    """
    stop = threading.Event()
    tell = _told_in_turn(on_progress, stop)
    given: dict[str, T] = {}
    failed: dict[str, BaseException] = {}

    def do(name: str) -> None:
        try:
            given[name] = work[name](tell)
        except BaseException as error:  # noqa: BLE001 (raised by the thread that waits)
            failed[name] = error

    threads = [threading.Thread(target=do, args=(name,), name=f"edgeport {name}") for name in work]
    for thread in threads:
        thread.start()
    try:
        _wait(threads)
    except BaseException:
        stop.set()
        _wait(threads)
        raise
    for name in work:
        if name in failed:
            raise failed[name]
    return {name: given[name] for name in work}


def _told_in_turn(on_progress: OnProgress, stop: threading.Event) -> OnProgress:
    telling = threading.Lock()

    def tell(event: ProgressEvent) -> None:
        if stop.is_set():
            raise _StoppedError
        with telling:
            on_progress(event)

    return tell


def _wait(threads: list[threading.Thread]) -> None:
    """In short looks, between which Ctrl-C is heard."""
    for thread in threads:
        while thread.is_alive():
            thread.join(_LOOK_S)


class _StoppedError(BaseException):
    """The run was interrupted; no `Exception`, so that it is no candidate's fault."""
