"""How OpenVINO runs a compiled model: its settings, and which of them are worth a try."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from edgeport.contracts import DataParallel, ExecutionConfig, ExecutionSpace
from edgeport.errors import UnsupportedByBackend

__all__ = ["SETTINGS", "execution_settings", "executions"]

SETTINGS = ("threads", "affinity", "priority", "streams", "hint", "pinned", "batch")
"""What `execution_settings` may say; all else in an artifact's settings is of its files."""


def execution_settings(execution: ExecutionConfig) -> dict[str, object]:
    """What `session.open_session` is told of it.

    Raises:
        UnsupportedByBackend: Spinning, processors for each stream, or stages: it has none of these.

    """
    layout = execution.layout
    if execution.spinning is not None:
        raise UnsupportedByBackend(
            asked=f"set spinning to {execution.spinning}",
            found="that OpenVINO has no such setting",
            fix="leave spinning unset for this backend",
        )
    if layout.kind not in ("single-stream", "data-parallel"):
        raise UnsupportedByBackend(
            asked=f"run OpenVINO in the layout {layout.kind}", found="that it has none", fix="take streams instead"
        )
    if isinstance(layout, DataParallel) and layout.cores:
        raise UnsupportedByBackend(
            asked="give each stream processors of its own",
            found="that OpenVINO places its streams itself",
            fix="leave the cores out; affinity says which processors all of them may use",
        )
    return {
        "threads": execution.threads,
        "affinity": list(execution.affinity),
        "streams": layout.streams if isinstance(layout, DataParallel) else 1,
        "batch": execution.batch,
        **({"priority": execution.priority} if execution.priority else {}),
        **({"hint": execution.hint} if execution.hint else {}),
        **({"pinned": execution.pinned} if execution.pinned is not None else {}),
    }


def executions(space: ExecutionSpace) -> Sequence[ExecutionConfig]:
    """What its hints choose, with each batch; then numbers of threads, or streams of threads, pinned or not."""
    if space.goal == "latency":
        found = [ExecutionConfig(hint="latency", batch=batch) for batch in space.batches]
        return list(dict.fromkeys([*found, *_fast(space)]))
    calls = sorted({max(2, len(space.cores)), 2 * len(space.cores)})
    found = [
        ExecutionConfig(hint="throughput", batch=batch, layout=DataParallel(streams=count))
        for batch, count in itertools.product(space.batches, calls)
    ]
    return list(dict.fromkeys([*found, *_many(space)]))


def _fast(space: ExecutionSpace) -> Iterator[ExecutionConfig]:
    for batch, threads in itertools.product(space.batches, sorted({threads for _, threads in space.shares()})):
        for pinned in (None, False):
            yield ExecutionConfig(threads=threads, pinned=pinned, batch=batch)


def _many(space: ExecutionSpace) -> Iterator[ExecutionConfig]:
    for batch, (streams, threads) in itertools.product(space.batches, space.shares()):
        for pinned in (None, False):
            if streams == 1:
                yield ExecutionConfig(threads=threads, pinned=pinned, batch=batch)
            else:
                layout = DataParallel(streams=streams)
                yield ExecutionConfig(threads=threads, pinned=pinned, batch=batch, layout=layout)
