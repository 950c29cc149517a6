"""What the machine's sensors say; a sensor that is not there is absent, never assumed quiet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, Sequence

from edgeport.devices.agent.board_sensors import Programs
from edgeport.devices.agent.clock import now_ns, wall_offset_ns
from edgeport.devices.agent.nvml import read_gpus

INTERVAL_NS = 200_000_000  # 5 Hz
_STEP_NS = 5_000_000

_Read = Callable[[], Dict[str, float]]


class Telemetry:
    """Reads every source that exists; the list is made once, the files are few.

    Between blocks of timed calls, not from a thread: a thread would take the interpreter, or a core, from the calls.

    Args:
        root: Where /proc and /sys lie; tests plant their own.

    Attributes:
        samples: What was read.
        beside: Numbers of the session's other processes, whose processor time is this one's own.

    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.samples: list[dict[str, Any]] = []
        self.beside: Sequence[int] = ()
        self._sources = [read for read in [*_sources(root), self._read_use] if _works(read)]

    def sample(self, **extra: float) -> None:
        """Reads all sources once and keeps the values, and `extra` with them."""
        values: dict[str, float] = {"wall_minus_monotonic_ns": float(wall_offset_ns())}
        for read in self._sources:
            try:
                values.update(read())
            except (OSError, ValueError, IndexError):  # noqa: PERF203 (a CPU that went offline, a zone that sleeps)
                continue
        values.update(extra)
        self.samples.append({"at_ns": now_ns(), "values": values})

    def flags(self) -> list[str]:
        """What the readings say without any statistics: the wall clock was set while calls were timed."""
        offsets = [sample["values"]["wall_minus_monotonic_ns"] for sample in self.samples]
        stepped = any(abs(after - before) > _STEP_NS for before, after in zip(offsets, offsets[1:]))
        return ["clock-step"] if stepped else []

    def _read_use(self) -> dict[str, float]:
        return _own_use(self.beside)


def sensor_names(root: Path = Path("/")) -> list[str]:
    """Names of the values that can be read on this machine, and of its programs that say more."""
    names: list[str] = Programs().names
    for read in [*_sources(root), _own_use]:
        values = _try(read)
        names.extend(values or {})
    return sorted(names)


def _works(read: _Read) -> bool:
    return bool(_try(read))


def _try(read: _Read) -> dict[str, float] | None:
    try:
        return read()
    except (OSError, ValueError, IndexError):
        return None


def _sources(root: Path) -> list[_Read]:
    return [
        _Files(_frequencies(root)),
        _Files(_temperatures(root)),
        _Throttles(root),
        _Files(_cooling(root)),
        _Files(_over_currents(root)),
        _Files(_energy_counters(root)),
        _Files(_power_meters(root)),
        read_gpus,
        lambda: _processor_ticks(root),
        lambda: _pressure(root),
    ]


class _Files:
    """One number per file."""

    def __init__(self, files: list[tuple[str, Path]]) -> None:
        self._files = files

    def __call__(self) -> dict[str, float]:
        values = {}
        for name, path in self._files:
            try:
                values[name] = float(_text(path))
            except (OSError, ValueError):  # noqa: PERF203 (one zone may sleep while the others answer)
                continue
        return values


class _Throttles:
    """How often the CPUs say that they were too hot, summed over cores."""

    def __init__(self, root: Path) -> None:
        self._paths = {
            name: list(root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/" + name))
            for name in ("core_throttle_count", "package_throttle_count")
        }

    def __call__(self) -> dict[str, float]:
        return {name: float(sum(int(_text(path)) for path in paths)) for name, paths in self._paths.items() if paths}


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()


def processors() -> list[int]:
    """Logical processors that this process may use."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return list(range(os.cpu_count() or 1))


def _frequencies(root: Path) -> list[tuple[str, Path]]:
    pattern = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
    return [(f"cpu{index}_freq_khz", root / pattern.format(index)) for index in processors()]


def _temperatures(root: Path) -> list[tuple[str, Path]]:
    found = []
    for folder in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        index = folder.name[len("thermal_zone") :]
        try:
            kind = _text(folder / "type")
        except OSError:
            kind = "unknown"
        found.append((f"zone{index}_{kind}_millicelsius", folder / "temp"))
    return found


def _cooling(root: Path) -> list[tuple[str, Path]]:
    """How far the kernel holds something back because of heat, 0 for not at all (Linux, thermal sysfs); no fans."""
    found = []
    for folder in sorted(root.glob("sys/class/thermal/cooling_device*")):
        try:
            kind = _text(folder / "type")
        except OSError:
            continue
        if "fan" not in kind.lower():
            index = folder.name[len("cooling_device") :]
            found.append((f"cooling{index}_{kind}_state", folder / "cur_state"))
    return found


def _over_currents(root: Path) -> list[tuple[str, Path]]:
    """How often a Jetson held its clocks down since its current was too high, since boot ("Over-current Throttling" in
    NVIDIA's Jetson Linux Developer Guide).
    """
    found = sorted(root.glob("sys/class/hwmon/hwmon*/oc[0-9]_event_cnt"))
    return [("over_current{}_count".format(path.name[len("oc") : -len("_event_cnt")]), path) for path in found]


def hottest_millicelsius(root: Path = Path("/")) -> float | None:
    """Of all thermal zones; None where there is none that answers."""
    return max(_Files(_temperatures(root))().values(), default=None)


def heat_values(root: Path) -> dict[str, float]:
    """What zones and cooling devices say now."""
    return _Files(_temperatures(root) + _cooling(root))()


def _energy_counters(root: Path) -> list[tuple[str, Path]]:
    """RAPL: microjoules that each processor package took, and where its counter begins again."""
    found = []
    for folder in sorted(root.glob("sys/class/powercap/*-rapl:[0-9]*")):
        if folder.name.count(":") > 1:  # a part of a package, counted in it already
            continue
        name = "energy_rapl{}_uj".format(folder.name.partition(":")[2])
        found += [(name, folder / "energy_uj"), (name + "_range", folder / "max_energy_range_uj")]
    return found


def _power_meters(root: Path) -> list[tuple[str, Path]]:
    """Meters on the board (INA2xx and the like), in microwatts; they have no counter, so their power is summed up."""
    found = []
    for path in sorted(root.glob("sys/class/hwmon/hwmon*/power[0-9]*_input")):
        try:
            chip = _text(path.parent / "name")
        except OSError:
            chip = "unknown"
        found.append(("power_{}_{}_uw".format(chip, path.name[: -len("_input")]), path))
    return found


def _processor_ticks(root: Path) -> dict[str, float]:
    """Of the processors this process may use, in ticks of `clock_tick_hz`; columns as in proc(5), /proc/stat."""
    allowed = {f"cpu{index}" for index in processors()}
    busy = steal = 0.0
    found = 0
    for line in _text(root / "proc/stat").splitlines():
        fields = line.split()
        if fields and fields[0] in allowed:
            found += 1
            user, nice, system, _idle, _iowait, irq, softirq, stolen = (float(field) for field in fields[1:9])
            busy += user + nice + system + irq + softirq
            steal += stolen
    if not found:
        return {}
    return {
        "busy_ticks": busy,
        "steal_ticks": steal,
        "processors": float(found),
        "clock_tick_hz": float(os.sysconf("SC_CLK_TCK")),
    }


def _pressure(root: Path) -> dict[str, float]:
    """Microseconds in which some process waited for a processor or memory, since boot (PSI, "some")."""
    values = {}
    for resource in ("cpu", "memory"):
        try:
            text = _text(root / "proc/pressure" / resource)
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("some"):
                values[f"psi_{resource}_some_us"] = float(line.rsplit("total=", 1)[1])
    return values


def _own_use(beside: Sequence[int] = ()) -> dict[str, float]:
    """Processor time and involuntary switches of this process, all its threads; the time of those `beside` it too."""
    try:
        import resource
    except ImportError:
        return {}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "own_cpu_us": round(1e6 * (usage.ru_utime + usage.ru_stime + sum(map(_cpu_s, beside)))),
        "involuntary_switches": float(usage.ru_nivcsw),
    }


def _cpu_s(process: int) -> float:
    """User and system time; fields 14 and 15 of /proc/PID/stat, counted behind the name (proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
