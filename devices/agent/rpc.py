"""Lines of JSON in and out, each followed by as many raw bytes as it says; how a device talks with its host."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any, Callable, Dict

LONGEST_LINE = 64 << 20
SILENCE_S = 30.0
TICK_S = 5.0
_READ_BYTES = 1 << 20

Frame = Dict[str, Any]


class LinkLostError(Exception):
    """The host is gone: it closed the link, or said nothing for so long that it must be."""


class Channel:
    """One side of a link.

    The host says `{"alive": 1}` every few seconds. A link that broke is not always closed (a cable that was pulled
    tells nobody), so whoever hears nothing for `silence_s` takes it for lost.

    Args:
        source: File descriptor that is read.
        sink: File descriptor that is written.
        silence_s: Seconds without a byte after which the other side is gone.

    """

    def __init__(self, source: int, sink: int, silence_s: float = SILENCE_S) -> None:
        self.source = source
        self._sink = sink
        self._silence_s = silence_s
        self._buffer = bytearray()
        self._heard = time.monotonic()
        self._ticked = time.monotonic()

    def send(self, frame: Frame, payload: bytes = b"") -> None:
        """Writes a line and its bytes.

        Raises:
            LinkLostError: Nobody reads any more.

        """
        if payload:
            frame = {**frame, "bytes": len(payload)}
        data = memoryview(json.dumps(frame, allow_nan=False).encode("ascii") + b"\n" + payload)
        try:
            while data:
                data = data[os.write(self._sink, data) :]
        except OSError as error:
            raise LinkLostError(str(error)) from error
        self._ticked = time.monotonic()

    def tick(self) -> None:
        """Says that work goes on, if nothing was said for some seconds; and hears whether the host is there."""
        if time.monotonic() - self._ticked > TICK_S:
            self.send({"tick": 1})
        self.listen(0.0)

    def listen(self, seconds: float) -> None:
        """Waits for bytes for some seconds, and keeps those that come.

        Raises:
            LinkLostError: The link is closed, or was silent for too long.

        """
        if select.select([self.source], [], [], seconds)[0]:
            self.take()
        elif time.monotonic() - self._heard > self._silence_s:
            message = f"nothing was heard for {self._silence_s:.0f} s"
            raise LinkLostError(message)
        if self._buffer.startswith(b'{"alive"'):
            self._drop_signs_of_life()

    def take(self) -> None:
        """Keeps what can be read now; waits where there is nothing.

        Raises:
            LinkLostError: The link is closed.

        """
        try:
            data = os.read(self.source, _READ_BYTES)
        except OSError as error:
            raise LinkLostError(str(error)) from error
        if not data:
            raise LinkLostError("the link was closed")
        self._heard = time.monotonic()
        self._buffer += data

    def receive(self) -> Frame:
        """The next line that asks for something.

        Raises:
            LinkLostError: There will be none.
            ValueError: It is no JSON object, or too long.

        """
        while True:
            end = self._buffer.find(b"\n")
            if end >= 0:
                frame = json.loads(bytes(self._buffer[:end]).decode("ascii"))
                del self._buffer[: end + 1]
                if not isinstance(frame, dict):
                    raise ValueError("a line that is no JSON object")
                if "alive" not in frame:
                    return frame
            elif len(self._buffer) > LONGEST_LINE:
                message = f"a line of more than {LONGEST_LINE} bytes"
                raise ValueError(message)
            else:
                self.listen(1.0)

    def receive_bytes(self, count: int, keep: Callable[[bytes], None]) -> None:
        """Hands `count` bytes that follow a line to `keep`, piece by piece."""
        while count:
            if not self._buffer:
                self.listen(1.0)
                continue
            piece = bytes(self._buffer[:count])
            del self._buffer[: len(piece)]
            count -= len(piece)
            keep(piece)

    def _drop_signs_of_life(self) -> None:
        """Nobody asks for the next frame while a job runs, so these would pile up."""
        lines = bytes(self._buffer).split(b"\n")
        while len(lines) > 1 and lines[0].startswith(b'{"alive"'):
            lines.pop(0)
        self._buffer[:] = b"\n".join(lines)
