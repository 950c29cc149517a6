"""What an Android device runs artifacts with: a Python, or the benchmark program of a runtime; whichever is found."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from edgeport.devices.adb import PATHS, AdbTransport
from edgeport.devices.benchmark_programs import PROGRAMS
from edgeport.devices.connection import ProcessGroup
from edgeport.devices.inventory import AdbAddress
from edgeport.errors import DeviceError, DeviceLost

__all__ = ["AndroidEnvironment", "Shell", "look"]

_END = "edgeport-end"
_LARGEST_BYTES = 64 << 20
_STDERR_BYTES = 64 << 10
_LOOK_S = 30.0
_PATH = re.compile(r"/[A-Za-z0-9._/+-]{1,200}")
"""What a shell takes as it stands."""


@dataclass(frozen=True, kw_only=True)
class AndroidEnvironment:
    """What is there.

    Attributes:
        python: Path of an interpreter; empty where there is none.
        programs: Benchmark programs: name to path.
        folder: For temporary files.

    """

    python: str
    programs: dict[str, str]
    folder: str


class Shell:
    """Commands of a device's shell by `adb`, each with limits of time and output; all words are Edgeport's own.

    Args:
        address: Of the device.
        name: As the user calls it.

    """

    def __init__(self, address: AdbAddress, name: str) -> None:
        self._transport = AdbTransport(address)
        self._name = name
        self._reached = False

    def run(self, line: str, *, asked: str, within_s: float) -> tuple[int, str]:
        """Runs a line.

        Args:
            line: Of a POSIX shell.
            asked: What it is for, as errors say it.
            within_s: After which the device is taken for lost.

        Returns:
            Its status, and what it wrote to stdout.

        Raises:
            DeviceError: There is no connection.
            DeviceLost: There was one.

        """
        status, said, told = self._call(
            [*self._transport.shell(), f"({line}); code=$?; echo; echo {_END} $code"], within_s
        )
        text, end, code = said.rpartition(f"\n{_END} ")
        if not end or not code.strip().isdigit():
            raise self._no_answer(asked, status, told if status != 0 else "what is no answer of its shell")
        self._reached = True
        return int(code), text.removesuffix("\n")

    def push(self, source: Path, target: str) -> None:
        """Brings a file there.

        Raises:
            DeviceError: There is no connection, or no room.
            DeviceLost: There was one.

        """
        asked = f"bring {source.name} to {self._name}"
        status, said, told = self._call(self._transport.push(source, target), 3600.0)
        if status == 0:
            return
        if "No space left" in told + said:
            raise DeviceError(
                asked=asked,
                found="no space left there",
                fix=f"free space there, or: edgeport devices clean {self._name}",
            )
        raise self._no_answer(asked, status, told or said)

    def _no_answer(self, asked: str, status: int | None, told: str) -> DeviceError:
        error = self._transport.explain(status, told)
        if not self._reached:
            return error
        return DeviceLost(
            asked=asked,
            found=f"the link broke; {error.found}",
            fix="look at its power and cable, and run the same command again: it goes on from what is there",
            details={"stderr": told},
        )

    def _call(self, command: list[str], within_s: float) -> tuple[int | None, str, str]:
        """Status (None where it had to be ended), stdout and stderr, no more of them than can be meant."""
        try:
            with tempfile.TemporaryFile() as errors:
                process = ProcessGroup(
                    command,
                    stdin=subprocess.PIPE,  # nothing is written; when it closes, they know there that nobody listens
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,  # Ctrl-C is ours first
                )
                late = threading.Timer(within_s, process.kill)
                late.start()
                try:
                    said = process.stdout.read(_LARGEST_BYTES) if process.stdout is not None else b""
                    endless = len(said) == _LARGEST_BYTES
                    if endless:
                        process.kill()
                    status = process.wait()
                finally:
                    late.cancel()
                    process.kill()
                    process.wait()
                    for end in (process.stdin, process.stdout):
                        if end is not None:
                            end.close()
                errors.seek(0)
                told = errors.read(_STDERR_BYTES)
        except OSError as error:
            raise self._transport.explain(None, str(error)) from error
        ended = None if status < 0 else status
        last = "output without end" if endless else told.decode("utf-8", "replace")
        return ended, said.decode("utf-8", "replace"), last


def look(shell: Shell) -> AndroidEnvironment:
    """What a device has to run artifacts with.

    Raises:
        DeviceError: There is no connection.
        DependencyError: There is no `adb` here.

    """
    names = " ".join(("python3", *(one.name for one in PROGRAMS)))
    line = (
        f'PATH=$PATH:{PATHS}; echo "folder ${{TMPDIR:-/data/local/tmp}}";'
        f' for one in {names}; do echo "$one $(command -v $one)"; done'
    )
    _, said = shell.run(line, asked="look at the device", within_s=_LOOK_S)
    told = dict(one.split(" ", 1) for one in said.splitlines() if " " in one)
    paths = {name: path for name, path in told.items() if _PATH.fullmatch(path)}
    return AndroidEnvironment(
        python=paths.get("python3", ""),
        programs={one.name: paths[one.name] for one in PROGRAMS if one.name in paths},
        folder=paths.get("folder", "/data/local/tmp"),
    )
