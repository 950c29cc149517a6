"""Programs of boards that are not here, as scripts that say what the real ones say."""

from __future__ import annotations

import os
import time

import pytest

from edgeport.devices.agent.board_sensors import (
    Programs,
    read_power_mode,
    read_tegrastats,
    read_thermal_service,
    read_throttled,
)
from edgeport.devices.agent.probing import missing_sources
from edgeport.devices.agent.sensor_sampler import free_processor, with_looks
from edgeport.devices.agent.telemetry import processors, sensor_names

TEGRASTATS = (
    "11-26-2026 10:00:00 RAM 3246/30536MB (lfb 3x4MB) SWAP 0/15268MB (cached 0MB) CPU [2%@729,0%@729,off,off]"
    " GR3D_FREQ 12%@[305,0] cpu@47.5C tboard@36C soc2@-256C tj@48.25C VDD_GPU_SOC 2400mW/2410mW"
    " VDD_CPU_CV 400mW/412mW VIN_SYS_5V0 3844mW/3850mW"
)
THERMAL = """IsStatusOverride: false
Thermal Status: 1
Cached temperatures:
	Temperature{mValue=20.0, mType=0, mName=AP, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
	Temperature{mValue=45.6, mType=0, mName=AP, mStatus=1}
	Temperature{mValue=23.8, mType=2, mName=battery 1, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=cpu}
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """`programs(vcgencmd="echo throttled=0x0")` puts scripts of these names in PATH, and no others of boards."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def put(**scripts):
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return put


def test_answers_are_read():
    assert read_throttled("throttled=0x50005\n") == {"vcgencmd_throttled_bits": 0x50005}
    assert read_power_mode("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_30W\n2\n") == {"nvpmodel_mode": 2}
    assert read_tegrastats(TEGRASTATS + "\nnext line") == {
        "tegra_cpu_millicelsius": 47_500,
        "tegra_tboard_millicelsius": 36_000,
        "tegra_tj_millicelsius": 48_250,
        "power_VIN_SYS_5V0_uw": 3_844_000,
    }
    assert read_thermal_service(THERMAL) == {
        "android_thermal_status": 1,
        "android_AP_millicelsius": 45_600,
        "android_battery-1_millicelsius": 23_800,
    }


@pytest.mark.parametrize("read", [read_throttled, read_power_mode, read_tegrastats, read_thermal_service])
@pytest.mark.parametrize(
    "said", ["", "VCHI initialization failed", "throttled=0x", "NV Power Mode: \n", "@C", "\0" * 99]
)
def test_what_makes_no_sense_says_nothing(read, said):
    assert read(said) == {}


def test_programs_that_fail_hang_or_never_end_are_no_trouble(programs, monkeypatch):
    monkeypatch.setattr("edgeport.devices.agent.board_sensors._ASK_S", 0.3)
    programs(
        vcgencmd="echo throttled=0x0; exit 1",
        nvpmodel="exec sleep 60",
        tegrastats=f"while :; do echo '{TEGRASTATS}'; sleep 0.05; done",
        dumpsys=f'[ "$1" = thermalservice ] && cat <<END\n{THERMAL}\nEND',
    )
    found = Programs()
    assert found.names == ["vcgencmd", "nvpmodel", "tegrastats", "dumpsys thermalservice"]
    began = time.monotonic()
    values = found.read()
    assert time.monotonic() - began < 2
    assert values["tegra_tj_millicelsius"] == 48_250
    assert values["android_thermal_status"] == 1
    assert not any("vcgencmd" in name or "nvpmodel" in name for name in values)


def test_a_board_without_its_makers_program_says_what_is_not_known(programs, tmp_path):
    assert any(line.startswith("vcgencmd: whether") for line in missing_sources([], "Raspberry Pi 5 Model B Rev 1.0"))
    programs(vcgencmd="echo throttled=0x0")
    sensors = sensor_names(tmp_path)
    assert "vcgencmd" in sensors
    assert not any(line.startswith("vcgencmd") for line in missing_sources(sensors, "Raspberry Pi 5 Model B Rev 1.0"))
    assert {line.partition(":")[0] for line in missing_sources([], "NVIDIA Jetson Orin NX")} >= {
        "nvpmodel",
        "tegrastats",
    }


def test_a_processor_is_free_where_calls_leave_one(monkeypatch):
    monkeypatch.setattr("edgeport.devices.agent.sensor_sampler.processors", lambda: [0, 1, 2, 3])
    cases = (({}, 1, None), ({"threads": 3}, 1, 3), ({"threads": 4}, 1, None), ({"threads": 2}, 2, None))
    for settings, streams, free in cases:
        assert free_processor({"settings": settings, "streams": streams}) == free, settings
    assert free_processor({"settings": {"affinity": [2, 3]}, "streams": 1}) == 1
    assert free_processor({"settings": {"affinity": [0, 1, 2, 3]}, "streams": 1}) is None


def test_looks_are_joined_with_the_samples_after_them():
    samples = [{"at_ns": at, "values": {"busy_ticks": float(at)}} for at in (10, 20, 30)]
    looks = [
        {"at_ns": 5, "values": {"vcgencmd_throttled_bits": 8.0}},  # before: the model was not open yet
        {"at_ns": 11, "values": {"vcgencmd_throttled_bits": 4.0, "a_millicelsius": 50.0, "power_x_uw": 3.0}},
        {"at_ns": 19, "values": {"vcgencmd_throttled_bits": 1.0, "a_millicelsius": 40.0, "power_x_uw": 2.0}},
        {"at_ns": 31, "values": {"vcgencmd_throttled_bits": 2.0}},
    ]
    assert [sample["values"] for sample in with_looks(samples, looks)] == [
        {"busy_ticks": 10.0},
        {"busy_ticks": 20.0, "vcgencmd_throttled_bits": 5.0, "a_millicelsius": 50.0, "power_x_uw": 2.0},
        {"busy_ticks": 30.0},
    ]
    assert samples[1]["values"] == {"busy_ticks": 20.0}


@pytest.mark.skipif(len(processors()) < 2, reason="one processor: none is free")
def test_programs_are_read_while_calls_run_from_another_processor(device, time_job, programs, tmp_path):
    said = tmp_path / "said"
    programs(vcgencmd=f"grep Cpus_allowed_list /proc/self/status >> {said}; echo throttled=0x20000")
    trace = device.run(time_job({"busy_ns": 100_000, "threads": 1}, warmup_s=0.3, duration_s=0.3))
    timed = [sample.values for sample in trace.telemetry if "canary_ns" not in sample.values]
    assert any(values.get("vcgencmd_throttled_bits") == 0x20000 for values in timed)
    framing = [sample.values for sample in trace.telemetry if "canary_ns" in sample.values]
    assert [values["vcgencmd_throttled_bits"] for values in framing] == [0x20000, 0x20000]
    allowed = [line.split()[1] for line in said.read_text().splitlines()]
    assert str(processors()[-1]) in allowed
    assert timed[0]["processors"] == len(processors()) - 1  # the calls kept off it


def test_without_a_free_processor_programs_are_read_around_the_calls_only(device, time_job, programs):
    programs(vcgencmd="echo throttled=0x0")
    trace = device.run(time_job({"busy_ns": 100_000}))
    assert ["vcgencmd_throttled_bits" in sample.values for sample in trace.telemetry] == [
        "canary_ns" in sample.values for sample in trace.telemetry
    ]
