"""How OpenVINO runs a compiled model: its settings, and which of them are worth a try."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from edgeport.contracts import DataParallel, ExecutionConfig, ExecutionSpace
from edgeport.errors import UnsupportedByBackend

__all__ = ["SETTINGS", "device_of", "execution_settings", "executions"]

CPU = "CPU"
_COMBINING = ("AUTO", "HETERO", "MULTI")
"""Devices of OpenVINO's that share the work among others: "HETERO:GPU,CPU"."""

SETTINGS = ("threads", "affinity", "priority", "streams", "hint", "pinned", "batch", "huge_pages")
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
        **({"huge_pages": True} if execution.huge_pages else {}),
    }


def device_of(runtime_device: str, known: Sequence[str]) -> str:
    """The device as OpenVINO is to be told it.

    Args:
        runtime_device: "GPU", "GPU.1", "AUTO", "AUTO:GPU,CPU", "HETERO:GPU,CPU", "MULTI:GPU,CPU"; empty for the CPU.
        known: Devices that it sees here ("CPU", "GPU.0").

    Raises:
        UnsupportedByBackend: One that it does not see.

    """
    if not runtime_device:
        return CPU
    first, colon, rest = runtime_device.upper().partition(":")
    parts = [part.strip() for part in rest.split(",")] if colon else []
    if first not in _COMBINING:
        parts = [first] if not colon else [runtime_device]
    seen = {name for device in known for name in (device, device.partition(".")[0])}
    missing = [part for part in parts if part.removeprefix("-") not in seen]
    if missing or (first == "HETERO" and not parts):
        raise UnsupportedByBackend(
            asked=f"run OpenVINO on {runtime_device}",
            found=f"devices {', '.join(known)}" if missing else "no devices to share the model among",
            fix=f"name these, or several of them: HETERO:{','.join(known)}",
        )
    return f"{first}:{','.join(parts)}" if colon else first


def executions(space: ExecutionSpace, device: str = CPU) -> Sequence[ExecutionConfig]:
    """What its hints choose, with each batch; then numbers of threads, or streams of threads, pinned or not.

    Args:
        space: What is looked for.
        device: Where; threads and pinning are the CPU's, so elsewhere hints are all there is.

    """
    if device != CPU:
        return [one for one in executions(space) if one.hint]
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
