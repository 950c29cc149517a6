"""What a runtime must offer to take part, and what it tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Protocol, runtime_checkable

from edgeport.contracts.device import Processor
from edgeport.contracts.execution import ExecutionConfig
from edgeport.contracts.model import OnnxModel
from edgeport.contracts.plan import Precision, QuantizationPlan, QuantizationRules
from edgeport.contracts.request import Scratch
from edgeport.contracts.samples import Array, Arrays

__all__ = [
    "Accelerated",
    "Accelerator",
    "Artifact",
    "Backend",
    "Call",
    "Capabilities",
    "ExecutionSpace",
    "Misplaced",
    "NodePlacement",
    "Packing",
    "Placement",
    "PlacementElsewhere",
    "PlanReducing",
    "ProcessorPeak",
    "Session",
    "Support",
    "Tunable",
]


@dataclass(frozen=True, kw_only=True)
class Support:
    """Whether a backend has a precision here, and if not, why.

    Attributes:
        available: It can be compiled.
        reason: One sentence, where it can't.

    """

    available: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a backend can do on this machine; asked before any work.

    Attributes:
        backend: Its name.
        version: Of the runtime; empty where it is not installed.
        installed: It imports.
        can_run: It can execute what it builds here; a TensorRT engine needs its GPU.
        reason: Why it is not installed or can't run, and how to get it.
        precisions: Per precision, whether it can be compiled here.
        rules: The dialect for this hardware; None where it takes no integer plans.
        devices: What the runtime sees ("CPU", "GPU.0").
        unusable: Devices that were installed and can't be asked for here, each with the reason.
        layouts: Kinds of `ExecutionConfig.layout` that it runs.
        highest_opset: Of ONNX's own operators that files may have; None where it looks at the operators alone.
        processor: That all of this is for; None for this machine's own.

    """

    backend: str
    version: str = ""
    installed: bool = False
    can_run: bool = False
    reason: str = ""
    precisions: Mapping[Precision, Support] = field(default_factory=dict)
    rules: QuantizationRules | None = None
    devices: tuple[str, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    layouts: tuple[str, ...] = ("single-stream",)
    highest_opset: int | None = None
    processor: Processor | None = None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What a backend compiled: one folder that the runtime on the device opens.

    Attributes:
        backend: Name of the backend.
        folder: Everything that ships, and nothing else.
        entry: The file in it that the session opens.
        session: Dotted name of the module with `open_session(path, settings)`; standard library, numpy and
            the runtime only. It is packed into the agent.
        settings: Handed to `open_session`; JSON values (precision hint, threads, spinning).
        precision: The plan's name in tables.
        size_bytes: Of the folder's files.
        digest: SHA-256 over their names and bytes, and the settings.
        compile_ns: What compiling took, planning not counted; None where nobody timed it. Candidates of a run are
            compiled side by side, so it is no measurement of the compiler alone.

    """

    backend: str
    folder: Annotated[Path, Scratch]
    entry: str
    session: str
    settings: Mapping[str, object] = field(default_factory=dict)
    precision: Precision
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    size_bytes: int
    digest: str
    compile_ns: Annotated[int | None, Scratch] = None
    schema_version: int = 1


class Call(Protocol):
    """Inputs that are bound, ready to be run again and again."""

    def run(self) -> None:
        """One inference; this alone is timed."""
        ...

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last `run`, by output name."""
        ...


class Session(Protocol):
    """An opened artifact.

    One that runs in other processes too has `processes`, their numbers: what they take counts as its own.
    """

    def bind(self, feeds: Arrays) -> Call:
        """Checks and places the inputs (arrays by input name), so that `run` does not pay for it."""
        ...

    def close(self) -> None:
        """Frees the runtime's memory; the session is of no use after."""
        ...


@dataclass(frozen=True, kw_only=True)
class NodePlacement:
    """Where one node of the runtime's own, optimised graph ran.

    Attributes:
        name: As the runtime calls it.
        operator: The runtime's own operator type ("QLinearConv", "Convolution").
        device: Execution provider or device.
        precision: What it really computed in; "int8", "fp32", "bf16", or "" where it computes nothing
            (reshapes, constants).
        origin: Names of the ONNX nodes or PyTorch modules that went into it, where the runtime tells.
        reason: Why it is not in the precision that was planned, where it isn't.
        weights: What the runtime keeps its weights in ("int8", "int4"), where these alone were planned as integers
            and still are; else "".

    """

    name: str
    operator: str
    device: str
    precision: str
    origin: tuple[str, ...] = ()
    reason: str = ""
    weights: str = ""

    @property
    def ran_as(self) -> str:
        """For tables: "int8", or "fp32 with int4 weights"; "" where it computes nothing on what it has."""
        if not self.weights:
            return self.precision
        return f"{self.precision} with {self.weights} weights" if self.precision else f"{self.weights} weights"


@dataclass(frozen=True, kw_only=True)
class Misplaced:
    """A node that did not run as it was planned.

    Attributes:
        node: Its ONNX name.
        operator: ONNX operator type.
        module: Path of the PyTorch module that it came from; empty where that is not known.
        planned: Precision; empty where only the device was asked for.
        ran_as: See `NodePlacement.ran_as`.
        device: Where it ran.
        reason: In a sentence.

    """

    node: str
    operator: str
    module: str = ""
    planned: str
    ran_as: str
    device: str
    reason: str

    def __str__(self) -> str:
        """As a sentence says it: "Conv conv1 (module layer1.conv1) ran as fp32 on CPU: ..."."""
        module = f" (module {self.module})" if self.module else ""
        return f"{self.operator} {self.node}{module} ran as {self.ran_as} on {self.device}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What really ran where, node by node, read back from the runtime.

    Attributes:
        nodes: In the order the runtime gives.
        source: How it was read ("optimised graph", "runtime model", "engine inspector").
        planned: Number of ONNX nodes that were seen to run and that the plan has a word for (`compared`); None where
            nobody has compared the two.
        misplaced: Those of them that did not run so.
        unseen: Number of planned nodes that the runtime did not tell of, or that only move numbers.
        ran: It is of what a runtime runs; False where it was built, not run.

    """

    nodes: tuple[NodePlacement, ...]
    source: str
    planned: int | None = None
    misplaced: tuple[Misplaced, ...] = ()
    unseen: int = 0
    ran: bool = True

    @property
    def as_planned(self) -> float | None:
        """Part of the planned nodes that ran so, 0..1; None where it is not known.

        1 where nothing was planned, 0 where nothing of what was planned was seen.
        """
        if self.planned is None:
            return None
        if not self.planned:
            return 0.0 if self.unseen else 1.0
        return 1 - len(self.misplaced) / self.planned

    def share(self, precision: str) -> float:
        """Part of the computing nodes (those with a precision) that ran in `precision`, 0..1."""
        computing = [node for node in self.nodes if node.precision]
        if not computing:
            return 0.0
        return sum(node.precision == precision for node in computing) / len(computing)

    def summary(self) -> str:
        """One line for tables: "int8 12/14, fp32 2/14"."""
        counts = Counter(node.ran_as for node in self.nodes if node.precision)
        total = counts.total()
        return ", ".join(f"{name} {count}/{total}" for name, count in counts.most_common()) or "nothing computed"


class Backend(Protocol):
    """A runtime. Each one stands alone: a backend may not subclass or import another."""

    def capabilities(self) -> Capabilities:
        """What it can do here; never raises for a runtime that is missing."""
        ...

    def compile(self, model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig, folder: Path) -> Artifact:
        """Writes the plan into the graph in the backend's dialect, and builds what ships into `folder`.

        Raises:
            DependencyError: The runtime is not installed.
            UnsupportedByBackend: An operator or a precision it does not have.
            PlanError: A plan for another model or another dialect.

        """
        ...

    def open(self, artifact: Artifact) -> Session:
        """Opens it in this process.

        Raises:
            BackendError: It does not open here.

        """
        ...

    def placement(self, artifact: Artifact) -> Placement:
        """Asks the runtime what ran where."""
        ...


@runtime_checkable
class PlacementElsewhere(Protocol):
    """A backend whose session module can say on a device what the runtime there made of an artifact.

    The module has `describe_session(path, settings, folder)`, which writes files into an empty folder.
    """

    def placement_told(self, artifact: Artifact, told: Path) -> Placement:
        """What ran where, from the folder that was written there.

        Raises:
            BackendError: The files are not what the session module writes.

        """
        ...


@dataclass(frozen=True, kw_only=True)
class ExecutionSpace:
    """What executions are looked for.

    Attributes:
        goal: "latency" (of one call after the other) or "throughput" (of as many at once as there are streams).
        cores: Logical processors that may be used.
        batches: Samples in a call; more than one number where the model's batch is free.

    """

    goal: Literal["latency", "throughput"]
    cores: tuple[int, ...]
    batches: tuple[int, ...] = (1,)

    def shares(self) -> list[tuple[int, int]]:
        """Streams and threads of each whose product is the number of processors, or nearly: (1, 4), (2, 2), (4, 1)."""
        count = max(1, len(self.cores))
        streams = [number for number in (2**power for power in range(count.bit_length())) if number <= count]
        streams += [count] if count not in streams else []
        return [(number, count // number) for number in streams]


@runtime_checkable
class Packing(Protocol):
    """A backend that can ship what it compiled in more than one form."""

    def packed(self, artifact: Artifact, form: str, folder: Path) -> tuple[Artifact, Placement]:
        """The artifact in another form, in a folder of its own, and what runs where in it.

        Raises:
            UnsupportedByBackend: No such form, or none of this artifact.

        """
        ...


@runtime_checkable
class PlanReducing(Protocol):
    """A backend that leaves out of what it writes some of the pairs that a plan has."""

    def effective_plan(self, model: OnnxModel, plan: QuantizationPlan) -> QuantizationPlan:
        """The plan as the backend writes it, so that another runtime can run what this one will."""
        ...


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A device besides the CPU that is worth a target of its own.

    Attributes:
        listed: As `Capabilities.devices` lists it.
        runtime_device: In a recipe's words.
        package: Python package that brings what runs there.
        library: Pattern of a file in that package, without which the device can't be listed.

    """

    listed: str
    runtime_device: str
    package: str
    library: str


@runtime_checkable
class Accelerated(Protocol):
    """A backend that computes on other devices than the CPU too."""

    def accelerators(self) -> Sequence[Accelerator]:
        """Those it knows, whether or not they are here; loads no runtime."""
        ...


@runtime_checkable
class ProcessorPeak(Protocol):
    """A backend on the CPU that is fast enough for its best matrix product to be called the processor's peak."""

    def peak_execution(self, execution: ExecutionConfig) -> ExecutionConfig:
        """Of how a model is run, what the peak depends on."""
        ...


@runtime_checkable
class Tunable(Protocol):
    """A backend whose artifacts run otherwise with other settings, and the same files."""

    def executions(self, artifact: Artifact, space: ExecutionSpace) -> Sequence[ExecutionConfig]:
        """What to try for a goal: first what the runtime does by itself, with each batch, then what may be better."""
        ...

    def with_execution(self, artifact: Artifact, execution: ExecutionConfig) -> Artifact:
        """The artifact with other settings and digest.

        Raises:
            UnsupportedByBackend: A setting that it has not, or one that needs other files.

        """
        ...
