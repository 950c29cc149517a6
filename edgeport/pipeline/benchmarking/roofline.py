"""Each timed candidate against what the device can do at its best: rooflines, and latencies that can't be true.

A latency is called impossible ("too-fast") only where that is certain. So both sides are bounds: the work leaves out
whatever a runtime might (`edgeport.onnx_files.model_cost`), and the peak is the largest that any of Edgeport's own
runtimes shows on this device in the precision, or in a wider one. A backend from elsewhere is never measured by its
own word: one that answers without computing would have an endless peak. And before the verdict, the peak is measured
again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.backends.registry import peak_backends
from edgeport.contracts import (
    Artifact,
    Candidate,
    ExecutionConfig,
    LatencySummary,
    OnnxModel,
    Placement,
    Precision,
    Roof,
    Work,
    load_json,
    to_jsonable,
)
from edgeport.errors import EdgeportError
from edgeport.isolation import run_isolated
from edgeport.pipeline.benchmarking.peaks import Place, Product, Reading, Yardstick, Yardsticks
from edgeport.pipeline.engine.context import RunContext

__all__ = ["WorkOf", "bench_roofline", "count", "measure_roof", "run_rooflines", "with_rooflines", "works_of"]

WorkOf = Mapping[int, Work]
"""By the bits that a value takes at most."""

_BITS = {
    Precision.FP32: 32,
    Precision.BF16: 16,
    Precision.FP16: 16,
    Precision.INT8: 8,
    Precision.FP8: 8,
    Precision.INT8_DYNAMIC: 8,
}
_NIBBLE = 4
"""Bits of a weight that alone is an integer of 4 bits; there is no arithmetic of so few here."""
_SLOWER_THAN_FP32 = frozenset({"fp64", "int32", "int64"})

_IMPOSSIBLE = "too-fast"
_LEAST_READ_BYTES, _MOST_READ_BYTES = 32 << 10, 256 << 20
"""Read by one thread at least (below, looping would be what takes time), and in all at most."""
_SLOWEST_PER_S = 1e9
_OVERHEAD = 0.05
_AGAIN = 3
"""Processes that measure a peak again which a latency seems to beat."""


def works_of(place: Place, model: OnnxModel, feeds: Path, batch: int) -> WorkOf:
    """The work of one call with the first `batch` samples of `feeds` (`.npz`), counted in a child; kept in the store.

    Raises:
        EdgeportError: The file can't be read.

    """
    with np.load(feeds, allow_pickle=False) as file:
        shapes = {spec.name: [batch, *file[spec.name].shape[1:]] for spec in model.fed if spec.name in file.files}
        shapes |= {name: list(file[name].shape) for name in model.state.values() if name in file.files}
    key = {"model": model.digest, "shapes": shapes, "batch": batch, "bits": sorted({*_BITS.values(), _NIBBLE})}
    payload = {**key, "model": str(model.path)}
    found = place.store.get_or_build_json(
        "work",
        key,
        lambda: run_isolated(
            "edgeport.pipeline.benchmarking.roofline:count",
            payload,
            limits=place.limits,
            asked="count the model's work",
        ),
    )
    return {int(bits): load_json(Work, json.dumps(work)) for bits, work in found.items()}


def count(payload: dict[str, Any]) -> dict[str, Any]:
    """Child's side of `works_of`: `model` (path), `shapes`, `batch` and `bits` to a `Work` by bits."""
    from edgeport.onnx_files.model_cost import count_work

    shapes = {name: tuple(shape) for name, shape in payload["shapes"].items()}
    return {
        str(bits): to_jsonable(count_work(Path(payload["model"]), payload["batch"], shapes=shapes, bits=bits))
        for bits in payload["bits"]
    }


def measure_roof(
    place: Place, backend: str, precision: Precision, execution: ExecutionConfig, size_bytes: float
) -> Roof:
    """The device's peak in one precision, by one of Edgeport's own backends, and reading as many bytes.

    Args:
        place: Where, and what keeps it.
        backend: "onnxruntime" or "openvino".
        precision: Of the product; dynamic int8 has the peak of static int8, whose arithmetic it shares.
        execution: Threads and processors.
        size_bytes: Of the work; read is an array of the power of two below it (256 MiB at most).

    Raises:
        EdgeportError: That backend has no such product here.

    """
    sticks = Yardsticks(place)
    product, reading = _product(backend, precision, execution), _reading(size_bytes, execution, place)
    sticks.recall([product, reading])
    sticks.measure([one for one in (product, reading) if not sticks.tries(one)])
    rates = sticks.rate(product), sticks.rate(reading)
    if rates[0] is None or rates[1] is None:
        raise EdgeportError(
            asked=f"measure the peak of {backend} {precision}",
            found="; ".join(sticks.reasons.values()),
            fix="see `edgeport doctor` for what this machine can run",
        )
    return Roof(operations_per_s=rates[0], bytes_per_s=rates[1], source=f"{product}; {reading}")


def run_rooflines(
    context: RunContext, candidates: Sequence[Candidate], models: Mapping[str, OnnxModel], feeds: Path
) -> tuple[list[Candidate], tuple[str, ...]]:
    """`with_rooflines` for a run, whose candidates are made from the model of their variant and fed from `feeds`."""
    context.clock.step("roofline", "what this device can do at its best")
    place = Place(
        store=context.store,
        device=context.device,
        facts=context.facts,
        scratch=context.scratch,
        limits=context.limits,
        processor=context.processor,
    )
    timed = [one for one in candidates if one.latency is not None]
    try:
        works = {
            (variant, batch): works_of(place, models[variant], feeds, batch)
            for variant, batch in {(one.variant, one.execution.batch) for one in timed}
        }
    except EdgeportError as error:
        return list(candidates), (f"No rooflines: the model's work can't be counted ({error.found}).",)
    return with_rooflines(place, candidates, {one.name: works[one.variant, one.execution.batch] for one in timed})


def bench_roofline(
    place: Place, summary: LatencySummary, artifact: Artifact, *, path: Path, placement: Placement | None, feeds: Path
) -> LatencySummary:
    """The latency of one artifact with its roofline, where its work is known: it is an ONNX file, or a bundle of a
    run that counted it.

    Args:
        place: Where peaks are measured.
        summary: The latency.
        artifact: That was timed.
        path: As the user named it: an `.onnx` file, or the artifact's folder.
        placement: What ran in which precision; without it nothing is said of an `.onnx` file, which may hold any.
        feeds: `.npz` of what it was fed.

    """
    if path.suffix == ".onnx" and placement is None:
        return summary
    candidate = Candidate(
        name=path.name,
        backend=artifact.backend,
        precision=artifact.precision,
        execution=artifact.execution,
        placement=placement,
        latency=summary,
    )
    try:
        works = _recorded(path, candidate) or _counted(place, artifact, path, feeds)
    except EdgeportError:
        return summary  # its bytes are for the runtime that took them; nothing can be counted in them
    (after,), _ = with_rooflines(place, [candidate], {candidate.name: works})
    return after.latency or summary


def _recorded(path: Path, candidate: Candidate) -> WorkOf:
    """What the run that made a bundle counted."""
    if not (path / "manifest.json").is_file():
        return {}
    from edgeport.bundle import load_measured

    latency, precision = load_measured(path).latency, _narrowest(candidate)
    if latency is None or latency.roofline is None or precision is None:
        return {}
    return {_BITS[precision]: latency.roofline.work}


def _counted(place: Place, artifact: Artifact, path: Path, feeds: Path) -> WorkOf:
    from edgeport.onnx_files import open_onnx

    file = path if path.suffix == ".onnx" else artifact.folder / artifact.entry
    return works_of(place, open_onnx(file), feeds, artifact.execution.batch) if file.suffix == ".onnx" else {}


def with_rooflines(
    place: Place, candidates: Sequence[Candidate], works: Mapping[str, WorkOf]
) -> tuple[list[Candidate], tuple[str, ...]]:
    """The candidates, those that were timed with their roofline; an impossible latency becomes INVALID.

    Left without one are candidates that do so little that no device's peak could explain 5 % of their latency (a call
    takes over 20 times what 1 GFLOP/s and 1 GB/s need), and those that the notes name.

    Args:
        place: Where peaks are measured.
        candidates: With their latencies.
        works: By candidate.

    Returns:
        The candidates in their order, and why some have no roofline, a sentence each.

    """
    notes: dict[str, str] = {}
    asked: dict[str, _Asked] = {}
    for candidate in candidates:
        if candidate.latency is None or candidate.latency.quantile(0.5).interval_ns is None:
            continue
        found = _asked(place, candidate, works.get(candidate.name, {}))
        if isinstance(found, str):
            notes[candidate.name] = found
        elif found is not None:
            asked[candidate.name] = found
    rooflines = _measured(place, asked, notes)
    after = [replace(one, latency=rooflines.get(one.name, one.latency)) for one in candidates]
    return after, tuple(_sentences(notes))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What one candidate's roofline needs.

    Attributes:
        latency: As it was measured.
        work: Of one call, in the narrowest precision that it may have run in.
        product, reading: The yardsticks.
        precisions: Whose peaks may stand for it.

    """

    latency: LatencySummary
    work: Work
    product: Product
    reading: Reading
    precisions: frozenset[Precision]


def _asked(place: Place, candidate: Candidate, works: WorkOf) -> _Asked | str | None:
    """None where there is nothing to learn; text where it can't be done."""
    latency = candidate.latency
    median = latency.quantile(0.5).interval_ns if latency is not None else None
    if latency is None or median is None:
        return None
    precision = _narrowest(candidate)
    if precision is None:
        return "what it ran in is not known, or has no yardstick"
    if not _on_processor(candidate):
        return "peaks are measured of processors only"
    form = candidate.precision.weight_form
    work = works.get(_NIBBLE if form is not None and form.stored == "int4" else _BITS[precision])
    if work is None:
        return "its work is not known"
    if max(work.operations, work.bytes) / _SLOWEST_PER_S < _OVERHEAD * median.estimate / 1e9:
        return None
    own = list(peak_backends())
    backend = candidate.backend if candidate.backend in own else own[0]
    return _Asked(
        latency=latency,
        work=work,
        product=_product(backend, precision, candidate.execution),
        reading=_reading(work.bytes, candidate.execution, place),
        precisions=frozenset(one for one, bits in _BITS.items() if bits > _BITS[precision]) | {precision},
    )


def _narrowest(candidate: Candidate) -> Precision | None:
    """The fastest precision that any of it was planned for or ran in; None where that has no yardstick."""
    planned = _arithmetic(candidate.precision)
    nodes = candidate.placement.nodes if candidate.placement is not None else ()
    names = {node.precision for node in nodes if node.precision} - _SLOWER_THAN_FP32
    if names - {str(one) for one in _BITS}:
        return None
    return min({planned, *map(Precision, names)}, key=lambda one: _BITS[one])


def _on_processor(candidate: Candidate) -> bool:
    nodes = candidate.placement.nodes if candidate.placement is not None else ()
    devices = {node.device for node in nodes if node.precision}
    if not devices:
        return candidate.backend in peak_backends()
    return all(device.upper().startswith("CPU") for device in devices)


def _product(backend: str, precision: Precision, execution: ExecutionConfig) -> Product:
    return Product(
        backend=backend,
        precision=_arithmetic(precision),
        execution=peak_backends()[backend].peak_execution(execution),
    )


def _arithmetic(precision: Precision) -> Precision:
    """Static int8 for all that is integer: activations may become so beside weights that alone were planned so."""
    return precision if precision.is_float else Precision.INT8


def _reading(size_bytes: float, execution: ExecutionConfig, place: Place) -> Reading:
    """Of the power of two below: a smaller array is read as fast or faster, and a bound must not be too low."""
    threads = execution.threads or len(execution.affinity) or place.facts.cores
    below = 1 << (max(1, int(min(size_bytes, _MOST_READ_BYTES))).bit_length() - 1)
    return Reading(size_bytes=max(below, threads * _LEAST_READ_BYTES), threads=threads, affinity=execution.affinity)


def _measured(place: Place, asked: Mapping[str, _Asked], notes: dict[str, str]) -> dict[str, LatencySummary]:
    """The latencies with their rooflines, by candidate.

    A peak that is beaten is measured again, once and for all; one that is beaten by so much that the latency would be
    INVALID, in this very run: a stored peak may be of a machine that was throttled or busy.
    """
    asked = _with_one_reading(asked)
    sticks = Yardsticks(place)
    wanted = _sticks(asked, asked)
    sticks.recall(wanted)
    sticks.measure([one for one in wanted if not sticks.tries(one)])
    found = _judged(asked, sticks)
    beaten = [name for name, one in found.items() if one.roofline is not None and one.roofline.share > 1]
    once_more = [one for one in _sticks(asked, beaten) if sticks.tries(one) == 1]
    if once_more:
        sticks.measure(once_more, processes=_AGAIN)
        found = _judged(asked, sticks)
    impossible = [name for name, one in found.items() if _IMPOSSIBLE in one.flags]
    once_more = [one for one in _sticks(asked, impossible) if one not in sticks.fresh]
    if once_more:
        sticks.measure(once_more, processes=_AGAIN)
        found = _judged(asked, sticks)
    for name, each in asked.items():
        if name not in found:
            reasons = [sticks.reasons.get(each.product, ""), sticks.reasons.get(each.reading, "")]
            notes[name] = (
                f"the peak could not be measured with {each.product.backend}: {'; '.join(filter(None, reasons))}"
            )
    return found


def _with_one_reading(asked: Mapping[str, _Asked]) -> dict[str, _Asked]:
    """Candidates of one execution share the smallest array, which is read fastest: a process less for each size."""
    smallest: dict[tuple[object, ...], Reading] = {}
    for each in asked.values():
        key = (each.reading.threads, each.reading.affinity)
        smallest[key] = min(smallest.get(key, each.reading), each.reading, key=lambda one: one.size_bytes)
    return {
        name: replace(each, reading=smallest[each.reading.threads, each.reading.affinity])
        for name, each in asked.items()
    }


def _sticks(asked: Mapping[str, _Asked], names: Iterable[str]) -> list[Yardstick]:
    """What the rooflines of these candidates rest on, each once."""
    return list(dict.fromkeys(one for name in names for one in (asked[name].product, asked[name].reading)))


def _judged(asked: Mapping[str, _Asked], sticks: Yardsticks) -> dict[str, LatencySummary]:
    """The latencies with their rooflines, of the candidates whose roof is known."""
    from edgeport.devices.latency.summary import with_roofline

    roofs = {name: _roof(each, asked, sticks) for name, each in asked.items()}
    return {
        name: with_roofline(asked[name].latency, asked[name].work, roof)
        for name, roof in roofs.items()
        if roof is not None
    }


def _roof(each: _Asked, asked: Mapping[str, _Asked], sticks: Yardsticks) -> Roof | None:
    """The largest peak that may stand for a candidate, and the bandwidth."""
    peaks = {
        product: rate
        for product in {one.product for one in asked.values()}
        if product.execution == each.product.execution
        and product.precision in each.precisions
        and (rate := sticks.rate(product)) is not None
    }
    bytes_per_s = sticks.rate(each.reading)
    # Another precision's peak may raise the roof, but not make one: it may be far below what the own one allows.
    if bytes_per_s is None or each.product.precision not in {product.precision for product in peaks}:
        return None
    highest = max(peaks, key=lambda product: peaks[product])
    return Roof(operations_per_s=peaks[highest], bytes_per_s=bytes_per_s, source=f"{highest}; {each.reading}")


def _sentences(notes: Mapping[str, str]) -> list[str]:
    together: dict[str, list[str]] = {}
    for name, why in notes.items():
        together.setdefault(why, []).append(name)
    return [f"No roofline for {', '.join(names)}: {why}." for why, names in together.items()]
