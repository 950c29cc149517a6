"""Time and memory of each quantizer over 100 and 1,000 samples, beside a plain forward pass."""

from __future__ import annotations

import compileall
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.quantization.kept import kept, slug
from benchmarks.quantization.ours import METHODS, OURS, Ours, quantize_command
from benchmarks.quantization.peers import PEERS, Peer, peer_request, run_peer
from benchmarks.quantization.rows import TimeRow
from benchmarks.quantization.subjects import Subject
from benchmarks.quantization.watched import ROOT, Ended, watched

__all__ = ["Arm", "arms", "time_rows"]

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
    found = [
        Arm(name=f"plain pass, batch {batch}", kind="plain", runtime="onnxruntime", method="", run=_plain(model, batch))
        for batch in PLAIN_BATCHES
    ]
    onnxruntime, openvino = OURS["Edgeport ONNX Runtime"], OURS["Edgeport OpenVINO"]
    ours = [replace(onnxruntime, method=method, name=f"{onnxruntime.name}, {method}") for method in METHODS]
    ours.append(replace(openvino, name=f"{openvino.name}, minmax"))
    found += [
        Arm(name=one.name, kind="ours", runtime=one.runtime, method=one.method, run=_ours(model, one)) for one in ours
    ]
    found += [
        Arm(name=peer.name, kind="peer", runtime=peer.runtime, method=peer.method, run=_peer(subject, model, peer))
        for peer in PEERS.values()
        if not peer.of
    ]
    return found


def time_rows(subject: Subject, folder: Path, *, counts: tuple[int, ...], rounds: int, measure: bool) -> list[TimeRow]:
    """Every arm once a round and count, in random order; with `measure` off, what lies there already."""
    order = random.Random(SEED)  # noqa: S311 (no secret)
    every = arms(subject, folder)
    if measure:
        for name in OWN:  # as an installer leaves packages; else the first command that is timed would compile them
            compileall.compile_dir(ROOT / name, quiet=2)
    found = []
    for index in range(rounds):
        for count in counts:
            for arm in order.sample(every, len(every)):
                path = folder / "time" / f"{count}-{index}" / f"{slug(arm.name)}.json"
                make = _measured(subject, arm, folder, count, index) if measure else None
                row = kept(path, TimeRow, make)
                if row is not None:
                    found.append(row)
                    if measure:
                        _say(row)
    return found


def _measured(subject: Subject, arm: Arm, folder: Path, count: int, index: int) -> Callable[[], TimeRow]:
    def make() -> TimeRow:
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

    return make


def _say(row: TimeRow) -> None:
    told = f"{row.seconds:8.2f} s {row.peak_bytes / 1e6:7.0f} MB {row.why} {row.told}"
    print(f"{row.model:<20}{row.count:>5}  {row.name:<36}{told}", flush=True)


def _plain(model: Path, batch: int) -> Callable[[Path, int, Path], Ended]:
    def run(samples: Path, count: int, scratch: Path) -> Ended:
        del count, scratch
        command = [sys.executable, "-m", "benchmarks.quantization.plain", str(model), str(samples), str(batch)]
        ended = watched(command)
        return ended if ended.why else replace(ended, seconds=float(json.loads(ended.printed)["seconds"]))

    return run


def _ours(model: Path, ours: Ours) -> Callable[[Path, int, Path], Ended]:
    def run(samples: Path, count: int, scratch: Path) -> Ended:
        del count
        return watched(quantize_command(model, samples, scratch / "artifact", ours))

    return run


def _peer(subject: Subject, model: Path, peer: Peer) -> Callable[[Path, int, Path], Ended]:
    def run(samples: Path, count: int, scratch: Path) -> Ended:
        name = "model.xml" if peer.program == "nncf-openvino" else "model.onnx"
        # Some write beside the model, so it gets one of its own.
        own = Path(shutil.copy(model, scratch / "float.onnx"))
        return run_peer(peer_request(subject, peer, own, samples, count, scratch / name), scratch)

    return run
