"""How an artifact is run: threads, batch, and what runs beside what."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeport.errors import ContractError

__all__ = ["DataParallel", "ExecutionConfig", "Limits", "ModelParallel", "SingleStream"]


@dataclass(frozen=True, kw_only=True)
class SingleStream:
    """One call after another."""

    kind: str = "single-stream"


@dataclass(frozen=True, kw_only=True)
class DataParallel:
    """Several calls at once, each on a batch of its own."""

    streams: int
    kind: str = "data-parallel"

    def __post_init__(self) -> None:
        if self.streams < 1:
            raise ContractError(asked=f"run {self.streams} streams", found="fewer than one", fix="ask for 1 or more")


@dataclass(frozen=True, kw_only=True)
class ModelParallel:
    """The model in stages, each at work on another call: a pipeline.

    Attributes:
        stages: How many.
        cores: Logical processors of each stage; empty for equal parts of those that there are on the device.

    """

    stages: int
    cores: tuple[tuple[int, ...], ...] = ()
    kind: str = "model-parallel"

    def __post_init__(self) -> None:
        asked = f"run a model in {self.stages} stages"
        if self.stages < 2:
            raise ContractError(asked=asked, found="fewer than two", fix="ask for 2 or more, or a single stream")
        if self.cores and (len(self.cores) != self.stages or not all(self.cores)):
            raise ContractError(
                asked=asked,
                found=f"processors {[list(one) for one in self.cores]}",
                fix="name the processors of each stage, or of none",
            )


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """Settings of a run.

    Attributes:
        threads: Threads inside one call; None leaves the runtime's default.
        affinity: Logical processors that the process may use; empty for all.
        spinning: Idle threads spin (lower latency, but they take the core); None leaves the default.
        batch: Samples in one call.
        layout: What runs at the same time.

    """

    threads: int | None = None
    affinity: tuple[int, ...] = ()
    spinning: bool | None = None
    batch: int = 1
    layout: SingleStream | DataParallel | ModelParallel = field(default_factory=SingleStream)

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ContractError(
                asked=f"run with {self.threads} threads", found="fewer than one", fix="ask for 1 or more"
            )
        if self.batch < 1:
            raise ContractError(asked=f"run with batch {self.batch}", found="fewer than one", fix="ask for 1 or more")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a child process may take.

    Attributes:
        time_s: Wall-clock seconds.
        memory_bytes: Resident memory of it and its children.

    """

    time_s: float = 600.0
    memory_bytes: int = 8 << 30

    def __post_init__(self) -> None:
        if self.time_s <= 0 or self.memory_bytes <= 0:
            raise ContractError(
                asked=f"limit a child to {self.time_s} s and {self.memory_bytes} bytes",
                found="a limit of zero or less",
                fix="give positive limits",
            )
