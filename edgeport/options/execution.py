"""How an artifact is to be run: threads, streams, stages, and what computes."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.options.declare import option

__all__ = ["ExecutionOptions"]


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """What an `edgeport.contracts.ExecutionConfig` is made of.

    Attributes:
        threads: Inside one call; None leaves the runtime's default.
        stages: Each at work on another call.
        stage_processes: Each stage in a process of its own.
        streams: Calls at once, each with `threads` threads.
        spinning: Idle threads spin; None leaves the default.
        affinity: Logical processors that it may use; empty for all.
        huge_pages: Memory goes into huge pages before the second call.
        runtime_device: Where the runtime computes, in its own words; empty for the CPU.
        batch: Samples in one call.
        batch_wait_s: Samples come one by one; how long the first of a call waits for others.

    """

    threads: int | None = option(None, "Inside one call [default: the runtime's own].", least=1)
    stages: int | None = option(
        None, "Cut it into stages that work on several calls at once, each on its own cores (ONNX Runtime).", least=2
    )
    stage_processes: bool = option(default=False, text="With --stages: each in a process of its own, not in a thread.")
    streams: int | None = option(
        None, "Run so many calls at once, each with --threads threads (ONNX Runtime, OpenVINO).", least=1
    )
    spinning: bool | None = option(
        None, "Idle threads spin (ONNX Runtime) [default: its own].", flag="--spinning/--no-spinning"
    )
    affinity: tuple[int, ...] = option(
        (), "Logical processors that it may use [default: all].", parse="processors", default_text=None, metavar="0,1"
    )
    huge_pages: bool = option(default=False, text="Memory goes into huge pages before the second call (Linux 6.1).")
    runtime_device: str = option(
        "", "Where the runtime computes, in its words: CUDA, GPU, HETERO:GPU,CPU [default: the CPU]."
    )
    batch: int = option(1, "Samples in one call.", least=1)
    batch_wait_s: float | None = option(
        None,
        "Samples come one by one: gather up to --batch of them, the first waiting so long for others.",
        flag="--batch-wait",
        parse="seconds",
        metavar="2ms",
    )
