"""What a device can tell of itself beyond its facts: core kinds, governors, heat, accelerators; and what it can't.

A source that is not there is named, with what nobody can know without it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Sequence

from edgeport.devices.agent.board_sensors import Programs, ask
from edgeport.devices.agent.facts import device_facts
from edgeport.devices.agent.telemetry import sensor_names

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

ACCELERATOR_FILES = tuple(_ACCELERATORS)

# Beginning of a sensor's name to the source's name, and what is not known without it.
_SOURCES = (
    (("cpu", "_freq_khz"), "cpufreq", "clock frequencies are not known"),
    (("zone", "_millicelsius"), "thermal zones", "temperatures are not known"),
    (("core_throttle_count", ""), "throttle counters", "only a change of speed can show throttling"),
    (("cooling", "_state"), "cooling states", "whether the kernel held something back because of heat is not known"),
    (("energy_", "_uj"), "energy counters", "energy is not measured, unless there is a meter"),
    (("power_", "_uw"), "power meters", "energy is not measured, unless there is a counter"),
    (("psi_cpu", ""), "pressure (PSI)", "rival load shows by the canary alone"),
)


# What a board's maker has a program for.
_OF_MAKERS = (
    ("Raspberry Pi", "vcgencmd", "whether the board was throttled, or its voltage too low, is not known"),
    ("Jetson", "nvpmodel", "the power mode is not known"),
    ("Jetson", "tegrastats", "the power of the board is not known"),
    ("Android", "dumpsys thermalservice", "whether Android slowed the phone down is not known"),
)

# The first version of Linux that fills a huge page when it is asked: madvise(2), MADV_COLLAPSE.
_COLLAPSES = (6, 1)

# Of the values that programs say, in words; empty where they say none.
_TOLD: dict[str, Callable[[dict[str, float]], str]] = {
    "get_throttled": lambda said: _hexadecimal(said.get("vcgencmd_throttled_bits")),
    "power_mode": lambda said: _number(said.get("nvpmodel_mode")),
    "thermal_status": lambda said: _number(said.get("android_thermal_status")),
}


def _hexadecimal(value: float | None) -> str:
    return "" if value is None else f"0x{int(value):x}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def probe_device(root: Path = Path("/")) -> dict[str, Any]:
    """The fields of a `DeviceProbe` but its name."""
    sensors = sensor_names(root)
    programs = Programs()
    said = programs.read()
    asked = {name: tell(said) for name, tell in _TOLD.items()}
    board = _text(root / "proc/device-tree/model").strip("\0") or _android(root)
    return {
        "facts": device_facts(root),
        "board": board,
        **told_by_files(root),
        "asked": {name: told for name, told in asked.items() if told},
        "missing": missing_sources(sensors, board),
    }


def told_by_files(root: Path) -> dict[str, Any]:
    """The fields that only files tell of."""
    return {
        "cores": _cores(root),
        "governors": _governors(root),
        "thermal_zones": _thermal_zones(root),
        "huge_pages": _huge_pages(root),
        "accelerators": [kind for file, kind in _ACCELERATORS.items() if (root / file).exists()] + _render_nodes(root),
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
            # Of ARM's cores "model name", where there is one, says the architecture only.
            names[int(values["processor"])] = _arm_name(values) or values.get("model name") or "unknown"
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


def _huge_pages(root: Path) -> str:
    """The word in brackets ("always [madvise] never"), where the kernel can fill such a page when it is asked."""
    release = re.match(r"(\d+)\.(\d+)", _text(root / "proc/sys/kernel/osrelease"))
    if release is None or (int(release[1]), int(release[2])) < _COLLAPSES:
        return ""
    return _text(root / "sys/kernel/mm/transparent_hugepage/enabled").partition("[")[2].partition("]")[0]


def _render_nodes(root: Path) -> list[str]:
    """GPUs with a render node, by the name of their driver."""
    return [
        "GPU with the driver {}".format(line.partition("=")[2])
        for path in sorted(root.glob("sys/class/drm/renderD*"))
        for line in _text(path / "device/uevent").splitlines()
        if line.startswith("DRIVER=")
    ]


def missing_sources(sensors: Sequence[str], board: str = "") -> list[str]:
    """Sources that a device has not, each with what is not known without it.

    Args:
        sensors: As `sensor_names` gives them.
        board: Of a single-board computer; those of another maker have other programs.

    """
    found = [
        f"{source}: {lost}"
        for (start, end), source, lost in _SOURCES
        if not any(name.startswith(start) and name.endswith(end) for name in sensors)
    ]
    return found + [
        f"{program}: {lost}" for maker, program, lost in _OF_MAKERS if maker in board and program not in sensors
    ]


def _android(root: Path) -> str:
    """Its maker and model; empty where this is no Android."""
    if not (root / "system/build.prop").exists():
        return ""
    told = [ask(["getprop", name]).strip() for name in ("ro.product.manufacturer", "ro.product.model")]
    return "Android: " + " ".join(word for word in told if word)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
