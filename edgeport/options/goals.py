"""How the way to a latency is measured, where a command makes models of some latency."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.options.declare import option

__all__ = ["GoalTiming"]


@dataclass(frozen=True, kw_only=True)
class GoalTiming:
    """Of the measurements that say whether a goal is met.

    Attributes:
        backend: That times the model.
        threads: Of the backend; None leaves its default.
        rounds: Pairs of fresh processes per measurement; fewer than 6 prove nothing.
        duration_s: Seconds of timed calls per process.

    """

    backend: str = option("onnxruntime", "That is timed.")
    threads: int | None = option(None, "Of the backend [default: its own].", least=1)
    rounds: int = option(6, "Pairs per measurement.", least=6)
    duration_s: float = 0.3
