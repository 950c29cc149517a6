"""What a device can tell of itself beyond its facts: core kinds, governors, heat, accelerators; and what it can't.

A source that is not there is named, with what nobody can know without it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from edgeport.devices.agent.facts import device_facts
from edgeport.devices.agent.telemetry import sensor_names

_ASK_S = 5.0
_LONGEST = 500

# Of ARM's own cores: "CPU part" in /proc/cpuinfo (Linux, arch/arm64/include/asm/cputype.h).
_ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2",
}
_ARM = 0x41

# Device file to what it stands for.
_ACCELERATORS = {
    "dev/nvidia0": "NVIDIA GPU",
    "dev/nvhost-gpu": "NVIDIA GPU of a Jetson",
    "dev/apex_0": "Coral Edge TPU",
    "dev/hailo0": "Hailo",
    "dev/accel/accel0": "NPU of the kernel's accel class",
    "dev/kfd": "AMD GPU",
    "dev/galcore": "Vivante NPU",
    "dev/rknpu": "Rockchip NPU",
    "dev/mali0": "Mali GPU",
}

# Beginning of a sensor's name to the source's name, and what is not known without it.
_SOURCES = (
    (("cpu", "_freq_khz"), "cpufreq", "clock frequencies are not known"),
    (("zone", "_millicelsius"), "thermal zones", "temperatures are not known"),
    (("core_throttle_count", ""), "throttle counters", "only a change of speed can show throttling"),
    (("energy_", "_uj"), "energy counters", "energy is not measured, unless there is a meter"),
    (("power_", "_uw"), "power meters", "energy is not measured, unless there is a counter"),
    (("psi_cpu", ""), "pressure (PSI)", "rival load shows by the canary alone"),
)


def probe_device(root: Path = Path("/")) -> dict[str, Any]:
    """The fields of a `DeviceProbe` but its name."""
    sensors = sensor_names(root)
    asked = {
        "get_throttled": _asked(["vcgencmd", "get_throttled"]),
        "power_mode": _asked(["nvpmodel", "-q"]),
        "thermal_status": _asked(["cmd", "thermalservice", "get-status"]) if shutil.which("getprop") else "",
    }
    board = _text(root / "proc/device-tree/model").strip("\0")
    return {
        "facts": device_facts(root),
        "board": board,
        "cores": _cores(root),
        "governors": _governors(root),
        "thermal_zones": _thermal_zones(root),
        "accelerators": [kind for file, kind in _ACCELERATORS.items() if (root / file).exists()] + _render_nodes(root),
        "asked": {name: said for name, said in asked.items() if said},
        "missing": _missing(sensors, board, asked),
    }


def _cores(root: Path) -> list[dict[str, Any]]:
    """Each kind of core with its number and highest frequency, the fastest kind first."""
    kinds: dict[Any, int] = {}
    for number, name in _core_names(root).items():
        highest = _text(root / f"sys/devices/system/cpu/cpu{number}/cpufreq/cpuinfo_max_freq")
        key = (name, int(highest) // 1000 if highest.isdigit() else 0)
        kinds[key] = kinds.get(key, 0) + 1
    found = [{"name": name, "count": count, "max_mhz": mhz} for (name, mhz), count in kinds.items()]
    return sorted(found, key=lambda core: -core["max_mhz"])


def _core_names(root: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for block in _text(root / "proc/cpuinfo").split("\n\n"):
        values = {}
        for line in block.splitlines():
            key, _, value = line.partition(":")
            values[key.strip()] = value.strip()
        if values.get("processor", "").isdigit():
            names[int(values["processor"])] = values.get("model name") or _arm_name(values) or "unknown"
    return names


def _arm_name(values: dict[str, str]) -> str:
    try:
        implementer, part = int(values["CPU implementer"], 16), int(values["CPU part"], 16)
    except (KeyError, ValueError):
        return ""
    known = _ARM_PARTS.get(part) if implementer == _ARM else None
    return known or f"implementer {implementer:#x} part {part:#x}"


def _governors(root: Path) -> dict[str, int]:
    """Governor to the number of processors that it governs."""
    found: dict[str, int] = {}
    for path in sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")):
        name = _text(path)
        if name:
            found[name] = found.get(name, 0) + 1
    return found


def _thermal_zones(root: Path) -> dict[str, float]:
    """Zone to degrees Celsius, of those that answer."""
    found = {}
    for folder in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        try:
            found[f"{folder.name} {_text(folder / 'type')}".strip()] = int(_text(folder / "temp")) / 1000
        except ValueError:  # noqa: PERF203 (one zone may sleep while the others answer)
            continue
    return found


def _render_nodes(root: Path) -> list[str]:
    """GPUs with a render node, by the name of their driver."""
    return [
        "GPU with the driver {}".format(line.partition("=")[2])
        for path in sorted(root.glob("sys/class/drm/renderD*"))
        for line in _text(path / "device/uevent").splitlines()
        if line.startswith("DRIVER=")
    ]


def _missing(sensors: list[str], board: str, asked: dict[str, str]) -> list[str]:
    found = [
        f"{source}: {lost}"
        for (start, end), source, lost in _SOURCES
        if not any(name.startswith(start) and name.endswith(end) for name in sensors)
    ]
    if "Raspberry Pi" in board and not asked["get_throttled"]:
        found.append("vcgencmd: whether the board was throttled, or its voltage too low, is not known")
    if "Jetson" in board and not asked["power_mode"]:
        found.append("nvpmodel: the power mode is not known")
    return found


def _asked(command: list[str]) -> str:
    """What a program of the board says; empty where it is not there or says nothing."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout[:_LONGEST].decode("utf-8", "replace").strip() if ended.returncode == 0 else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
