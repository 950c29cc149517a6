"""A machine that runs artifacts and tells how long they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edgeport.contracts.execution import Limits
from edgeport.contracts.measurement import ProcessTrace
from edgeport.contracts.serialise import digest_json

__all__ = [
    "CoreKind",
    "Device",
    "DeviceFacts",
    "DeviceProbe",
    "EvaluateJob",
    "InspectJob",
    "Job",
    "MaintainedDevice",
    "Processor",
    "TimeJob",
    "TimesOnly",
]


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What plans are made for: dialects and precisions depend on it.

    Attributes:
        machine: "x86_64", "aarch64".
        isa: As in `DeviceFacts`.

    """

    machine: str
    isa: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """What a device is.

    Attributes:
        name: As the user calls it.
        machine: "x86_64", "aarch64".
        cpu: Model name.
        cores: Logical processors that may be used.
        memory_bytes: Installed.
        isa: Instruction sets that matter to inference ("avx512_vnni", "avx512_bf16", "asimddp").
        system: Operating system and version.
        python: Version of the interpreter that runs the agent.
        runtimes: Runtime name to version.
        sensors: Names of the telemetry sources that exist.
        emulated: The CPU is emulated, so no latency is valid.

    """

    name: str
    machine: str
    cpu: str
    cores: int
    memory_bytes: int
    isa: tuple[str, ...] = ()
    system: str = ""
    python: str = ""
    runtimes: Mapping[str, str] = field(default_factory=dict)
    sensors: tuple[str, ...] = ()
    emulated: bool = False

    @property
    def processor(self) -> Processor:
        """What plans for it are made for."""
        return Processor(machine=self.machine, isa=self.isa)

    @property
    def digest(self) -> str:
        """Names the device in measurements and store keys."""
        return digest_json(self)


@dataclass(frozen=True, kw_only=True)
class CoreKind:
    """Processors of one kind.

    Attributes:
        name: "Cortex-A76", or the model name of an x86 processor.
        count: Logical processors.
        max_mhz: Highest frequency; 0 where the system does not tell.

    """

    name: str
    count: int
    max_mhz: int


@dataclass(frozen=True, kw_only=True)
class DeviceProbe:
    """Everything that a device tells of itself.

    Attributes:
        facts: What every job's device is known by.
        board: Of a single-board computer ("Raspberry Pi 5 Model B Rev 1.0"); empty elsewhere.
        cores: By kind, the fastest first.
        governors: Of the frequency, to the number of processors.
        thermal_zones: To degrees Celsius.
        huge_pages: When the system gives transparent huge pages: "always", "madvise" (when asked) or "never"; empty
            where it has none that it gives at once (before Linux 6.1), or does not tell.
        accelerators: By name of the driver or kind.
        asked: What the board's own programs say: "get_throttled" (vcgencmd), "power_mode" (nvpmodel),
            "thermal_status" (Android).
        missing: Sources that are not there, each with what is not known without it.
        prepared: The agent runs in an environment of its own.
        runs_with: What runs artifacts there: the path of a Python, or of a runtime's benchmark program.

    """

    facts: DeviceFacts
    board: str = ""
    cores: tuple[CoreKind, ...] = ()
    governors: Mapping[str, int] = field(default_factory=dict)
    thermal_zones: Mapping[str, float] = field(default_factory=dict)
    huge_pages: str = ""
    accelerators: tuple[str, ...] = ()
    asked: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    prepared: bool = False
    runs_with: str = ""


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """Run every sample once and keep the outputs.

    Attributes:
        artifact: Folder on the device.
        entry: File in it.
        session: Dotted name of the session module (see `Artifact.session`).
        settings: See `Artifact.settings`.
        feeds: `.npz` on the device; one array per input, axis 0 counts samples. Where these differ in shape they are
            padded, and an int64 array of the input's name and "#shape" has their shapes. The array of a state is what
            it begins with, without an axis that counts.
        outputs: `.npz` that is written on the device; one array per output but those of the state, as in `feeds`.
        batch: Samples per call.
        state: Output to the input that it feeds on the next call; then samples are steps, one in each call.
        starts: Indices of the samples at which a sequence begins, where there is a state.
        limits: Of the process.

    """

    artifact: str
    entry: str
    session: str
    settings: Mapping[str, object] = field(default_factory=dict)
    feeds: str
    outputs: str
    batch: int = 1
    state: Mapping[str, str] = field(default_factory=dict)
    starts: tuple[int, ...] = ()
    limits: Limits = field(default_factory=Limits)
    kind: str = "evaluate"


@dataclass(frozen=True, kw_only=True)
class InspectJob:
    """Open the artifact and keep what the runtime made of it, for its backend to read (`PlacementElsewhere`).

    Attributes:
        artifact, entry, session, settings, limits: As in `EvaluateJob`.
        outputs: `.zip` that is written on the device, with whatever files the session module writes.

    """

    artifact: str
    entry: str
    session: str
    settings: Mapping[str, object] = field(default_factory=dict)
    outputs: str
    limits: Limits = field(default_factory=Limits)
    kind: str = "inspect"


@dataclass(frozen=True, kw_only=True)
class TimeJob:
    """Time inference in one fresh process.

    Attributes:
        artifact, entry, session, settings, feeds, batch, state, limits: As in `EvaluateJob`. With a state all samples
            are one sequence: the last one is timed, with the state that the others lead to.
        reference: `.npz` on the device with the outputs that timed calls must give, or None.
        reference_row: Index in the reference of the first sample that is timed.
        round, position: Copied into the trace.
        warmup_s: Seconds of calls before the timed ones, at least.
        duration_s: Seconds of timed calls.
        minimum_calls, maximum_calls: Bounds on the number of readings (of one call each, but for the fastest models).
        calls_per_reading: Calls that are timed at once; 0 lets the process choose by the clock and the call.
        scenario: How queries arrive, in the words of MLPerf Inference: "single-stream" (one call after the other),
            "multi-stream" (one call of each stream at once), "offline" (each stream as fast as it can), "server"
            (at random times, `rate_per_s` on average); and "sustained": as "single-stream", but some readings are kept
            in each slot of time.
        streams: Calls that may run at the same time, of one session; 1 in "single-stream".
        rate_per_s: Queries per second in "server".
        seed: Of the arrivals.
        cold: Read the artifact from the disk, not from the system's memory of files: what the first load takes.
        idle_s: Seconds of rest before the timed calls, so that their energy can be told from the machine's own.
        gather_most, gather_wait_ns, gather_streams: Where a query is one sample and several are gathered into a call:
            samples in a call, how long the first waits for others, and calls at once. 1 sample: nothing is gathered.
        cool_down_s: Rest before this process, at most: until the device's hottest zone is at `cool_to_millicelsius`;
            all of it where no zone tells. None before the first process of an experiment.
        cool_to_millicelsius: None where it is not known.
        meet: Places, of `Device.reserve`, of all processes that are timed at the same time, the same list in each;
            empty for a process alone. Each begins its timed calls when all are warm, and works until all are done.
        meet_index: Which of them is this process's own.
        output_tolerance: Largest difference to the reference that passes, relative to the largest |reference|; kernels
            that are chosen by batch size round differently.

    """

    artifact: str
    entry: str
    session: str
    settings: Mapping[str, object] = field(default_factory=dict)
    feeds: str
    reference: str | None = None
    reference_row: int = 0
    batch: int = 1
    state: Mapping[str, str] = field(default_factory=dict)
    round: int = 0
    position: int = 0
    warmup_s: float = 0.1
    duration_s: float = 0.5
    minimum_calls: int = 20
    maximum_calls: int = 100_000
    calls_per_reading: int = 0
    scenario: str = "single-stream"
    streams: int = 1
    rate_per_s: float = 0.0
    seed: int = 0
    cold: bool = False
    idle_s: float = 0.0
    gather_most: int = 1
    gather_wait_ns: int = 0
    gather_streams: int = 1
    cool_down_s: float = 0.0
    cool_to_millicelsius: float | None = None
    meet: tuple[str, ...] = ()
    meet_index: int = 0
    output_tolerance: float = 0.01
    limits: Limits = field(default_factory=Limits)
    kind: str = "time"


Job = EvaluateJob | InspectJob | TimeJob


class Device(Protocol):
    """Local, SSH and ADB devices pass one contract suite."""

    def facts(self) -> DeviceFacts:
        """What it is; asked once, then remembered."""
        ...

    def push(self, path: Path) -> str:
        """Brings a file or folder there, unless one of the same digest lies there; returns its place there.

        Raises:
            DeviceLost: The link broke.

        """
        ...

    def reserve(self, name: str) -> str:
        """A place there for a file that a job writes; no other job has the same."""
        ...

    def run(self, job: Job) -> ProcessTrace:
        """Runs one job in a fresh process there.

        Raises:
            ChildTimeout, ResourceLimit, BackendCrash: What became of the process.
            BackendError: What the runtime said.
            DeviceLost: The link broke.

        """
        ...

    def pull(self, path: str, into: Path) -> None:
        """Brings a file from there."""
        ...

    def discard(self, path: str) -> None:
        """Removes what a job wrote in a reserved place."""
        ...

    def close(self) -> None:
        """Ends the link, if there is one; reserved places may be gone then."""
        ...


@runtime_checkable
class MaintainedDevice(Device, Protocol):
    """A device that also tells everything of itself, and is prepared and cleaned from here."""

    def probe(self) -> DeviceProbe:
        """Everything that it tells of itself, and which sources it lacks."""
        ...

    def prepare(self, packages: Sequence[str], wheels: Path | None = None) -> DeviceFacts:
        """Makes an isolated environment of Python there, from a folder of wheels where one is given.

        Raises:
            DeviceError: A package could not be installed.

        """
        ...

    def clean(self) -> Mapping[str, Any]:
        """Removes everything that Edgeport keeps there: `freed_bytes`, and in which `folder`."""
        ...


@runtime_checkable
class TimesOnly(Protocol):
    """A device that times artifacts and gives no outputs, so that nothing on it can be judged."""

    @property
    def only_times(self) -> str:
        """What it runs them with, in a sentence for people."""
        ...
