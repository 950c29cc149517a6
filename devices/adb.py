"""How an Android device is reached by the system's `adb`, always by its serial number.

The agent needs a Python there: one that was put in /data/local/tmp/python, or Termux's where `adb` runs as root (its
folder is closed to other users). Without one, the runtime's own benchmark can time artifacts (see
`android_benchmark.py`).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edgeport.devices.bootstrap import COMMAND, NO_PROGRAM
from edgeport.devices.inventory import AdbAddress
from edgeport.errors import DependencyError, DeviceError

__all__ = ["PATHS", "AdbTransport"]

PATHS = "/data/local/tmp/python/bin:/data/data/com.termux/files/usr/bin:/data/local/tmp"
"""Where a Python, or a runtime's benchmark program, may lie beside the device's own PATH."""
_COMMAND = f"PATH=$PATH:{PATHS};{COMMAND}"
_LOOK_S = 20.0
_LONGEST = 4000


class AdbTransport:
    """A process of `adb shell` that runs the first program on the device.

    Args:
        address: Of the device.

    """

    def __init__(self, address: AdbAddress) -> None:
        self._address = address

    def command(self) -> list[str]:
        """See `Transport`.

        Raises:
            DependencyError: There is no `adb` here.

        """
        return [*self.shell(), _COMMAND]

    def shell(self) -> list[str]:
        """What runs the line that is put behind it there.

        Raises:
            DependencyError: There is no `adb` here.

        """
        return [self._program(), "-s", self._address.serial, "shell", "-T"]

    def push(self, source: Path, target: str) -> list[str]:
        """What brings a file there.

        Raises:
            DependencyError: There is no `adb` here.

        """
        return [self._program(), "-s", self._address.serial, "push", str(source.resolve()), target]

    def explain(self, status: int | None, stderr: str) -> DeviceError:
        """See `Transport`."""
        asked = f"connect to {self._address}"
        low = stderr.lower()
        if status == NO_PROGRAM:
            return DeviceError(
                asked=f"start the agent on {self._address}",
                found="no python3 there",
                fix=(
                    "put a Python for Android there as /data/local/tmp/python/bin/python3, with numpy and the runtime;"
                    " or onnxruntime_perf_test or benchmark_app into /data/local/tmp, which time and judge nothing"
                ),
            )
        if "unauthorized" in low:
            return DeviceError(
                asked=asked,
                found="that it does not know this machine's key (unauthorized)",
                fix="unlock its screen and allow USB debugging from this machine",
            )
        if "offline" in low:
            return DeviceError(
                asked=asked, found="that it is offline", fix="plug it in again, or: adb reconnect offline"
            )
        if "not found" in low:
            return DeviceError(
                asked=asked,
                found=f"no device of that serial, but {self._others()}",
                fix="turn USB debugging on, plug it in, and compare: adb devices",
            )
        said = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
        ended = "no answer in time" if status is None else f"that adb ended with status {status}"
        return DeviceError(
            asked=asked, found=(said or ended)[:500], fix=f"see what it says to: adb -s {self._address.serial} shell"
        )

    def _program(self) -> str:
        program = shutil.which("adb")
        if program is None:
            raise DependencyError(
                asked=f"connect to {self._address}",
                found="no adb on this machine",
                fix="install Android's platform tools, and put adb in PATH",
            )
        return program

    def _others(self) -> str:
        try:
            asked = subprocess.run(
                [self._program(), "devices"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LOOK_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return "adb does not say which others there are"
        lines = asked.stdout[:_LONGEST].decode(errors="replace").splitlines()
        found = [line.partition("\t") for line in lines if "\t" in line]
        return ", ".join(f"{serial} ({state})" for serial, _, state in found) or "no other one"
