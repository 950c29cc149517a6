"""How a session of ONNX Runtime is run: where, its settings, and which of them are worth a try."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from edgeport.contracts import DataParallel, ExecutionConfig, ExecutionSpace, ModelParallel
from edgeport.errors import UnsupportedByBackend

__all__ = ["SETTINGS", "execution_settings", "executions", "places_of", "provider_settings"]

CPU = "CPUExecutionProvider"

SETTINGS = ("threads", "affinity", "spinning", "priority", "streams", "cores", "huge_pages")
"""What `execution_settings` may say; all else in an artifact's settings is of its files."""


def execution_settings(execution: ExecutionConfig) -> dict[str, object]:
    """What `session.open_session` is told of it; nothing where the runtime's own default is meant.

    Raises:
        UnsupportedByBackend: A hint, or pinned threads: it has neither.

    """
    if execution.hint or execution.pinned is not None:
        raise UnsupportedByBackend(
            asked=f"run ONNX Runtime with {execution}",
            found="that it has no hints, and no switch that pins threads",
            fix="give threads, affinity, spinning or streams",
        )
    settings: dict[str, object] = {}
    if execution.threads is not None:
        settings["threads"] = execution.threads
    if execution.affinity:
        settings["affinity"] = list(execution.affinity)
    if execution.spinning is not None:
        settings["spinning"] = execution.spinning
    if execution.priority:
        settings["priority"] = execution.priority
    if execution.huge_pages:
        settings["huge_pages"] = True
    if isinstance(execution.layout, DataParallel):
        settings["streams"] = execution.layout.streams
        if execution.layout.cores:
            settings["cores"] = [list(one) for one in execution.layout.cores]
    return settings


def places_of(execution: ExecutionConfig) -> tuple[Mapping[str, object], ...]:
    """`provider_settings` of the whole model, or of its stages or streams, where they differ: "CPU|CUDA".

    Args:
        execution: With its runtime device.

    Raises:
        UnsupportedByBackend: See `provider_settings`; or not one for each stage or stream.

    """
    if not execution.runtime_device:
        return ({},)
    from edgeport.backends.onnxruntime.session_support.providers import known_providers, unusable_plug_ins

    parts = execution.runtime_device.split("|")
    layout = execution.layout
    count, what = (layout.streams, "stream") if isinstance(layout, DataParallel) else (1, "stage")
    count = layout.stages if isinstance(layout, ModelParallel) else count
    if len(parts) not in (1, count):
        raise UnsupportedByBackend(
            asked=f"run ONNX Runtime on {execution.runtime_device}",
            found=f"{len(parts)} providers for {count} {what}{'s' if count > 1 else ''}",
            fix="name one for all of it, or one for each of its stages (--stages) or streams (--streams): CPU|CUDA",
        )
    known, unusable = known_providers(), unusable_plug_ins()
    return tuple(provider_settings(part.strip(), known, unusable) for part in parts)


def provider_settings(
    runtime_device: str, known: Sequence[str], unusable: Mapping[str, str] = MappingProxyType({})
) -> dict[str, object]:
    """What `session.open_session` is told of the execution provider; nothing for the CPU's.

    Args:
        runtime_device: A provider's name, "ExecutionProvider" at its end or not, then its options if there are any:
            "CUDA", "CUDAExecutionProvider:device_id=1,use_tf32=0".
        known: Names of the providers that there are.
        unusable: Why those of other plug-ins are none of them.

    Raises:
        UnsupportedByBackend: No such provider here, or options that can't be read.

    """
    if not runtime_device:
        return {}
    name, _, rest = runtime_device.partition(":")
    words = {name.casefold(), f"{name}ExecutionProvider".casefold()}
    full = next((one for one in known if one.casefold() in words), None)
    if full is None:
        raise UnsupportedByBackend(
            asked=f"run ONNX Runtime on {runtime_device}",
            found=f"providers {', '.join(known)}{''.join(f'; {one}: {why}' for one, why in unusable.items())}",
            fix="install the package that has it (onnxruntime-gpu, onnxruntime-ep-...), or name the library of a "
            "plug-in: EDGEPORT_ORT_LIBRARIES=NAME=PATH",
        )
    options = {}
    for part in rest.split(",") if rest else ():
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UnsupportedByBackend(
                asked=f"run ONNX Runtime on {runtime_device}",
                found=f"{part!r}, which is no option of {full}",
                fix=f"write {name}:key=value,key=value",
            )
        options[key.strip()] = value.strip()
    if full == CPU and not options:
        return {}
    others = [CPU] if full != CPU else []
    return {"providers": [full, *others], **({"provider_options": options} if options else {})}


def executions(space: ExecutionSpace) -> Sequence[ExecutionConfig]:
    """The default, with each batch; then numbers of threads, with and without spinning; or streams of threads."""
    found = [ExecutionConfig(batch=batch) for batch in space.batches]
    found += _fast(space) if space.goal == "latency" else _many(space)
    return list(dict.fromkeys(found))


def _fast(space: ExecutionSpace) -> Iterator[ExecutionConfig]:
    counts = sorted({threads for _, threads in space.shares()})
    for batch in space.batches:
        yield ExecutionConfig(spinning=False, batch=batch)
        for threads in counts:
            # A thread that is alone waits for no other, so it never spins.
            for spinning in (None,) if threads == 1 else (None, False):
                yield ExecutionConfig(threads=threads, spinning=spinning, batch=batch)
        if len(space.cores) > 1:
            yield ExecutionConfig(threads=1, affinity=space.cores[-1:], batch=batch)


def _many(space: ExecutionSpace) -> Iterator[ExecutionConfig]:
    for batch, (streams, threads) in itertools.product(space.batches, space.shares()):
        if streams == 1:
            yield ExecutionConfig(threads=threads, batch=batch)
            yield ExecutionConfig(threads=threads, spinning=False, batch=batch)
            continue
        yield ExecutionConfig(threads=threads, batch=batch, layout=DataParallel(streams=streams))
        parts = [space.cores[index * threads : (index + 1) * threads] for index in range(streams)]
        yield ExecutionConfig(threads=threads, batch=batch, layout=DataParallel(streams=streams, cores=tuple(parts)))
