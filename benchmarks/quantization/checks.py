"""What is claimed, from rows alone: nothing here runs or reads anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TypeVar

from benchmarks.harness import Check, at_least, at_most
from benchmarks.quantization.rows import AccuracyRow, LatencyRow, TimeRow

T = TypeVar("T")

TIMES_MINMAX, TIMES_OTHER, MORE_S = 2.5, 4.0, 3.0
"""Of a plain forward pass, and seconds for starting the command."""
MEMORY_TIMES, MORE_BYTES = 2.0, 100e6
MOST_GROWTH = 1.05
LOSS, BELOW_PEER = 0.005, 0.01
"""Of a metric: half a point, and one."""
LEAST_BESIDE, LEAST_MEAN, LEAST_AGAINST_FLOAT = 0.97, 1.1, 2.0
FAST_MODELS = ("EfficientNet-Lite0", "MiniLM")
"""Those of which int8 must be twice as fast as the best float."""

_PARTNERS = {"Edgeport OpenVINO, rest bf16": ", rest bf16"}


def time_checks(rows: Sequence[TimeRow]) -> list[Check]:
    """Of time and memory, model by model; the round in which ours comes off worst counts."""
    checks: list[Check] = []
    for model in _each(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        most = max(row.count for row in own)
        for method in _each(row.method for row in own if row.kind == "ours" and row.runtime == "onnxruntime"):
            ours = [row for row in own if _is(row, "ours", "onnxruntime", method)]
            checks += _failures(model, ours)
            checks += _against_plain(model, method, ours, [row for row in own if row.kind == "plain"], most)
        for runtime, method in _each((row.runtime, row.method) for row in own if row.kind == "peer"):
            ours = [row for row in own if _is(row, "ours", runtime, method)]
            checks += _against_peers(model, method, ours, [row for row in own if _is(row, "peer", runtime, method)])
    return checks


def _is(row: TimeRow, kind: str, runtime: str, method: str) -> bool:
    return (row.kind, row.runtime, row.method) == (kind, runtime, method)


def _failures(model: str, ours: Iterable[TimeRow]) -> list[Check]:
    failed = [row for row in ours if row.why]
    return [at_most(f"{model}: {row.name} over {row.count} samples: {row.why}", 1.0, 0.0) for row in failed]


def _against_plain(
    model: str, method: str, ours: Sequence[TimeRow], plain: Sequence[TimeRow], most: int
) -> list[Check]:
    """Time and memory at the most samples, and growth of memory until there."""
    pairs = []
    for row in ours:
        beside = [one for one in plain if (one.count, one.round) == (row.count, row.round) and not one.why]
        if row.count == most and beside and not row.why:
            pairs.append((row, min(one.seconds for one in beside), min(one.peak_bytes for one in beside)))
    if not pairs:
        return []
    times = TIMES_MINMAX if method == "minmax" else TIMES_OTHER
    slow, pass_s, _ = max(pairs, key=lambda pair: pair[0].seconds / (times * pair[1] + MORE_S))
    large, _, session = max(pairs, key=lambda pair: pair[0].peak_bytes / (MEMORY_TIMES * pair[2] + MORE_BYTES))
    checks = [
        at_most(
            f"{model}: {method} over {most} samples, seconds ({times:g} plain passes and {MORE_S:g} s)",
            slow.seconds,
            times * pass_s + MORE_S,
        ),
        at_most(
            f"{model}: {method} over {most} samples, MB ({MEMORY_TIMES:g} plain sessions and 100 MB)",
            large.peak_bytes / 1e6,
            (MEMORY_TIMES * session + MORE_BYTES) / 1e6,
        ),
    ]
    few = [row.peak_bytes for row in ours if row.count != most and not row.why]
    if few:
        many = [row.peak_bytes for row, _, _ in pairs]
        grown = median(many) / median(few)
        checks.append(at_most(f"{model}: {method}, memory over {most} samples to that over few", grown, MOST_GROWTH))
    return checks


def _against_peers(model: str, method: str, ours: Sequence[TimeRow], peers: Sequence[TimeRow]) -> list[Check]:
    """Ours against the fastest and the leanest peer, at the most samples at which one of them ends."""
    ended = [row for row in peers if not row.why]
    counts = sorted({row.count for row in ended} & {row.count for row in ours if not row.why})
    if not counts:
        return []
    count = counts[-1]
    own = [row for row in ours if row.count == count and not row.why]
    beside = [row for row in ended if row.count == count]
    fastest = min(beside, key=lambda row: row.seconds)
    leanest = min(beside, key=lambda row: row.peak_bytes)
    what = f"{model}: {method} over {count} samples"
    return [
        at_most(f"{what}, seconds against {fastest.name}", max(row.seconds for row in own), fastest.seconds),
        at_most(
            f"{what}, MB against {leanest.name}", max(row.peak_bytes for row in own) / 1e6, leanest.peak_bytes / 1e6
        ),
    ]


def accuracy_checks(rows: Sequence[AccuracyRow]) -> list[Check]:
    """Of SQNR over all models, and of each metric, per runtime."""
    checks: list[Check] = []
    for ours in _each(row.name for row in rows if row.kind == "ours"):
        own = {row.model: row for row in rows if row.name == ours and not row.why}
        checks += [at_most(f"{row.model}: {ours}: {row.why}", 1.0, 0.0) for row in rows if row.name == ours and row.why]
        if not own:
            continue
        runtime = next(iter(own.values())).runtime
        peers = [row for row in rows if row.kind == "peer" and row.runtime == runtime and not row.why]
        checks += _against_best_sqnr(ours, own, peers)
        for row in own.values():
            checks += _metric_checks(row, [peer for peer in peers if peer.model == row.model])
    return checks


def _against_best_sqnr(ours: str, own: Mapping[str, AccuracyRow], peers: Sequence[AccuracyRow]) -> list[Check]:
    """The mean of decibels is the geometric mean of powers; of each peer over the models that it can do."""
    means: dict[str, float] = {}
    for name in _each(row.name for row in peers):
        differences = [
            own[row.model].sqnr_db - row.sqnr_db  # type: ignore[operator]  # rows that were built have it
            for row in peers
            if row.name == name and row.model in own
        ]
        if differences:
            means[name] = sum(differences) / len(differences)
    if not means:
        return []
    best = min(means, key=lambda name: means[name])
    return [at_least(f"{ours}: SQNR over that of {best}, geometric mean over the models, dB", means[best], 0.0)]


def _metric_checks(row: AccuracyRow, peers: Sequence[AccuracyRow]) -> list[Check]:
    checks = []
    for metric, judged in row.judged.items():
        significant = judged["drop"] if judged["low"] > 0 else 0.0
        checks.append(at_most(f"{row.model}: {row.name}: significant loss of {metric}", significant, LOSS))
        values = {peer.name: peer.judged[metric]["value"] for peer in peers if metric in peer.judged}
        if values:
            best = max(values, key=lambda name: values[name])
            below = values[best] - judged["value"]
            checks.append(at_most(f"{row.model}: {row.name}: {metric} below {best}", below, BELOW_PEER))
    return checks


def latency_checks(rows: Sequence[LatencyRow], peers: Mapping[str, str]) -> list[Check]:
    """Ours against each peer's file on the same runtime, and against the best float.

    Args:
        rows: One per model.
        peers: Every peer whose latency is its own, and its runtime; where it is not in a row it failed, and the
            runtime's float file stands in for it.

    """
    checks: list[Check] = []
    for ours in _each(name for row in rows for name in row.speedups):
        runtime = next(row.runtimes[ours] for row in rows if ours in row.speedups)
        suffix = _PARTNERS.get(ours, "")
        rivals = [
            name
            for name, where in peers.items()
            if where == runtime and (name.endswith(suffix) if suffix else "rest bf16" not in name)
        ]
        means: dict[str, float] = {}
        for rival in rivals:
            logs = []
            for row in rows:
                if ours in row.speedups:
                    found = row.speedups[ours].get(rival) or _against_float(row, ours, runtime)
                    logs += [math.log(found[1])] if found else []
            if logs:
                means[rival] = math.exp(sum(logs) / len(logs))
        for row in rows:
            checks += _beside(row, ours, rivals)
        if means:
            best = min(means, key=lambda name: means[name])
            checks.append(
                at_least(f"{ours}: times as fast as {best}, geometric mean over the models", means[best], LEAST_MEAN)
            )
    checks += [check for row in rows if row.model in FAST_MODELS for check in _twice_as_fast(row)]
    return checks


def _against_float(row: LatencyRow, ours: str, runtime: str) -> tuple[float, float, float] | None:
    floats = [name for name, kind in row.kinds.items() if kind == "float" and row.runtimes[name] == runtime]
    return row.speedups[ours].get(floats[0]) if floats else None


def _beside(row: LatencyRow, ours: str, rivals: Sequence[str]) -> list[Check]:
    """The best file is the one against which ours does worst, among those of the second stage if one is there."""
    found = {name: row.speedups[ours][name] for name in rivals if name in row.speedups.get(ours, {})}
    found = {name: one for name, one in found.items() if name in row.finalists} or found
    if not found:
        return []
    best = min(found, key=lambda name: found[name][1])
    return [at_least(f"{row.model}: {ours}: times as fast as {best}, lower end", found[best][0], LEAST_BESIDE)]


def _twice_as_fast(row: LatencyRow) -> list[Check]:
    floats = [name for name, kind in row.kinds.items() if kind == "float"]
    floats = [name for name in floats if name in row.finalists] or floats
    ends = {
        ours: min(found[name][0] for name in floats if name in found)
        for ours, found in row.speedups.items()
        if any(name in found for name in floats)
    }
    if not ends:
        return []
    best = max(ends, key=lambda name: ends[name])
    return [
        at_least(f"{row.model}: {best}: times as fast as the best float, lower end", ends[best], LEAST_AGAINST_FLOAT)
    ]


def _each(values: Iterable[T]) -> list[T]:
    """Without repeats, in their order."""
    return list(dict.fromkeys(values))
