"""The child's side: ties itself to its parent, sets its limits, runs one function, writes one result.

Run by `edgeport.isolation.parent`: `python -X faulthandler -m edgeport.isolation.child FOLDER`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import inspect
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.isolation.light_imports import defer_sympy
from edgeport.isolation.memory import peak_memory_bytes
from edgeport.isolation.protocol import FAULTS, PROGRESS, REQUEST, RESULT, is_out_of_memory

if TYPE_CHECKING:
    from edgeport.contracts import ProgressEvent

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SHELL = "/bin/sh"
_END_WHEN_STDIN_CLOSES = 'while read -r _; do :; done; kill -9 "$1"; rm -rf -- "$2"; kill -9 0'
_TRACEBACK_LINES = 30
_ALLOCATIONS = 5000
"""New objects between two looks for garbage. Imports after the start make many; with Python's own 700 the looks took a
tenth of the CPU time of a child that calibrates a small model."""


def main() -> None:
    """Does the work that the folder's request describes, and ends the process."""
    gc.disable()  # until what stays for good is imported
    folder = Path(sys.argv[1])
    request = json.loads((folder / REQUEST).read_bytes())
    _die_with_parent(request["parent"], folder)
    _record_faults(folder)
    _limit_resources(request["address_space_bytes"])
    _restore_environment(request)
    defer_sympy()
    result = _answer(request, folder)
    partial = folder / f"{RESULT}.partial"
    partial.write_text(result, encoding="utf-8")
    partial.replace(folder / RESULT)
    # The work is done and on disk: a runtime that crashes while it is unloaded must not undo that.
    os._exit(0)


def _die_with_parent(parent: int, folder: Path) -> None:
    """Makes sure that nothing of this process group is left when the parent is gone, however it went."""
    if sys.platform == "win32":
        threading.Thread(target=_end_when_stdin_closes, args=(folder,), daemon=True).start()
        return
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)
    # The kernel kills this process only, not its children. A process of its own watches for those, because a thread
    # here would wait for ever on native code that holds the interpreter's lock.
    if os.getpgrp() == os.getpid():
        _watch_parent(folder)
    with Path(os.devnull).open("rb") as null:
        os.dup2(null.fileno(), 0)


def _watch_parent(folder: Path) -> None:
    """Starts what does `_end_when_stdin_closes` for this group, in a tenth of an interpreter's memory."""
    try:
        os.posix_spawn(
            _SHELL, ["sh", "-c", _END_WHEN_STDIN_CLOSES, "edgeport", str(os.getpid()), str(folder)], os.environ
        )
    except OSError:  # a container without a shell
        if os.fork() == 0:
            _end_when_stdin_closes(folder)


def _end_when_stdin_closes(folder: Path) -> None:
    """Waits for the parent's death; then ends the group, and removes the folder in the parent's stead."""
    while os.read(0, 4096):
        pass
    if sys.platform == "win32":
        os._exit(1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(os.getpgrp(), signal.SIGKILL)  # the child first: it writes into the folder
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _record_faults(folder: Path) -> None:
    """Stacks go to a file of their own, where no output of a runtime is mixed in."""
    file = (folder / FAULTS).open("w", encoding="utf-8")  # left open: it is written to when the process dies
    faulthandler.enable(file=file, all_threads=True)
    if sys.platform != "win32":
        # The parent asks for the stack before it kills a child that hangs.
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)


def _limit_resources(address_space_bytes: int | None) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is expected, and needs no gigabytes on disk
    if address_space_bytes is not None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = address_space_bytes if hard == resource.RLIM_INFINITY else min(address_space_bytes, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS knows the limit and refuses to set it
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _restore_environment(request: dict[str, Any]) -> None:
    """The parent's own import path; PYTHONPATH only carried it this far and must not reach grandchildren."""
    sys.path[:] = request["path"]
    if request["pythonpath"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = request["pythonpath"]


def _answer(request: dict[str, Any], folder: Path) -> str:
    """The result as JSON text: one of the keys value, error, raised."""
    from edgeport.errors import EdgeportError

    try:
        value = _call(request["function"], request["payload"], folder)
        if not isinstance(value, dict):
            raise TypeError(f"{request['function']} returned {type(value).__name__}, not a dict")
        return json.dumps({"value": value})
    except EdgeportError as error:
        memory = _is_memory_error(error)
        return json.dumps(
            {"error": error.to_dict(), "traceback": _lines(error), "memory": memory, **_peak()}, default=repr
        )
    except BaseException as error:  # noqa: BLE001 (sys.exit and KeyboardInterrupt are answers too)
        raised = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return json.dumps(
            {"raised": raised, "traceback": _lines(error), "memory": _is_memory_error(error), **_peak()}, default=repr
        )


def _call(function: str, payload: dict[str, Any], folder: Path) -> object:
    module, _, name = function.partition(":")
    target: Callable[..., object] = getattr(importlib.import_module(module), name)
    gc.freeze()  # modules are never garbage, so no look for any need walk over them
    gc.set_threshold(_ALLOCATIONS)
    gc.enable()
    if "on_progress" in inspect.signature(target).parameters:
        with (folder / PROGRESS).open("a", encoding="utf-8") as file:
            return target(payload, on_progress=_teller(file.write, file.flush))
    return target(payload)


def _teller(write: Callable[[str], object], flush: Callable[[], object]) -> Callable[[ProgressEvent], None]:
    lock = threading.Lock()

    def tell(event: ProgressEvent) -> None:
        from edgeport.contracts import dump_json

        line = dump_json(event).decode() + "\n"
        with lock:
            write(line)
            flush()

    return tell


def _is_memory_error(error: BaseException) -> bool:
    """Whether memory ran out, here or in what this error was raised from."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:  # an error may have been raised from itself
        chain.append(cause)
        cause = cause.__cause__
    return any(isinstance(one, MemoryError) or is_out_of_memory(str(one)) for one in chain)


def _peak() -> dict[str, int]:
    peak = peak_memory_bytes()
    return {"peak_memory_bytes": peak} if peak else {}


def _lines(error: BaseException) -> str:
    return "\n".join("".join(traceback.format_exception(error)).splitlines()[-_TRACEBACK_LINES:])


if __name__ == "__main__":
    main()
