"""The caller's side: starts the child, watches its time and memory, and turns its end into a result or an error."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from edgeport.contracts.execution import Limits
from edgeport.contracts.progress import OnProgress, ProgressEvent, silent
from edgeport.contracts.serialise import load_json
from edgeport.errors import (
    ChildCrash,
    ChildTimeout,
    ContractError,
    EdgeportError,
    IsolationError,
    ResourceLimit,
    error_from_dict,
)
from edgeport.isolation.memory import TreeMemory, address_space_limit, oom_kills
from edgeport.isolation.protocol import (
    FAULTS,
    MORE_MEMORY,
    MORE_TIME,
    PROGRESS,
    REQUEST,
    RESULT,
    RESULT_LIMIT_BYTES,
    is_out_of_memory,
)

__all__ = ["run_isolated"]

_POLL_S = 0.05
_STDERR_KEPT_BYTES = 64 << 10
_TEXT_SHOWN_CHARS = 4000
_STACK_WAIT_S = 0.3


def run_isolated(
    function: str,
    payload: Mapping[str, object],
    *,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    on_progress: OnProgress = silent,
    asked: str = "",
) -> dict[str, Any]:
    """Runs `function` in a child process of its own group and returns what it returned.

    Args:
        function: `"pkg.module:function"`; called with the payload, and with `on_progress` if it has such a parameter.
        payload: JSON values.
        limits: Wall-clock time from the start of the process, and resident memory of it and its children.
        on_progress: Told of each event while the child runs.
        asked: What the user asked for, as errors of the child's end say it ("calibrate net.onnx").

    Returns:
        The function's dict of JSON values.

    Raises:
        EdgeportError: The one that the function raised.
        ChildTimeout: It took longer than `limits.time_s`.
        ResourceLimit: It took more memory than `limits.memory_bytes`, or was refused some.
        ChildCrash: It died by a signal, or ended without a result.
        IsolationError: It raised an error that is not Edgeport's own, or returned something that is not JSON.

    """
    folder = Path(tempfile.mkdtemp(prefix="edgeport-child-"))
    try:
        _write_request(folder, function, payload, limits)
        child = _start(folder, asked or f"run {function} in a child process", limits)
        try:
            _watch(child, on_progress)
        finally:
            _end(child)
        _tell(child, on_progress)
        return _outcome(child)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(kw_only=True)
class _Child:
    asked: str
    limits: Limits
    folder: Path
    process: subprocess.Popen[bytes]
    memory: TreeMemory
    oom_kills_before: int
    stderr: bytearray = field(default_factory=bytearray)
    reader: threading.Thread | None = None
    progress_read: int = 0
    deadline_s: float
    overdue: bool = False
    over_memory: bool = False


def _write_request(folder: Path, function: str, payload: Mapping[str, object], limits: Limits) -> None:
    module, _, name = function.partition(":")
    if not (module and name) or module == "__main__":
        raise IsolationError(
            asked=f"run {function!r} in a child process",
            found="no importable function of that name",
            fix='give it as "package.module:function"',
        )
    try:
        text = json.dumps(
            {
                "function": function,
                "payload": payload,
                "parent": os.getpid(),
                "path": [os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100 (resolve() would follow links)
                "pythonpath": os.environ.get("PYTHONPATH"),
                "address_space_bytes": address_space_limit(limits.memory_bytes),
            }
        )
    except (TypeError, ValueError) as error:
        raise IsolationError(
            asked=f"run {function} in a child process",
            found=f"a payload that is not JSON ({error})",
            fix="pass strings, numbers, lists and dicts; write arrays to a file and pass its path",
        ) from error
    (folder / REQUEST).write_text(text, encoding="utf-8")


def _start(folder: Path, asked: str, limits: Limits) -> _Child:
    before = oom_kills()
    process = subprocess.Popen(
        # -P: the working folder is not searched for modules of the same names
        [sys.executable, "-P", "-X", "faulthandler", "-m", "edgeport.isolation.child", str(folder)],
        stdin=subprocess.PIPE,  # never written to: it closes when this process dies
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)},  # noqa: PTH100
        start_new_session=True,
    )
    child = _Child(
        asked=asked,
        limits=limits,
        folder=folder,
        process=process,
        memory=TreeMemory(process.pid),
        oom_kills_before=before,
        deadline_s=time.monotonic() + limits.time_s,
    )
    if process.stderr is not None:
        child.reader = threading.Thread(target=_keep_tail, args=(process.stderr, child.stderr), daemon=True)
        child.reader.start()
    return child


def _keep_tail(stream: IO[bytes], kept: bytearray) -> None:
    """Reads to the end, so that the child never waits for us, and keeps the last bytes."""
    with contextlib.suppress(OSError, ValueError):
        while chunk := os.read(stream.fileno(), 1 << 16):
            kept += chunk
            del kept[:-_STDERR_KEPT_BYTES]


def _watch(child: _Child, on_progress: OnProgress) -> None:
    """Returns when the child has ended, or must be ended."""
    with contextlib.ExitStack() as stack:
        wait = _waiter(child.process, stack)
        while True:
            left = child.deadline_s - time.monotonic()
            ended = wait(max(0.0, min(_POLL_S, left)))
            _tell(child, on_progress)
            if ended:
                return
            if child.memory.read() > child.limits.memory_bytes:
                child.over_memory = True
                return
            if left <= 0:
                child.overdue = True
                _ask_for_stack(child)
                return


def _waiter(process: subprocess.Popen[bytes], stack: contextlib.ExitStack) -> Any:
    """A function that waits some seconds for the process's end, and says whether it came.

    Where the kernel has process descriptors, the wait leaves the dead process in place: its group's number can't be
    given to strangers before the group is killed.
    """
    if sys.platform == "linux":
        import select

        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:  # an old kernel, or a container that forbids it
            pass
        else:
            stack.callback(os.close, descriptor)
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return lambda seconds: bool(poll.poll(seconds * 1000))

    def wait(seconds: float) -> bool:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    return wait


def _ask_for_stack(child: _Child) -> None:
    """Has faulthandler write where the child hangs, and gives it a moment to do so."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        child.process.send_signal(signal.SIGUSR1)
    until = time.monotonic() + _STACK_WAIT_S
    while time.monotonic() < until and not _text(child.folder / FAULTS):
        time.sleep(0.01)
    time.sleep(0.02)  # the rest of the stack


def _end(child: _Child) -> None:
    """Kills all that is left of the child's group, and gathers its end."""
    process = child.process
    if sys.platform == "win32":
        import psutil

        for member in child.memory.processes():
            with contextlib.suppress(psutil.Error):
                member.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
    if child.reader is not None:
        child.reader.join(timeout=1.0)  # a process that left the group may still hold the other end
    if process.stderr is not None and not (child.reader and child.reader.is_alive()):
        process.stderr.close()


def _tell(child: _Child, on_progress: OnProgress) -> None:
    """Hands on the progress lines that are whole by now."""
    try:
        with (child.folder / PROGRESS).open("rb") as file:
            file.seek(child.progress_read)
            data = file.read(1 << 20)
    except FileNotFoundError:
        return
    whole = data.rpartition(b"\n")[0]
    if not whole:
        return
    child.progress_read += len(whole) + 1
    for line in whole.split(b"\n"):
        with contextlib.suppress(ContractError):  # a damaged line is no reason to lose the work
            event = load_json(ProgressEvent, line)
            on_progress(event)


def _outcome(child: _Child) -> dict[str, Any]:
    if child.over_memory:
        raise _memory_error(child, f"more than {_size(child.limits.memory_bytes)} in use")
    if child.overdue:
        raise ChildTimeout(
            asked=f"{child.asked} within {child.limits.time_s:g} s",
            found="it was still at work, and was killed" + _innermost(child),
            fix=MORE_TIME,
            details=_details(child),
        )
    result = child.folder / RESULT
    if result.exists():
        if result.stat().st_size > RESULT_LIMIT_BYTES:
            raise IsolationError(
                asked=child.asked,
                found=f"a result of {result.stat().st_size} bytes",
                fix="write large data to a file and return its path",
            )
        return _answer(child, json.loads(result.read_bytes()))
    raise _death(child)


def _answer(child: _Child, answer: dict[str, Any]) -> dict[str, Any]:
    if "value" in answer:
        value: dict[str, Any] = answer["value"]
        return value
    child.memory.peak_bytes = max(child.memory.peak_bytes, int(answer.get("peak_memory_bytes", 0)))
    error: EdgeportError
    if answer["memory"]:
        found = answer["raised"] if "raised" in answer else answer["error"]["found"]
        raise _memory_error(child, found, answer["traceback"])
    if "error" in answer:
        error = error_from_dict(answer["error"])
    else:
        error = IsolationError(
            asked=child.asked,
            found=f"it raised {answer['raised']}",
            fix="read the last lines of its traceback (in this error's details)",
            details={"raised": answer["raised"], "traceback": answer["traceback"]},
        )
    error.add_note(f"In the child process:\n{answer['traceback']}")
    raise error


def _memory_error(child: _Child, found: str, traceback: str = "") -> ResourceLimit:
    return ResourceLimit(
        asked=f"{child.asked} within {_size(child.limits.memory_bytes)} of memory",
        found=f"{found}; at its peak it held {_size(child.memory.peak_bytes)}",
        fix=MORE_MEMORY,
        details={"limit_bytes": child.limits.memory_bytes, "traceback": traceback, **_details(child)},
    )


def _death(child: _Child) -> IsolationError:
    status = child.process.returncode
    stderr = child.stderr.decode(errors="replace")
    if status == -signal.SIGABRT and is_out_of_memory(stderr):
        return _memory_error(child, "the runtime was refused memory and aborted")
    if os.name != "nt" and status == -signal.SIGKILL and oom_kills() > child.oom_kills_before:
        return _memory_error(child, "the system killed it for want of memory")
    if status < 0:
        name = _signal_name(-status)
        return ChildCrash(
            asked=child.asked,
            found=f"it died by {name}" + _innermost(child),
            fix="other work is not touched; report the stack (in this error's details) to the runtime's makers",
            details={"signal": name, **_details(child)},
        )
    return ChildCrash(
        asked=child.asked,
        found=f"it ended with exit status {status} and no result",
        fix="read the end of its stderr (in this error's details)",
        details={"exit_status": status, **_details(child)},
    )


def _details(child: _Child) -> dict[str, object]:
    return {
        "peak_memory_bytes": child.memory.peak_bytes,
        "stack": _text(child.folder / FAULTS)[-_TEXT_SHOWN_CHARS:],
        "stderr": child.stderr.decode(errors="replace")[-_TEXT_SHOWN_CHARS:],
    }


def _innermost(child: _Child) -> str:
    """` in File "...", line 3 in name`: the first frame of the thread that faulthandler calls the current one."""
    lines = _text(child.folder / FAULTS).splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("Current thread")), 0)
    frame = next((line.strip() for line in lines[start:] if line.lstrip().startswith("File ")), "")
    return f" in {frame}" if frame else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _size(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"
