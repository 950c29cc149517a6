"""A link to the agent on a device: a process of `ssh` or `adb`, or what takes its place; requests in, answers out.

Nothing from the other side is trusted to be short, quick or well-formed: lines and answers have limits, silence ends
the link, and what is no answer is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from edgeport.devices.agent.serving import HELLO, PROTOCOL
from edgeport.devices.bootstrap import first_line
from edgeport.errors import DeviceError, DeviceLost, EdgeportError, error_from_dict

__all__ = ["Connection", "ProcessGroup", "StartingTransport", "Transport", "TransportProcess"]

CONNECT_S = 60.0
SILENCE_S = 45.0
_ALIVE_S = 5.0
_LONGEST_LINE = 64 << 20
_LARGEST_PAYLOAD = 128 << 20
_MOST_NOISE_BYTES = 256 << 10
_STDERR_BYTES = 64 << 10
_END_S = 2.0
_LOST_S = 0.2

Value = dict[str, Any]

_WORDS = {
    "clean": "remove what Edgeport keeps on",
    "discard": "remove a file from",
    "facts": "ask for the facts of",
    "place": "bring files to",
    "prepare": "prepare",
    "probe": "probe",
    "put": "bring a file to",
    "read": "bring a file from",
    "reserve": "reserve a place on",
    "run": "run a job on",
}
"""What is asked for, to how errors say it."""


class TransportProcess(Protocol):
    """What runs the first program: a process here, or something that behaves like one."""

    @property
    def stdin(self) -> IO[bytes] | None:
        """What is written here is read there; so with the others, each without a buffer and with a descriptor."""
        ...

    @property
    def stdout(self) -> IO[bytes] | None: ...  # noqa: D102

    @property
    def stderr(self) -> IO[bytes] | None: ...  # noqa: D102

    @property
    def returncode(self) -> int | None:
        """As `subprocess.Popen` has it."""
        ...

    def poll(self) -> int | None:
        """Its status, where it has ended."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its status; raises `subprocess.TimeoutExpired`."""
        ...

    def kill(self) -> None:
        """Ends it."""
        ...


class Transport(Protocol):
    """How the device is reached."""

    def command(self) -> list[str]:
        """The arguments of a process that runs `bootstrap.COMMAND` there, with its stdin and stdout."""
        ...

    def explain(self, status: int | None, stderr: str) -> DeviceError:
        """Why there was no connection, or no agent; `status` is None where the process had to be ended."""
        ...


@runtime_checkable
class StartingTransport(Protocol):
    """How the device is reached without a process."""

    def start(self) -> TransportProcess:
        """Has `bootstrap.COMMAND` run there.

        Raises:
            DeviceError: There is no connection.

        """
        ...

    def explain(self, status: int | None, stderr: str) -> DeviceError:
        """See `Transport`."""
        ...


class ProcessGroup(subprocess.Popen[bytes]):
    """A process with all that it starts; made with `start_new_session`."""

    def kill(self) -> None:
        """Ends them all, unless it has ended already."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def _started(transport: Transport | StartingTransport) -> TransportProcess:
    if isinstance(transport, StartingTransport):
        return transport.start()
    try:
        return ProcessGroup(
            transport.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is ours first: the device is left in order
        )
    except OSError as error:
        raise transport.explain(None, str(error)) from error


class Connection:
    """A connection to the agent; opened when made.

    Args:
        transport: How.
        name: Of the device.
        agent: The packed agent.

    Raises:
        DeviceError: There is no connection, no Python there, or no folder that can be written.

    """

    def __init__(self, transport: Transport | StartingTransport, name: str, agent: Path) -> None:
        self._name = name
        self._transport = transport
        self._stderr = bytearray()
        self._buffer = bytearray()
        self._writing = threading.Lock()
        self._lost: str | None = None
        self._ended = threading.Event()
        self._process = _started(transport)
        self._reader = threading.Thread(target=self._keep_stderr, daemon=True)
        self._reader.start()
        try:
            self.hello = self._become_agent(agent.read_bytes())
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._stay_alive, daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Whether a request can be made."""
        return self._lost is None and self._process.poll() is None

    def request(
        self, ask: Value, payload: bytes = b"", *, on_tick: Callable[[Value], None] = lambda _: None
    ) -> tuple[Value, bytes]:
        """Asks, and waits for the answer.

        Args:
            ask: What is asked for.
            payload: Bytes that go with it.
            on_tick: Told of each sign that work goes on.

        Returns:
            The answer and its bytes.

        Raises:
            DeviceLost: The link broke before there was an answer, or what came is none.
            EdgeportError: The error that the agent answered with.

        """
        asked = f"{_WORDS[ask['ask']]} {self._name}"
        try:
            self._send({**ask, "bytes": len(payload)} if payload else ask, payload)
            while True:
                frame = self._frame(time.monotonic() + SILENCE_S)
                size = frame.get("bytes", 0)
                if not isinstance(size, int) or not 0 <= size <= _LARGEST_PAYLOAD:
                    raise _NoAnswerError(f"an answer of {size!r} bytes")
                answer = self._exactly(size) if size else b""
                if "tick" in frame:
                    on_tick(frame)
                elif isinstance(frame.get("error"), dict):
                    raise _of_device(error_from_dict(frame["error"]), self._name)
                elif isinstance(frame.get("value"), dict):
                    return frame["value"], answer
                else:
                    raise _NoAnswerError("a line that is no answer")
        except OSError as error:
            raise self._lose(asked, "the link broke") from error
        except _NoAnswerError as error:
            raise self._lose(asked, str(error)) from error
        except EdgeportError:
            raise
        except BaseException:
            # An answer that nobody waited for would be taken for that of the next request.
            self._lost = "the last request was given up"
            self.close()
            raise

    def close(self, *, within_s: float = _END_S) -> None:
        """Ends the link; the agent sees it, ends what runs there, and leaves."""
        self._lost = self._lost or "it was closed"
        self._ended.set()
        process = self._process
        with self._writing, contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(timeout=1.0)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _become_agent(self, content: bytes) -> Value:
        """Has the first program there take the agent, and waits for its first word."""
        until = time.monotonic() + CONNECT_S
        digest = hashlib.sha256(content).hexdigest()
        try:
            self._write(first_line(digest, len(content)))
            if not self._first_word(until)["have"]:
                self._write(content)
            hello = self._first_word(time.monotonic() + CONNECT_S)
        except (_NoAnswerError, OSError) as error:
            raise self._no_connection(str(error)) from error
        if hello.get("hello") != PROTOCOL:
            raise self._no_connection(f"another agent than ours: {str(hello)[:200]}")
        return hello

    def _first_word(self, until: float) -> Value:
        """The next line that is marked as ours; what a login shell prints comes before."""
        noise = 0
        while True:
            line = self._line(until)
            _, marked, text = line.partition(HELLO.encode())
            if not marked:
                noise += len(line)
                if noise > _MOST_NOISE_BYTES:
                    raise _NoAnswerError("an endless greeting")
                continue
            frame = _as_frame(text)
            if "old" in frame:
                raise DeviceError(
                    asked=f"start the agent on {self._name}",
                    found=f"Python {str(frame['old'])[:20]} there",
                    fix="install Python 3.8 or newer there, as python3",
                )
            if "failed" in frame:
                raise DeviceError(
                    asked=f"start the agent on {self._name}",
                    found=str(frame["failed"])[:500],
                    fix="make room and let this user write there, or set XDG_CACHE_HOME on the device",
                )
            return frame

    def _no_connection(self, found: str) -> DeviceError:
        try:
            status: int | None = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            status = None
        self._reader.join(timeout=1.0)
        error = self._transport.explain(status, self._tail())
        error.details.setdefault("stderr", self._tail())
        error.details.setdefault("link", found)
        return error

    def _lose(self, asked: str, found: str) -> DeviceLost:
        self._lost = found
        self.close(within_s=_LOST_S)
        said = self._tail().strip().splitlines()
        return DeviceLost(
            asked=asked,
            found=f"{found}; {said[-1][:300]}" if said else found,
            fix="look at its power and network, and run the same command again: it goes on from what is there",
            details={"stderr": self._tail(), "exit_status": self._process.returncode},
        )

    def _stay_alive(self) -> None:
        while not self._ended.wait(_ALIVE_S):
            try:
                self._send({"alive": 1}, b"")
            except (OSError, ValueError):
                return

    def _send(self, frame: Value, payload: bytes) -> None:
        self._write(json.dumps(frame, allow_nan=False).encode("ascii") + b"\n" + payload)

    def _write(self, data: bytes) -> None:
        stream = self._process.stdin
        with self._writing:
            if stream is None or stream.closed:
                raise BrokenPipeError(self._lost or "the link is closed")
            left = memoryview(data)
            while left:
                left = left[os.write(stream.fileno(), left) :]

    def _frame(self, until: float) -> Value:
        return _as_frame(self._line(until))

    def _line(self, until: float) -> bytes:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > _LONGEST_LINE:
                raise _NoAnswerError(f"a line of more than {_LONGEST_LINE} bytes")
            self._more(until)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more(time.monotonic() + SILENCE_S)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _more(self, until: float) -> None:
        stream = self._process.stdout
        if stream is None or stream.closed:
            raise _NoAnswerError(self._lost or "the link is closed")
        left = until - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            raise _NoAnswerError("no word from the device")
        data = os.read(stream.fileno(), 1 << 20)
        if not data:
            raise _NoAnswerError("the link broke")
        self._buffer += data

    def _keep_stderr(self) -> None:
        stream: IO[bytes] | None = self._process.stderr
        with contextlib.suppress(OSError, ValueError):
            while stream is not None and (data := os.read(stream.fileno(), 1 << 16)):
                self._stderr += data
                del self._stderr[:-_STDERR_BYTES]

    def _tail(self) -> str:
        return self._stderr.decode(errors="replace")


def _of_device(error: EdgeportError, name: str) -> EdgeportError:
    """With the name that its user gave the device, which it does not know itself."""
    error.asked = error.asked.replace("on the device", f"on {name}")
    error.fix = error.fix.replace("edgeport devices clean NAME", f"edgeport devices clean {name}")
    return error


class _NoAnswerError(Exception):
    """What came is no answer, or nothing came."""


def _as_frame(line: bytes) -> Value:
    try:
        frame = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _NoAnswerError("a line that is no JSON") from error
    if not isinstance(frame, dict):
        raise _NoAnswerError("a line that is no JSON object")
    return frame
