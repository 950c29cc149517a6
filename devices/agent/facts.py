"""What this device is; the fields of `DeviceFacts` but its name."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeport.devices.agent.telemetry import processors, sensor_names

# What inference kernels choose by: x86 flags and arm64 features, as the kernel writes them.
_ISA = [
    "sse4_1",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "fphp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "svei8mm",
    "svebf16",
    "sme",
]

# Beginning of an architecture's name to its family.
_FAMILIES = (
    *(("x86", "x86"), ("i386", "x86"), ("i686", "x86"), ("amd64", "x86")),
    *(
        ("aarch64", "arm"),
        ("arm", "arm"),
        ("riscv", "riscv"),
        ("ppc", "ppc"),
        ("s390", "s390"),
        ("loongarch", "loongarch"),
    ),
)

# Distribution to the name of the runtime; several may carry the same one.
_RUNTIMES = {
    "onnxruntime": "onnxruntime",
    "onnxruntime-gpu": "onnxruntime",
    "onnxruntime-openvino": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-cu13": "tensorrt",
    "tensorrt-cu12": "tensorrt",
    "tensorrt-rtx-cu13-bindings": "tensorrt-rtx",
    "numpy": "numpy",
}


def device_facts(root: Path = Path("/")) -> dict[str, Any]:
    """Asks the operating system and the installed packages; nothing is imported or run."""
    cpu, isa = cpu_facts(root)
    return {
        "machine": platform.machine(),
        "cpu": cpu or platform.processor() or "unknown",
        "cores": len(processors()),
        "memory_bytes": _memory_bytes(),
        "isa": isa,
        "system": f"{_distribution(root) or platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "runtimes": _runtimes(),
        "sensors": sensor_names(root),
        "emulated": is_emulated(root),
    }


def cpu_facts(root: Path) -> tuple[str, list[str]]:
    """Model name, and the instruction sets that matter to inference."""
    cpu, flags = _cpu(root)
    return cpu, [name for name in _ISA if name in flags]


def is_emulated(root: Path = Path("/"), machine: str = platform.machine()) -> bool:
    """Whether the processor is played by a program: its kernel runs on another kind, or it is called so.

    QEMU's user mode shows programs another /proc/cpuinfo and uname, and leaves the kernel's other files as they are.
    """
    told = _text(root / "proc/sys/kernel/arch")  # Linux 6.1 and newer
    if not told:
        told = _text(root / "sys/devices/system/cpu/modalias").partition("type:")[2].partition(",")[0].partition(":")[0]
    kernel, own = _family(told), _family(machine)
    return bool(kernel and own and kernel != own) or "QEMU TCG" in _cpu(root)[0]


def _family(machine: str) -> str:
    """Architectures whose kernels run each other's programs are one."""
    name = machine.lower()
    return next((family for begin, family in _FAMILIES if name.startswith(begin)), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def run_facts_job(job: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 (every job function takes its job)
    """Runs a job that asks for the facts alone."""
    return device_facts()


def _cpu(root: Path) -> tuple[str, list[str]]:
    """Model name and feature flags; x86 and arm64 name them differently in /proc/cpuinfo."""
    found: dict[str, str] = {}
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name") or found.get("Model") or found.get("Hardware") or ""
    if not name and "CPU part" in found:
        name = "arm implementer {} part {}".format(found.get("CPU implementer", "?"), found["CPU part"])
    return name, (found.get("flags") or found.get("Features") or "").split()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return 0


def _distribution(root: Path) -> str:
    try:
        for line in (root / "etc/os-release").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip('"') + ("" if sys.platform == "linux" else " " + sys.platform)
    except OSError:
        pass
    return ""


def _runtimes() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution, name in _RUNTIMES.items():
        try:
            found.setdefault(name, metadata.version(distribution))
        except metadata.PackageNotFoundError:  # noqa: PERF203 (a dozen look-ups)
            continue
    return found
