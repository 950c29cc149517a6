"""What boards tell of themselves, from files as they have them."""

from __future__ import annotations

import json

import pytest

from edgeport.contracts import CoreKind, DeviceProbe, load_json
from edgeport.devices.agent.facts import is_emulated
from edgeport.devices.agent.probing import probe_device

RK3588 = (
    "processor\t: {}\nmodel name\t: ARMv8 Processor rev 0 (v8l)\nCPU implementer\t: 0x41\nCPU part\t: {}\n"
    "Features\t: fp asimd asimdhp asimddp\n"
)


def _write(root, **files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _probed(root):
    found = probe_device(root)
    return load_json(DeviceProbe, json.dumps({**found, "facts": {**found["facts"], "name": "board"}}))


def test_a_board_with_two_kinds_of_cores(tmp_path):
    parts = ["0xd05"] * 4 + ["0xd0b"] * 4
    cpu = "sys/devices/system/cpu/cpu{}/cpufreq/{}"
    _write(
        tmp_path,
        **{
            "proc/cpuinfo": "\n".join(RK3588.format(index, part) for index, part in enumerate(parts)),
            "proc/device-tree/model": "Radxa ROCK 5B\0",
            **{cpu.format(i, "cpuinfo_max_freq"): f"{1800000 if i < 4 else 2400000}\n" for i in range(8)},
            **{cpu.format(i, "scaling_governor"): "schedutil\n" for i in range(8)},
            "sys/class/thermal/thermal_zone0/type": "soc-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "43500\n",
            "sys/class/thermal/thermal_zone1/type": "asleep\n",
            "dev/rknpu": "",
            "sys/class/drm/renderD128/device/uevent": "DRIVER=panthor\n",
        },
    )
    found = _probed(tmp_path)
    assert found.board == "Radxa ROCK 5B"
    assert found.cores == (
        CoreKind(name="Cortex-A76", count=4, max_mhz=2400),
        CoreKind(name="Cortex-A55", count=4, max_mhz=1800),
    )
    assert found.governors == {"schedutil": 8}
    assert found.thermal_zones == {"thermal_zone0 soc-thermal": 43.5}
    assert found.accelerators == ("Rockchip NPU", "GPU with the driver panthor")
    assert set(found.facts.isa) == {"asimd", "asimdhp", "asimddp"}
    assert not any(line.startswith("thermal zones") for line in found.missing)
    assert any(line.startswith("energy counters") for line in found.missing)


INSTRUCTIONS = {
    "a server with AMX": (
        "flags\t\t: fpu sse4_1 avx2 avx512f avx512_vnni avx_vnni amx_bf16 avx512_fp16 amx_tile amx_int8 lahf_lm\n",
        ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    ),
    "an ARM of 2022": (
        "Features\t: fp asimd fphp asimdhp asimddp sve sve2 svei8mm svebf16 i8mm bf16 sme paca\n",
        ("asimd", "asimdhp", "fphp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme"),
    ),
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_instructions_that_matter_to_inference_are_told(tmp_path, name):
    line, told = INSTRUCTIONS[name]
    _write(tmp_path, **{"proc/cpuinfo": f"processor\t: 0\nmodel name\t: a model\n{line}"})
    found = _probed(tmp_path).facts.isa
    assert set(told) <= set(found)
    assert not {"fpu", "lahf_lm", "fp", "paca"} & set(found)


def test_governors_differ_by_core_and_accelerators_are_named(tmp_path):
    cpu = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
    governors = {cpu.format(index): "performance\n" if index < 2 else "powersave\n" for index in range(6)}
    devices = ("dev/nvidia0", "dev/nvhost-gpu", "dev/apex_0", "dev/hailo0", "dev/accel/accel0", "dev/kfd")
    _write(tmp_path, **governors, **dict.fromkeys(devices, ""))
    found = _probed(tmp_path)
    assert found.governors == {"performance": 2, "powersave": 4}
    assert {"NVIDIA GPU", "NVIDIA GPU of a Jetson", "Coral Edge TPU", "Hailo", "AMD GPU"} <= set(found.accelerators)
    assert any("NPU" in one for one in found.accelerators)


@pytest.mark.parametrize(
    ("release", "told", "known"),
    [
        ("6.18.4-generic\n", "always [madvise] never\n", "madvise"),
        ("6.1-rc3\n", "[always] madvise never\n", "always"),
        ("7.0.0\n", "always madvise [never]\n", "never"),
        ("5.15.0-91\n", "always [madvise] never\n", ""),
        ("6.18.4\n", "", ""),
        ("", "always [madvise] never\n", ""),
    ],
    ids=["when asked", "always", "never", "too old", "none", "no version"],
)
def test_when_huge_pages_are_given_is_told(tmp_path, release, told, known):
    _write(tmp_path, **{"proc/sys/kernel/osrelease": release, "sys/kernel/mm/transparent_hugepage/enabled": told})
    assert _probed(tmp_path).huge_pages == known


def test_what_is_not_there_is_named(tmp_path):
    _write(tmp_path, **{"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0"})
    found = _probed(tmp_path)
    assert found.cores == ()
    named = [line.partition(":")[0] for line in found.missing]
    assert {"cpufreq", "thermal zones", "throttle counters", "pressure (PSI)", "vcgencmd"} <= set(named)


MODALIAS = "cpu:type:{}:feature:,0000,0001"


@pytest.mark.parametrize(
    ("files", "machine", "emulated"),
    [
        ({"proc/sys/kernel/arch": "x86_64\n"}, "aarch64", True),
        ({"proc/sys/kernel/arch": "aarch64\n"}, "aarch64", False),
        ({"proc/sys/kernel/arch": "aarch64\n"}, "armv8l", False),
        ({"sys/devices/system/cpu/modalias": "cpu:type:x86,ven0000fam0006mod0055:feature:,0000\n"}, "aarch64", True),
        ({"sys/devices/system/cpu/modalias": MODALIAS.format("aarch64")}, "aarch64", False),
        ({"proc/cpuinfo": "model name\t: QEMU TCG CPU version 2.5+\n"}, "x86_64", True),
        ({"proc/cpuinfo": "model name\t: QEMU Virtual CPU version 2.5+\n"}, "x86_64", False),
        ({}, "x86_64", False),
    ],
    ids=["qemu-user", "arm", "32 bits on 64", "an older kernel", "arm, older", "whole system", "with KVM", "not told"],
)
def test_an_emulated_processor_is_known(tmp_path, files, machine, emulated):
    _write(tmp_path, **files)
    assert is_emulated(tmp_path, machine) is emulated


def test_this_one_is_not():
    assert not is_emulated()
