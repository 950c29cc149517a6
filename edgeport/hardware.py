"""What the processor that is planned for is and can do; standard library only.

That is this machine's, but in a child process that was told to plan for another one (`assume`).
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable
from pathlib import Path

__all__ = ["assume", "assumed_flags", "cpu_flags", "has_vnni", "is_arm64", "is_elsewhere", "is_x86", "machine"]

_CPUINFO = Path("/proc/cpuinfo")
# x86 says "flags", ARM says "Features".
_FLAG_LINES = ("flags", "Features")


_assumed: list[tuple[str, frozenset[str]]] = []


def assume(machine: str, flags: Iterable[str]) -> None:
    """From now on, this process plans for another processor. For child processes, which do one thing and end.

    Args:
        machine: "x86_64", "aarch64".
        flags: Instruction sets, as `cpu_flags` names them.

    """
    _assumed[:] = [(one_spelling(machine), frozenset(flags))]


def assumed_flags() -> frozenset[str] | None:
    """Those of the processor that was assumed; None where it is this machine's."""
    return _assumed[0][1] if _assumed else None


def is_elsewhere() -> bool:
    """What is planned for is of another architecture than this machine: nothing of it can be tried here."""
    return bool(_assumed) and _assumed[0][0] != one_spelling(platform.machine())


def machine() -> str:
    """The architecture in one spelling: "x86_64", "aarch64", or what the system says, in lower case."""
    return _assumed[0][0] if _assumed else one_spelling(platform.machine())


def one_spelling(machine: str) -> str:
    """Of an architecture's name."""
    name = machine.lower()
    return {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}.get(name, name)


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the first processor, as Linux names them ("avx512_vnni", "asimddp"); empty elsewhere."""
    return _assumed[0][1] if _assumed else _own_flags()


@functools.cache
def _own_flags() -> frozenset[str]:
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    return flags_from_cpuinfo(text)


def flags_from_cpuinfo(text: str) -> frozenset[str]:
    """The flags of the first processor in the text of /proc/cpuinfo."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in _FLAG_LINES:
            return frozenset(value.split())
    return frozenset()


def is_x86() -> bool:
    """64-bit x86."""
    return machine() == "x86_64"


def is_arm64() -> bool:
    """64-bit ARM."""
    return machine() == "aarch64"


def has_vnni() -> bool:
    """u8*s8 products are summed in 32 bits without saturating between (AVX512-VNNI or AVX-VNNI)."""
    return not cpu_flags().isdisjoint({"avx512_vnni", "avx_vnni"})
