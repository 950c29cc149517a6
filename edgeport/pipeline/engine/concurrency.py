"""Work for several devices at once: one thread for each, which spends its time waiting for its device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psutil

from edgeport.contracts import OnProgress, ProgressEvent, silent

__all__ = ["R", "on_each", "side_by_side"]

T = TypeVar("T")

_LOOK_S = 0.1

R = TypeVar("R")


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


def side_by_side(
    work: Callable[[T], R], items: Sequence[T], on_done: Callable[[int], None], *, at_once: int | None = None
) -> list[R]:
    """Does `work` on every item, several at once, each of which spends its time in a child process.

    Results come in the order of the items. Nothing is timed here, so that items may share the machine.
    """
    workers = at_once or max(1, min(len(items), psutil.cpu_count(logical=False) or 1))
    done = 0
    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                future.result()
                done += 1
                on_done(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
