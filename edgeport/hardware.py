"""What this machine's processor is and can do; standard library only."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

__all__ = ["cpu_flags", "has_vnni", "is_arm64", "is_x86", "machine"]

_CPUINFO = Path("/proc/cpuinfo")
# x86 says "flags", ARM says "Features".
_FLAG_LINES = ("flags", "Features")


def machine() -> str:
    """The architecture in one spelling: "x86_64", "aarch64", or what the system says, in lower case."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}.get(name, name)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of the first processor, as Linux names them ("avx512_vnni", "asimddp"); empty elsewhere."""
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
