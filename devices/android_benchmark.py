"""An Android device without a Python: artifacts are timed there by the runtime's own benchmark program.

What that gives is less than the agent's: times, but no outputs that could be judged, and nobody who watches for other
load. Every trace says so (`native-benchmark`), and no verdict on it passes. Shells see words of Edgeport's own alone:
files lie there under their digests.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from edgeport.contracts import (
    DeviceFacts,
    DeviceProbe,
    Job,
    ProcessTrace,
    TelemetrySample,
    TimeJob,
    TimerFacts,
    digest_file,
    load_json,
    to_jsonable,
)
from edgeport.devices.agent.arrays import SHAPE, load_arrays
from edgeport.devices.agent.board_sensors import read_thermal_service
from edgeport.devices.agent.digest import artifact_digest
from edgeport.devices.agent.facts import cpu_facts
from edgeport.devices.agent.failure import JobError
from edgeport.devices.agent.probing import ACCELERATOR_FILES, missing_sources, told_by_files
from edgeport.devices.agent.telemetry import heat_values
from edgeport.devices.android import AndroidEnvironment, Shell
from edgeport.devices.benchmark_programs import PROGRAMS, RESULT, BenchmarkTimes, Call, Feed, NativeProgram
from edgeport.errors import BackendCrash, BackendError, ChildTimeout, DeviceError, EdgeportError, UsageError

__all__ = ["FLAG", "NativeDevice"]

_LOG = logging.getLogger(__name__)
FLAG = "native-benchmark"
_ASK_S = 60.0
_POLL_S = 1.0
_BUSY = "edgeport-busy"
"""All that is said there while another measurement has its turn; a status may be the program's own."""
_OVERDUE, _KILLED = 124, 137
_SAID = 20_000
_FILE = re.compile(r"/(proc|sys|dev)(/[A-Za-z0-9._:+-]+)+")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_HEAT = (
    "/sys/class/thermal/thermal_zone*/type /sys/class/thermal/thermal_zone*/temp"
    " /sys/class/thermal/cooling_device*/type /sys/class/thermal/cooling_device*/cur_state"
)
_OF_DEVICE = (
    f"/proc/cpuinfo /proc/meminfo {_HEAT} /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq"
    " /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"
)
_SHOW = 'for one in {}; do [ -r "$one" ] && {{ echo "edgeport-file $one"; cat "$one"; echo; }}; done 2>/dev/null'
_THERMAL = "echo edgeport-file /thermal; dumpsys thermalservice 2>/dev/null | head -c 20000"


class NativeDevice:
    """Times artifacts with a benchmark program that lies on the device.

    Args:
        name: As the user calls it.
        shell: Of the device.
        found: What is there.
        workdir: For files on this machine.

    """

    def __init__(self, name: str, shell: Shell, found: AndroidEnvironment, workdir: Path) -> None:
        self._name = name
        self._shell = shell
        self._found = found
        self._workdir = workdir.resolve()
        self._folder = f"{found.folder}/edgeport-native"
        self._pushed: dict[str, Path] = {}
        self._there: set[str] = set()
        self._facts: DeviceFacts | None = None
        self._said_that_it_waits = False

    @property
    def only_times(self) -> str:
        """See `TimesOnly`."""
        return (
            f"{self._name} has no Python: {' and '.join(self._found.programs)} of its own times artifacts there; their"
            " outputs are not checked, and nobody watches for other load"
        )

    def close(self) -> None:
        """Nothing is held open."""

    def facts(self) -> DeviceFacts:
        """Processor, memory, system and programs of the device.

        Raises:
            DeviceError: It can't be reached, or its answer makes no sense.

        """
        if self._facts is None:
            self._facts = self._ask()[0]
        return self._facts

    def probe(self) -> DeviceProbe:
        """Everything that the device tells of itself.

        Raises:
            DeviceError: It can't be reached, or its answer makes no sense.

        """
        facts, told, words = self._ask()
        thermal = read_thermal_service(told.pop("/thermal", ""))
        status = thermal.get("android_thermal_status")
        board = f"Android: {words.get('maker', '')} {words.get('model', '')}".strip()
        with self._mirrored(told) as root:
            said = told_by_files(Path(root))
        value = {
            **said,
            "facts": to_jsonable(facts),
            "board": board,
            "asked": {} if status is None else {"thermal_status": f"{status:g}"},
            "missing": missing_sources(facts.sensors, board),
            "runs_with": ", ".join(self._found.programs.values()),
        }
        return load_json(DeviceProbe, json.dumps(value))

    def prepare(self, packages: Sequence[str], wheels: Path | None = None) -> DeviceFacts:
        """There is no Python that could be prepared.

        Raises:
            DeviceError: Always.

        """
        del packages, wheels
        raise DeviceError(
            asked=f"prepare {self._name}",
            found=f"no Python there, but {', '.join(self._found.programs)}",
            fix="put a Python for Android there as /data/local/tmp/python/bin/python3",
        )

    def clean(self) -> dict[str, Any]:
        """Removes everything that Edgeport keeps there.

        Returns:
            `freed_bytes` and `folder`.

        """
        line = f"mkdir -p {self._folder}; du -sk {self._folder}; rm -rf {self._folder}"
        _, said = self._shell.run(line, asked=f"clean {self._name}", within_s=_ASK_S)
        kilobytes = said.split()[0] if said.split() else "0"
        self._there.clear()
        return {"freed_bytes": int(kilobytes) * 1024 if kilobytes.isdigit() else 0, "folder": self._folder}

    def push(self, path: Path) -> str:
        """Brings the files there, each under its digest; what lies there is not sent again.

        Raises:
            DeviceError: There is no such file, or no room for it.
            DeviceLost: The link broke.

        """
        if not path.exists():
            raise DeviceError(
                asked=f"bring {path.name} to {self._name}", found="no such file or folder", fix="build it first"
            )
        if path.is_dir():  # what jobs are fed becomes tensors of the program's own kind, when it is called
            for one in _files(path):
                self._bring(one)
        place = f"{self._folder}/{hashlib.sha256(str(path.resolve()).encode()).hexdigest()}"
        self._pushed[place] = path.resolve()
        return place

    def reserve(self, name: str) -> str:
        """No job writes a file there.

        Raises:
            DeviceError: Always.

        """
        raise self._no_outputs(f"keep {name} of a job")

    def pull(self, path: str, into: Path) -> None:
        """No job writes a file there.

        Raises:
            DeviceError: Always.

        """
        raise self._no_outputs(f"bring {Path(path).name} to {into.name}")

    def discard(self, path: str) -> None:
        """No job writes a file there."""

    def run(self, job: Job) -> ProcessTrace:
        """Times calls in a fresh process of the program; nobody else's run of Edgeport times there meanwhile.

        Raises:
            DeviceError: A job, or a setting of its artifact, that the program has no word for.
            BackendError: What the program said.
            BackendCrash, ChildTimeout: What became of it.
            DeviceLost: The link broke; the program is ended there too.

        """
        if not isinstance(job, TimeJob):
            raise self._no_outputs(f"evaluate {job.entry}")
        program = self._program(job)
        self._require_plain(job)
        artifact = self._pushed[job.artifact]
        names = _names(artifact, job.entry)
        call = program.call(job, names[job.entry], self._feeds(job))
        links = {name: self._bring(artifact / relative) for relative, name in names.items()}
        with tempfile.TemporaryDirectory() as scratch:
            for name, data in call.files.items():
                file = Path(scratch, name.replace("/", "-"))
                file.write_bytes(data)
                links[name] = self._bring(file)
        return self._timed(job, program, call, links, artifact_digest(artifact, dict(job.settings)))

    def _timed(
        self, job: TimeJob, program: NativeProgram, call: Call, links: Mapping[str, str], digest: str
    ) -> ProcessTrace:
        asked = f"time {job.entry} with {program.name}"
        folder = f"{self._folder}/jobs/{secrets.token_hex(8)}"
        line = self._line(folder, self._found.programs[program.name], call, links, job.limits.time_s)
        while True:
            began = time.monotonic_ns()
            status, said = self._shell.run(line, asked=asked, within_s=job.limits.time_s + _ASK_S)
            if said.strip() != _BUSY:
                break
            if not self._said_that_it_waits:
                _LOG.warning("%s: waiting for another measurement there to end", self._name)
                self._said_that_it_waits = True
            time.sleep(_POLL_S)
        ended = time.monotonic_ns()
        parts = _sections(said)
        if status != 0:
            _raise(job, asked, status, (ended - began) / 1e9, parts)
        try:
            timed = program.read(parts.get("/said", ""), parts.get("/result", ""))
        except ValueError as error:
            raise _no_times(asked, str(error)) from error
        if not timed.latency_ns:
            raise _no_times(asked, parts.get("/said", "").strip()[-500:] or "nothing")
        return _trace(job, timed, digest, self._heat(parts, began, ended))

    def _line(self, folder: str, program: str, call: Call, links: Mapping[str, str], time_s: float) -> str:
        """One line of a POSIX shell, of words that are all ours.

        The program has a session of its own. Another process there reads what the host says, which is nothing; so when
        the link breaks (`adbd` closes the pipes then) it ends that session, whatever became of the shell.
        """
        places = "; ".join(f"ln -s {self._file(digest)} {name}" for name, digest in links.items())
        words = shlex.join(["timeout", "-s", "KILL", f"{max(1, round(time_s))}", *call.before, program, *call.words])
        here = str(Path(program).parent)
        heat = f"{_SHOW.format(_HEAT)}; {_THERMAL}"
        tell = "; ".join(
            f"echo; echo edgeport-file /{name}; head -c {most} {file} 2>/dev/null"
            for name, file, most in (("said", "said", 1 << 20), ("told", "told", _SAID), ("result", RESULT, 32 << 20))
        )
        watched = (
            f"LD_LIBRARY_PATH={here} $(command -v setsid) {words} > said 2> told & program=$!;"
            " ( trap '' HUP; read nothing <&8; kill -9 -$program || kill -9 $program;"
            f" rm -rf {folder} ) > /dev/null 2>&1 9>&- & watch=$!;"
            " wait $program; code=$?; kill -9 $watch"
        )
        return (
            f"mkdir -p {folder}/test_data_set_0 && cd {folder} && ("
            f" flock -n -x 9; if [ $? -eq 1 ]; then echo {_BUSY}; exit; fi;"
            f" {places}; {heat}; echo; echo edgeport-file /after-this; {watched}; {heat}; {tell}; exit $code"
            f" ) 8<&0 9>> {self._folder}/measuring.lock; code=$?; rm -rf {folder}; (exit $code)"
        )

    def _heat(self, parts: Mapping[str, str], began: int, ended: int) -> tuple[TelemetrySample, ...]:
        samples = []
        for prefix, at_ns in (("", began), ("after:", ended)):
            files = {
                name.removeprefix(prefix): text for name, text in parts.items() if name.startswith(f"{prefix}/sys/")
            }
            with self._mirrored(files) as root:
                values = heat_values(Path(root))
            values.update(read_thermal_service(parts.get(f"{prefix}/thermal", "")))
            samples.append(TelemetrySample(at_ns=at_ns, values=values))
        return tuple(samples)

    def _program(self, job: TimeJob) -> NativeProgram:
        program = next((one for one in PROGRAMS if one.session == job.session), None)
        if program is None or program.name not in self._found.programs:
            raise DeviceError(
                asked=f"time {job.entry} on {self._name}",
                found=f"no Python there, but {', '.join(self._found.programs)}",
                fix=(
                    f"put {program.name} into /data/local/tmp, or a Python for Android there"
                    if program is not None
                    else "put a Python for Android there, with numpy and the runtime"
                ),
            )
        return program

    def _require_plain(self, job: TimeJob) -> None:
        asked = {
            f"the scenario {job.scenario}": job.scenario != "single-stream" or job.streams != 1,
            "samples that are gathered": job.gather_most != 1,
            "a state": bool(job.state),
            "processes that are timed together": bool(job.meet),
            "the energy of calls": bool(job.idle_s),
            "rest between processes": bool(job.cool_down_s),
        }
        for what, wanted in asked.items():
            if wanted:
                raise UsageError(
                    asked=f"time {job.entry} on {self._name} with {what}",
                    found=self.only_times,
                    fix="leave that out, or put a Python for Android there",
                )

    def _feeds(self, job: TimeJob) -> list[Feed]:
        """What one call is fed: the first samples of the file."""
        try:
            arrays = load_arrays(str(self._pushed[job.feeds]))
        except JobError as error:
            raise DeviceError(
                asked=str(error.record["asked"]), found=str(error.record["found"]), fix=str(error.record["fix"])
            ) from error
        if any(name.endswith(SHAPE) for name in arrays):
            raise self._no_outputs("feed samples of different shapes")
        return [Feed(name=name, array=array[: job.batch]) for name, array in arrays.items()]

    def _no_outputs(self, asked: str) -> DeviceError:
        return DeviceError(
            asked=f"{asked} on {self._name}",
            found=self.only_times,
            fix="put a Python for Android there, with numpy and the runtime (docs/how-to/devices.md)",
        )

    def _bring(self, path: Path) -> str:
        """The file there, under its digest, which is returned; what arrived is digested there."""
        digest = digest_file(path)
        if digest in self._there:
            return digest
        place = self._file(digest)
        check = f'[ "$(sha256sum {{}} 2>/dev/null | head -c 64)" = {digest} ]'
        asked = f"bring {path.name} to {self._name}"
        line = f"mkdir -p {self._folder}/files {self._folder}/jobs && {check.format(place)}"
        if self._shell.run(line, asked=asked, within_s=_ASK_S)[0] != 0:
            part = f"{place}.{secrets.token_hex(4)}.part"
            self._shell.push(path, part)
            line = f"{check.format(part)} && mv {part} {place} || {{ rm -f {part}; false; }}"
            if self._shell.run(line, asked=asked, within_s=_ASK_S)[0] != 0:
                raise DeviceError(asked=asked, found="other bytes there than were sent", fix="look at its disk")
        self._there.add(digest)
        return digest

    def _file(self, digest: str) -> str:
        return f"{self._folder}/files/{digest}"

    def _ask(self) -> tuple[DeviceFacts, dict[str, str], dict[str, str]]:
        words = {
            "machine": "uname -m",
            "kernel": "uname -r",
            "cores": "nproc",
            "android": "getprop ro.build.version.release",
            "maker": "getprop ro.product.manufacturer",
            "model": "getprop ro.product.model",
        }
        asks = "; ".join(f'echo "edgeport-word {name} $({ask} 2>/dev/null)"' for name, ask in words.items())
        there = " ".join(f"/{file}" for file in ACCELERATOR_FILES)
        seen = f'for one in {there}; do [ -e "$one" ] && echo "edgeport-file $one"; done'
        line = f"{asks}; {seen}; {_SHOW.format(_OF_DEVICE)}; {_THERMAL}"
        _, said = self._shell.run(line, asked=f"ask for the facts of {self._name}", within_s=_ASK_S)
        told = _sections(said)
        found = dict(re.findall(r"^edgeport-word (\w+) (.{0,100}?)\s*$", said, re.MULTILINE))
        with self._mirrored(told) as root:
            cpu, isa = cpu_facts(Path(root))
            sensors = [*heat_values(Path(root))]
        memory = re.search(r"^MemTotal:\s+(\d{1,12}) kB", told.get("/proc/meminfo", ""), re.MULTILINE)
        if read_thermal_service(told.get("/thermal", "")):
            sensors.append("dumpsys thermalservice")
        facts = DeviceFacts(
            name=self._name,
            machine=found.get("machine", "") or "unknown",
            cpu=cpu or "unknown",
            cores=int(found["cores"]) if found.get("cores", "").isdigit() else 1,
            memory_bytes=int(memory[1]) * 1024 if memory else 0,
            isa=tuple(isa),
            system=f"Android {found.get('android', '')} {found.get('kernel', '')}".replace("  ", " ").strip(),
            runtimes=dict(self._found.programs),
            sensors=tuple(sorted(sensors)),
        )
        return facts, told, found

    def _mirrored(self, files: Mapping[str, str]) -> tempfile.TemporaryDirectory[str]:
        """A folder in which they lie as they do there, so that they are read by what reads this machine's."""
        self._workdir.mkdir(parents=True, exist_ok=True)
        root = tempfile.TemporaryDirectory(dir=self._workdir)
        for name, text in files.items():
            if _FILE.fullmatch(name) and ".." not in name:
                path = Path(root.name, name.lstrip("/"))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return root


def _trace(job: TimeJob, timed: BenchmarkTimes, digest: str, telemetry: tuple[TelemetrySample, ...]) -> ProcessTrace:
    warm, spent = 0, 0
    while timed.calls_per_reading == 1 and warm < len(timed.latency_ns) - 1 and spent < job.warmup_s * 1e9:
        spent += timed.latency_ns[warm]
        warm += 1
    kept = timed.latency_ns[warm:][: job.maximum_calls]
    return ProcessTrace(
        artifact_digest=digest,
        round=job.round,
        position=job.position,
        load_ns=timed.load_ns,
        first_inference_ns=timed.latency_ns[0] if timed.first_ns is None else timed.first_ns,
        warmup_ns=timed.latency_ns[:warm],
        latency_ns=kept,
        calls_per_reading=timed.calls_per_reading,
        samples=job.batch * len(kept) * timed.calls_per_reading,
        elapsed_ns=sum(kept) * timed.calls_per_reading,
        peak_memory_bytes=timed.peak_memory_bytes,
        timer=TimerFacts(clock="of the program", resolution_ns=1, overhead_ns=0),
        telemetry=telemetry,
        flags=(FLAG,),
    )


def _sections(said: str) -> dict[str, str]:
    """Name to text of what was shown; those behind the program's run begin with "after:"."""
    found: dict[str, str] = {}
    after = ""
    for part in said.split("edgeport-file ")[1:]:
        name, _, text = part.partition("\n")
        if name == "/after-this":
            after = "after:"
        key = name if name in ("/said", "/told", "/result") else f"{after}{name}"
        found[key] = text
    return found


def _raise(job: TimeJob, asked: str, status: int, seconds: float, parts: Mapping[str, str]) -> NoReturn:
    told = (parts.get("/told", "") or parts.get("/said", "")).strip()[-1500:]
    details = {"stderr": told, "exit_status": status}
    if status in (_OVERDUE, _KILLED) and seconds >= job.limits.time_s:
        raise ChildTimeout(
            asked=f"{asked} within {job.limits.time_s:g} s",
            found="it was still at work, and was killed",
            fix="give it more time, or a smaller model",
            details=details,
        )
    if status > 128:
        raise BackendCrash(
            asked=asked,
            found=f"it died by signal {status - 128}",
            fix="other candidates are not touched; look at its log (logcat)",
            details=details,
        )
    raise BackendError(asked=asked, found=told or f"status {status}", fix="see what the program says", details=details)


def _no_times(asked: str, said: str) -> EdgeportError:
    return DeviceError(
        asked=asked, found=f"no times in what it says: {said}", fix="take another release of the program"
    )


def _names(artifact: Path, entry: str) -> dict[str, str]:
    """File of an artifact to its name in the program's folder; the model's own, which may be any, is not needed."""
    names = {}
    stem, ending = Path(entry).stem, Path(entry).suffix
    for path in _files(artifact):
        relative = path.relative_to(artifact).as_posix()
        name = f"model{path.suffix}" if path.parent == artifact and path.stem == stem else relative
        if not _PLAIN.fullmatch(name):
            raise DeviceError(
                asked=f"bring {entry} to a benchmark program",
                found=f"a file called {relative!r} beside it",
                fix="use letters, digits, '.', '_' and '-' in names of weights",
            )
        names[relative] = name
    if names.get(entry) != f"model{ending}":
        raise DeviceError(asked=f"time {entry}", found="no such file in the artifact", fix="build it again")
    return names


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
