"""A training of a child in as many processes as are asked for: what it is told goes in, what the first one says out.

Numbers, progress and errors come back from them as JSON, through a pipe of each; and which files were read there, which
are told to the audit hooks of this process as if it had read them: whoever notes what a result rests on sees them too.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from edgeport.contracts import OnProgress, ProgressEvent, load_json, to_jsonable
from edgeport.errors import EdgeportError, error_from_dict
from edgeport.exporter.train.distributed import DistributedContext, launch, this_process

if TYPE_CHECKING:
    Work = Callable[[Mapping[str, Any], DistributedContext, OnProgress], dict[str, Any]]

__all__ = ["in_processes"]

_LOOK_S = 0.2
_WRITES = os.O_WRONLY | os.O_RDWR


def in_processes(
    work: Work, payload: Mapping[str, Any], *, processes: int, device: str, on_progress: OnProgress
) -> dict[str, Any]:
    """Does `work` here, or once in each of several new processes that share each batch of its training.

    Args:
        work: A function of a module: what it is told, what the process has, and whom it tells of its progress. What it
            writes, the process of rank 0 writes alone.
        payload: JSON values.
        processes: 1 for this one; one per GPU, or on the CPU any number.
        device: As in `this_process`.
        on_progress: Told by the process of rank 0.

    Returns:
        What the process of rank 0 returned: JSON values.

    Raises:
        EdgeportError: The first one that a process raised.
        RuntimeError: A process raised another error, such as one of the user's own loss.
        UsageError: No such device, or fewer GPUs than processes.
        DependencyError: Lightning Fabric is not installed.

    """
    if processes == 1:
        return work(payload, this_process(device), on_progress)
    pipes = [multiprocessing.get_context("spawn").Pipe(duplex=False) for _ in range(processes)]
    heard = _Results(on_progress)
    try:
        with heard.listening([reader for reader, _ in pipes]):
            launch(
                partial(_in_one, work, dict(payload), [writer for _, writer in pipes]),
                processes=processes,
                device=device,
            )
    except Exception as error:
        if heard.error is not None:
            raise heard.error from error
        if heard.raised:
            line, trace = heard.raised
            raised = RuntimeError(f"in a process of the training, {line}")
            raised.add_note(trace)  # stands last where the traceback of all this is cut
            raise raised from error
        if heard.failure is not None:
            raise heard.failure from error
        raise
    finally:
        for reader, writer in pipes:
            reader.close()
            writer.close()
    if heard.failure is not None:
        raise heard.failure
    return heard.result


class _Results:
    """What the processes say: `progress`, `read`, `result`, `error` and `raised`."""

    def __init__(self, on_progress: OnProgress) -> None:
        self.result: dict[str, Any] = {}
        self.error: EdgeportError | None = None
        self.raised: list[str] = []
        self.failure: Exception | None = None
        self._on_progress, self._ended = on_progress, threading.Event()

    @contextlib.contextmanager
    def listening(self, readers: Sequence[Connection]) -> Iterator[None]:
        """Hears them, until all that was said before the end is heard."""
        thread = threading.Thread(target=self._listen, args=(list(readers),), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _listen(self, readers: list[Connection]) -> None:
        while readers:
            ended = self._ended.is_set()
            ready = wait(readers, timeout=0 if ended else _LOOK_S)
            for reader in ready:
                if isinstance(reader, Connection):
                    self._take(reader, readers)
            if ended and not ready:
                return

    def _take(self, reader: Connection, readers: list[Connection]) -> None:
        try:
            said = json.loads(reader.recv_bytes())
        except (EOFError, OSError, ValueError):  # a process that was ended, perhaps amid a word
            readers.remove(reader)
            return
        if "progress" in said:
            try:
                self._on_progress(load_json(ProgressEvent, json.dumps(said["progress"])))
            except Exception as error:  # noqa: BLE001 (raised where the training was asked for)
                self.failure = error
                for each in readers:
                    each.close()  # whoever speaks on ends: nobody would empty the pipe, and it would wait for ever
                readers.clear()
        elif "read" in said:
            for path in said["read"]:
                sys.audit("open", path, "r", os.O_RDONLY)
        elif "error" in said:
            self.error = self.error or error_from_dict(said["error"])
        elif "raised" in said:
            self.raised = self.raised or said["raised"]
        else:
            self.result = said["result"]


def _in_one(
    work: Work, payload: Mapping[str, Any], writers: Sequence[Connection], hardware: DistributedContext
) -> None:
    writer = writers[hardware.rank]

    def say(what: str, value: Any) -> None:
        writer.send_bytes(json.dumps({what: value}, default=repr).encode())

    def tell(event: ProgressEvent) -> None:
        if hardware.rank == 0:
            say("progress", to_jsonable(event))

    read = set[str]()
    sys.addaudithook(partial(_note_read, read))
    try:
        result = work(payload, hardware, tell)
    except EdgeportError as error:
        say("error", error.to_dict())
        raise
    except Exception as error:
        say("raised", [f"{type(error).__name__}: {error}", traceback.format_exc()])
        raise
    if hardware.rank == 0:
        say("read", sorted(read))
        say("result", result)


def _note_read(read: set[str], event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (docs.python.org/3/library/audit_events.html)."""
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike) and not (arguments[2] or 0) & _WRITES:
        read.add(os.fsdecode(arguments[0]))
