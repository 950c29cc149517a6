"""What a runtime must offer to take part, and what it tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeport.contracts.execution import ExecutionConfig
from edgeport.contracts.model import OnnxModel
from edgeport.contracts.plan import Precision, QuantizationPlan, QuantizationRules
from edgeport.contracts.samples import Array, Arrays

__all__ = ["Artifact", "Backend", "Call", "Capabilities", "NodePlacement", "Placement", "Session", "Support"]


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

    """

    backend: str
    version: str = ""
    installed: bool = False
    can_run: bool = False
    reason: str = ""
    precisions: Mapping[Precision, Support] = field(default_factory=dict)
    rules: QuantizationRules | None = None
    devices: tuple[str, ...] = ()


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
    folder: Path
    entry: str
    session: str
    settings: Mapping[str, object] = field(default_factory=dict)
    precision: Precision
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    size_bytes: int
    digest: str
    compile_ns: int | None = None
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
    """An opened artifact."""

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
class Placement:
    """What really ran where, node by node, read back from the runtime.

    Attributes:
        nodes: In the order the runtime gives.
        source: How it was read ("optimised graph", "runtime model", "engine inspector").

    """

    nodes: tuple[NodePlacement, ...]
    source: str

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
