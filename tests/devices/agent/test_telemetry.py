"""The sensors of machines that are not here, as planted files."""

from __future__ import annotations

import pytest

from edgeport.devices.agent.telemetry import Telemetry, processors, sensor_names


@pytest.fixture
def machine(tmp_path):
    """A laptop: frequency and throttle counts per core, two thermal zones, PSI."""
    first = processors()[0]
    files = {
        f"sys/devices/system/cpu/cpu{first}/cpufreq/scaling_cur_freq": "2400000\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
        "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
        "sys/class/thermal/thermal_zone0/temp": "61000\n",
        "sys/class/thermal/thermal_zone1/type": "asleep\n",
        "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
        "sys/class/thermal/cooling_device0/cur_state": "2\n",
        "sys/class/thermal/cooling_device1/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device1/cur_state": "4\n",
        "sys/class/hwmon/hwmon1/oc1_event_cnt": "5\n",
        "sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n",
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
        "sys/class/powercap/intel-rapl:0:0/energy_uj": "1000000\n",
        "sys/class/hwmon/hwmon3/name": "ina3221\n",
        "sys/class/hwmon/hwmon3/power1_input": "7000000\n",
        "proc/stat": f"cpu  1 2 3 4 5 6 7 8 0 0\ncpu{first} 10 20 30 40 50 60 70 80 0 0\ncpu99 1 1 1 1 1 1 1 1 0 0\n",
        "proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=123456\nfull avg10=0 total=9\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_every_source_is_named_with_its_unit(machine):
    telemetry = Telemetry(machine)
    telemetry.sample(canary_ns=5.0)
    values = telemetry.samples[0]["values"]
    assert values[f"cpu{processors()[0]}_freq_khz"] == 2_400_000
    assert values["zone0_x86_pkg_temp_millicelsius"] == 61_000
    assert values["core_throttle_count"] == 7
    assert values["cooling0_cpufreq-cpu0_state"] == 2
    assert values["over_current1_count"] == 5
    assert not any("fan" in name for name in values)
    assert {name: value for name, value in values.items() if name.startswith(("energy_rapl", "power_"))} == {
        "energy_rapl0_uj": 5_000_000,
        "energy_rapl0_uj_range": 262_143_328_850,
        "power_ina3221_power1_uw": 7_000_000,
    }
    assert values["busy_ticks"] == 10 + 20 + 30 + 60 + 70
    assert values["steal_ticks"] == 80
    assert values["processors"] == 1
    assert values["psi_cpu_some_us"] == 123_456
    assert values["canary_ns"] == 5.0


class FakeNvml:
    """Two GPUs, of which the second has no counter (older than Volta)."""

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802 (as NVML calls it)
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):  # noqa: N802 (as NVML calls it)
        handle._obj.value = index + 1
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, energy):  # noqa: N802 (as NVML calls it)
        energy._obj.value = 1234
        return 0 if handle.value == 1 else 3

    def nvmlDeviceGetTemperature(self, handle, kind, degrees):  # noqa: N802 (as NVML calls it)
        degrees._obj.value = 71
        return kind

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle, reasons):  # noqa: N802 (as NVML calls it)
        reasons._obj.value = 0x20 * handle.value
        return 0


def test_gpus_say_what_they_can(monkeypatch, tmp_path):
    monkeypatch.setattr("edgeport.devices.agent.nvml._library", FakeNvml)
    telemetry = Telemetry(tmp_path)
    telemetry.sample()
    values = telemetry.samples[0]["values"]
    assert {name: values[name] for name in values if "nvml" in name} == {
        "energy_nvml0_uj": 1_234_000,
        "nvml0_millicelsius": 71_000,
        "nvml0_throttle_bits": 32,
        "nvml1_millicelsius": 71_000,
        "nvml1_throttle_bits": 64,
    }


def test_a_sensor_that_is_not_there_is_absent(tmp_path):
    telemetry = Telemetry(tmp_path)
    telemetry.sample()
    assert telemetry.samples[0]["values"].keys() <= {"wall_minus_monotonic_ns", "own_cpu_us", "involuntary_switches"}
    assert not any("freq" in name or "celsius" in name for name in sensor_names(tmp_path))


def test_a_sensor_that_goes_away_is_absent_from_then_on(machine):
    telemetry = Telemetry(machine)
    telemetry.sample()
    (machine / "sys/class/thermal/thermal_zone0/temp").unlink()
    (machine / "proc/stat").write_text("damaged")
    telemetry.sample()
    assert "zone0_x86_pkg_temp_millicelsius" in telemetry.samples[0]["values"]
    assert "zone0_x86_pkg_temp_millicelsius" not in telemetry.samples[1]["values"]
    assert "busy_ticks" not in telemetry.samples[1]["values"]
    assert "core_throttle_count" in telemetry.samples[1]["values"]


@pytest.mark.parametrize(("step_ns", "flags"), [(0, []), (1_000_000, []), (-80_000_000, ["clock-step"])])
def test_a_step_of_the_wall_clock_is_flagged(tmp_path, monkeypatch, step_ns, flags):
    offsets = iter([1_795_000_000_000_000_000, 1_795_000_000_000_000_000 + step_ns])
    monkeypatch.setattr("edgeport.devices.agent.telemetry.wall_offset_ns", lambda: next(offsets))
    telemetry = Telemetry(tmp_path)
    telemetry.sample()
    telemetry.sample()
    assert telemetry.flags() == flags
