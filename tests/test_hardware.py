from __future__ import annotations

import pytest

from edgeport import hardware

X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512_vnni\n\nprocessor\t: 1\nflags\t\t: fpu\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp bf16\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        pytest.param(X86, {"fpu", "avx2", "avx512_vnni"}, id="x86, first processor"),
        pytest.param(ARM, {"fp", "asimd", "asimddp", "bf16"}, id="arm"),
        pytest.param("", set(), id="nothing"),
    ],
)
def test_flags_are_read_from_cpuinfo(text, flags):
    assert hardware.flags_from_cpuinfo(text) == flags


@pytest.mark.parametrize(
    ("said", "name"), [("AMD64", "x86_64"), ("x86_64", "x86_64"), ("arm64", "aarch64"), ("riscv64", "riscv64")]
)
def test_one_spelling_per_architecture(said, name, monkeypatch):
    monkeypatch.setattr(hardware.platform, "machine", lambda: said)
    assert hardware.machine() == name
    assert hardware.is_x86() is (name == "x86_64")


@pytest.mark.parametrize(("flags", "has"), [({"avx512_vnni"}, True), ({"avx_vnni"}, True), ({"avx2"}, False)])
def test_vnni(flags, has, monkeypatch):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags))
    assert hardware.has_vnni() is has
