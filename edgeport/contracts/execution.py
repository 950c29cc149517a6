"""How an artifact is run: threads, batch, and what runs beside what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from edgeport.errors import ContractError

__all__ = ["DataParallel", "ExecutionConfig", "Limits", "ModelParallel", "SingleStream", "TaskParallel"]


_LOWEST_PRIORITY = 19
_TRAINING_S = 7 * 86400.0
"""Of a child that trains: it tells where it is, and can be stopped at any time."""


@dataclass(frozen=True, kw_only=True)
class SingleStream:
    """One call after another."""

    kind: str = "single-stream"


@dataclass(frozen=True, kw_only=True)
class DataParallel:
    """Several calls at once, each on a batch of its own and with `ExecutionConfig.threads` threads.

    Attributes:
        streams: How many; without threads, each gets an equal part of the processors that there are on the device.
        cores: Logical processors of each stream; empty where the system places them.
        wait_ns: Samples come one by one, and are gathered into calls of up to `ExecutionConfig.batch`: how long the
            first of a call waits for others, nanoseconds. None where the caller makes the calls.

    """

    streams: int
    cores: tuple[tuple[int, ...], ...] = ()
    wait_ns: int | None = None
    kind: str = "data-parallel"

    def __post_init__(self) -> None:
        asked = f"run {self.streams} streams"
        if self.streams < 1:
            raise ContractError(asked=asked, found="fewer than one", fix="ask for 1 or more")
        if self.wait_ns is not None and self.wait_ns < 0:
            raise ContractError(asked=asked, found=f"a wait of {self.wait_ns} ns", fix="wait for 0 or more")
        if self.cores and (len(self.cores) != self.streams or not all(self.cores)):
            raise ContractError(
                asked=asked,
                found=f"processors {[list(one) for one in self.cores]}",
                fix="name the processors of each stream, or of none",
            )


@dataclass(frozen=True, kw_only=True)
class ModelParallel:
    """The model in stages, each at work on another call: a pipeline.

    Attributes:
        stages: How many.
        cores: Logical processors of each stage; empty for equal parts of those that there are on the device.
        processes: Each stage in a process of its own; else all are threads of one.

    """

    stages: int
    cores: tuple[tuple[int, ...], ...] = ()
    processes: bool = False
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
        hint: "latency" or "throughput", where the runtime itself is to choose streams and threads; else empty.
        pinned: The runtime's threads stay on the processors that it puts them on; None leaves the default.
        priority: Nice value, 0..19, of what runs it: the higher, the more it gives way on shared processors.
        batch: Samples in one call.
        huge_pages: Before the second run the memory that the process uses is moved into huge pages, where the system
            gives these when asked (Linux 6.1); else it runs as it would without.
        layout: What runs at the same time.
        runtime_device: Where the runtime computes, in its own words ("GPU", "HETERO:GPU,CPU", "CUDA:device_id=1");
            empty for the CPU.

    """

    threads: int | None = None
    affinity: tuple[int, ...] = ()
    spinning: bool | None = None
    hint: Literal["", "latency", "throughput"] = ""
    pinned: bool | None = None
    priority: int = 0
    batch: int = 1
    huge_pages: bool = False
    layout: SingleStream | DataParallel | ModelParallel = field(default_factory=SingleStream)
    runtime_device: str = ""

    @property
    def calls_at_once(self) -> int:
        """That it can work on; a pipeline's stages, and one that waits."""
        if isinstance(self.layout, DataParallel):
            return self.layout.streams
        return self.layout.stages + 1 if isinstance(self.layout, ModelParallel) else 1

    def __str__(self) -> str:
        """In a few words: "2 streams of 1 thread, batch 4, no spinning"; "the runtime's defaults"."""
        threads = "" if self.threads is None else f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        words = [threads] if threads else []
        if isinstance(self.layout, DataParallel):
            streams = f"{self.layout.streams} stream{'s' if self.layout.streams > 1 else ''}"
            words = [f"{streams} of {threads}" if threads else streams]
        elif isinstance(self.layout, ModelParallel):
            words.insert(0, f"{self.layout.stages} stages" + (" in processes" if self.layout.processes else ""))
        cores = self.layout.cores if isinstance(self.layout, DataParallel) else ()
        wait_ns = self.layout.wait_ns if isinstance(self.layout, DataParallel) else None
        gathered = f" gathered within {wait_ns / 1e6:g} ms" if wait_ns is not None else ""
        told = {
            f"hint {self.hint}": bool(self.hint),
            f"batch {self.batch}{gathered}": self.batch > 1,
            f"on processor{'s' if len(self.affinity) > 1 else ''} {', '.join(map(str, self.affinity))}": bool(
                self.affinity
            ),
            "each on processors of its own": bool(cores),
            f"on {self.runtime_device}": bool(self.runtime_device),
            "spinning": self.spinning is True,
            "no spinning": self.spinning is False,
            f"nice {self.priority}": self.priority > 0,
            "pinned": self.pinned is True,
            "not pinned": self.pinned is False,
            "huge pages": self.huge_pages,
        }
        return ", ".join([*words, *(word for word, holds in told.items() if holds)]) or "the runtime's defaults"

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ContractError(
                asked=f"run with {self.threads} threads", found="fewer than one", fix="ask for 1 or more"
            )
        if not 0 <= self.priority <= _LOWEST_PRIORITY:
            raise ContractError(
                asked=f"run with the nice value {self.priority}",
                found="one outside of 0..19",
                fix="give 0, or up to 19 for what may wait",
            )
        if self.batch < 1:
            raise ContractError(asked=f"run with batch {self.batch}", found="fewer than one", fix="ask for 1 or more")


@dataclass(frozen=True, kw_only=True)
class TaskParallel:
    """Several models at work on one device at the same time, each in a process of its own.

    Attributes:
        residents: Name of a model to how it is run: its processors (`affinity`), threads and priority.

    """

    residents: Mapping[str, ExecutionConfig]
    kind: str = "task-parallel"

    def __post_init__(self) -> None:
        if not self.residents:
            raise ContractError(asked="run models beside each other", found="none", fix="name at least one")

    def __str__(self) -> str:
        """All of them in a line: "a: 1 thread, on processor 0; b: ..."."""
        return "; ".join(f"{name}: {execution}" for name, execution in self.residents.items())


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

    def for_training(self) -> Limits:
        """At least a week, since a training ends by its epochs; the memory stays."""
        return replace(self, time_s=max(self.time_s, _TRAINING_S))
