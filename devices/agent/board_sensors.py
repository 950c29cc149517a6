"""What a board's own programs say of heat, power and limits.

A program takes milliseconds, so none is asked between timed calls: they are asked before and after them, and meanwhile
only from a processor that is not measured (`watching`).

Sources: Raspberry Pi documentation, "vcgencmd" (bits of get_throttled); NVIDIA Jetson Linux Developer Guide,
"tegrastats Utility" and "Power Mode Controls"; Android's `ThermalManagerService` (dump) and `PowerManager`
(THERMAL_STATUS_*).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any, Callable, Dict

Values = Dict[str, float]

_ASK_S = 5.0
_LONGEST = 64 << 10
_OFF_CELSIUS = -200  # what tegrastats says of a part without power is -256
_ALSO_HERE = "/usr/sbin:/sbin:/system/bin"  # a login over ssh without a terminal may not look there

_TEMPERATURE = re.compile(r"([A-Za-z][\w-]*)@(-?[0-9.]+)C\b")
_RAIL = re.compile(r"\b((?:VDD|VIN|POM)_\w+) ([0-9]+)(?:mW)?/[0-9]+")
_WHOLE_BOARD = ("VDD_IN", "VIN_SYS_5V0", "POM_5V_IN")
_HAL = re.compile(r"Temperature\{mValue=(-?[0-9.]+), mType=-?[0-9]+, mName=([\w .-]+), mStatus=[0-9]+\}")


def read_throttled(said: str) -> Values:
    """Of "throttled=0x50005": bits 0 to 3 say what is now (low voltage, capped, throttled, soft limit), 16 to 19 what
    was since boot.
    """
    found = re.search(r"throttled=(0x[0-9a-fA-F]{1,8})\b", said)
    return {"vcgencmd_throttled_bits": float(int(found.group(1), 16))} if found else {}


def read_power_mode(said: str) -> Values:
    """Of "NV Power Mode: MAXN" and its number in the next line."""
    found = re.search(r"^NV Power Mode: *(\S+)\s+([0-9]{1,3})\s*$", said, re.MULTILINE)
    return {"nvpmodel_mode": float(found.group(2))} if found else {}


def read_tegrastats(said: str) -> Values:
    """Of its first line: temperatures, and the power of the whole board (rails in it are parts of that)."""
    line = said.partition("\n")[0]
    found = [(name, float(degrees)) for name, degrees in _TEMPERATURE.findall(line)]
    values = {f"tegra_{name}_millicelsius": 1000 * degrees for name, degrees in found if degrees > _OFF_CELSIUS}
    rails = dict(_RAIL.findall(line))
    whole = next((name for name in _WHOLE_BOARD if name in rails), None)
    if whole is not None:
        values[f"power_{whole}_uw"] = 1000 * float(rails[whole])
    return values


def read_thermal_service(said: str) -> Values:
    """Of `dumpsys thermalservice`: the status, 0 (none) to 6 (shutdown), and the hardware's temperatures now."""
    values = {}
    status = re.search(r"^\s*Thermal Status: ([0-6])\s*$", said, re.MULTILINE)
    if status:
        values["android_thermal_status"] = float(status.group(1))
    now = said.partition("Current temperatures from HAL")[2] or said
    for degrees, name in _HAL.findall(now.partition("Current cooling devices")[0]):
        values["android_{}_millicelsius".format(name.replace(" ", "-"))] = 1000 * float(degrees)
    return values


# One visible table: what it is called, its command, how its answer is read, and whether it goes on for ever.
_TABLE: list[tuple[str, list[str], Callable[[str], Values], bool]] = [
    ("vcgencmd", ["vcgencmd", "get_throttled"], read_throttled, False),
    ("nvpmodel", ["nvpmodel", "-q"], read_power_mode, False),
    ("tegrastats", ["tegrastats", "--interval", "100"], read_tegrastats, True),
    ("dumpsys thermalservice", ["dumpsys", "thermalservice"], read_thermal_service, False),
]


class Programs:
    """Those that are on this device.

    Attributes:
        names: As probes and facts call them.

    """

    def __init__(self) -> None:
        search = os.environ.get("PATH", "") + os.pathsep + _ALSO_HERE
        self._there = []
        for name, command, read, endless in _TABLE:
            path = shutil.which(command[0], path=search)
            if path is not None:
                self._there.append((name, [path, *command[1:]], read, endless))

    @property
    def names(self) -> list[str]:
        """As probes and facts call them."""
        return [name for name, _, _, _ in self._there]

    def read(self) -> dict[str, float]:
        """What all of them say now; one that fails, hangs or says something else is absent."""
        values: dict[str, float] = {}
        for _, command, read, endless in self._there:
            values.update(read(_first_line(command) if endless else ask(command)))
        return values


def ask(command: list[str]) -> str:
    """What a program says; empty where it is not there, fails, or takes too long."""
    try:
        ended = subprocess.run(command, timeout=_ASK_S, check=False, **_quietly())
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return _text(ended.stdout) if ended.returncode == 0 else ""


def _first_line(command: list[str]) -> str:
    """Of a program that prints line after line until it is ended."""
    import threading

    try:
        process = subprocess.Popen(command, **_quietly())
    except OSError:
        return ""
    timer = threading.Timer(_ASK_S, process.kill)
    timer.start()
    try:
        return _text(process.stdout.readline(_LONGEST)) if process.stdout is not None else ""
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _quietly() -> dict[str, Any]:
    return {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}


def _text(data: bytes) -> str:
    return data[:_LONGEST].decode("utf-8", "replace")
