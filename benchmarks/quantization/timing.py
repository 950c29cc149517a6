"""Time and memory of each quantizer over 100 and 1,000 samples, beside a plain forward pass."""

from __future__ import annotations

import compileall
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.harness import ROOT, Ended, kept, slug, watched
from benchmarks.quantization.quantizers import METHODS, OURS, PEERS, Ours, Peer, quantize_command, run_peer
from benchmarks.quantization.rows import TimeRow
from benchmarks.quantization.subjects import Subject

PLAIN_BATCHES = (1, 32)
SEED = 0
OWN = ("edgeport", "backends", "calibration", "devices", "exporter", "benchmarks")
"""Folders of our code."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is timed.

    Attributes:
        name, kind, runtime, method: As in `TimeRow`.
        run: Over samples, with a folder for what it writes.

    """

    name: str
    kind: str
    runtime: str
    method: str
    run: Callable[[Path, int, Path], Ended]


def arms(subject: Subject, folder: Path) -> list[Arm]:
    """Of one model; `folder` is what `prepare.py` filled."""
    model = folder / "model.onnx"
    onnxruntime, openvino = OURS["Edgeport ONNX Runtime"], OURS["Edgeport OpenVINO"]
    ours = [replace(onnxruntime, method=method, name=f"{onnxruntime.name}, {method}") for method in METHODS]
    ours.append(replace(openvino, name=f"{openvino.name}, minmax"))
    ways: list[tuple[str, str, str, str, Callable[[Path, int, Path], Ended]]] = [
        *((f"plain pass, batch {n}", "plain", "onnxruntime", "", partial(_plain, model, n)) for n in PLAIN_BATCHES),
        *((one.name, "ours", one.runtime, one.method, partial(_ours, model, one)) for one in ours),
        *(
            (one.name, "peer", one.runtime, one.method, partial(_peer, subject, model, one))
            for one in PEERS.values()
            if not one.of
        ),
    ]
    return [Arm(name=way[0], kind=way[1], runtime=way[2], method=way[3], run=way[4]) for way in ways]


def time_rows(subject: Subject, folder: Path, *, counts: tuple[int, ...], rounds: int, measure: bool) -> list[TimeRow]:
    """Every arm once a round and count, in random order; with `measure` off, what lies there already."""
    order = random.Random(SEED)  # noqa: S311 (no secret)
    every = arms(subject, folder)
    for name in OWN if measure else ():  # as an installer leaves packages; else the first command would compile them
        compileall.compile_dir(ROOT / name, quiet=2)
    rows = []
    for index in range(rounds):
        for count in counts:
            for arm in order.sample(every, len(every)):
                path = folder / "time" / f"{count}-{index}" / f"{slug(arm.name)}.json"
                if measure or path.exists():
                    rows.append(kept(path, TimeRow, partial(_measured, subject, arm, folder, count, index)))
                    if measure:
                        _say(rows[-1])
    return rows


def _measured(subject: Subject, arm: Arm, folder: Path, count: int, index: int) -> TimeRow:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        ended = arm.run(folder / f"many-{count}.npz", count, Path(scratch))
    return TimeRow(
        model=subject.name,
        name=arm.name,
        kind=arm.kind,
        runtime=arm.runtime,
        method=arm.method,
        count=count,
        round=index,
        why=ended.why,
        told=ended.told if ended.why else "",
        seconds=ended.seconds,
        peak_bytes=ended.peak_bytes,
        load=load,
        at=time.strftime("%Y-%m-%d %H:%M"),
    )


def _say(row: TimeRow) -> None:
    told = f"{row.seconds:8.2f} s {row.peak_bytes / 1e6:7.0f} MB {row.why} {row.told}"
    print(f"{row.model:<20}{row.count:>5}  {row.name:<36}{told}", flush=True)


def _plain(model: Path, batch: int, samples: Path, _count: int, _scratch: Path) -> Ended:
    ended = watched([sys.executable, "-m", "benchmarks.quantization.plain", str(model), str(samples), str(batch)])
    return ended if ended.why else replace(ended, seconds=float(json.loads(ended.printed)["seconds"]))


def _ours(model: Path, ours: Ours, samples: Path, _count: int, scratch: Path) -> Ended:
    return watched(quantize_command(model, samples, scratch / "artifact", ours))


def _peer(subject: Subject, model: Path, peer: Peer, samples: Path, count: int, scratch: Path) -> Ended:
    _, ended = run_peer(peer, model, samples, count, scratch, subject.transformer)
    return ended
