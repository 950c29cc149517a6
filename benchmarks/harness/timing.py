"""Artifacts and programs timed in fresh processes, in turn, with rounds that are kept."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.harness.kept import write
from edgeport.contracts import Array, Artifact, EvaluateJob, ProcessTrace, TimeJob, dump_json, load_json
from edgeport.devices.experiment import More, Round, run_rounds
from edgeport.devices.latency.timer import call_latency_ns
from edgeport.devices.local import LocalDevice
from edgeport.npz import load_npz, save_npz

T = TypeVar("T")


def _artifact_fields(artifact: Artifact, feeds: Path) -> dict[str, Any]:
    return {
        "artifact": str(artifact.folder),
        "entry": artifact.entry,
        "session": artifact.session,
        "settings": artifact.settings,
        "feeds": str(feeds),
    }


def time_job(artifact: Artifact, feeds: Path, **options: Any) -> TimeJob:
    """Time an artifact over samples; options are other fields of `TimeJob`."""
    return TimeJob(**{**_artifact_fields(artifact, feeds), **options})


def work_job(folder: Path, **options: Any) -> TimeJob:
    """Time `benchmarks.work_session`, which needs no model; options are other fields of `TimeJob`."""
    artifact, feeds = folder / "work", folder / "feeds.npz"
    artifact.mkdir(parents=True, exist_ok=True)
    (artifact / "nothing").write_text("")
    save_npz(feeds, {"x": np.zeros((1, 1), dtype=np.float32)})
    return TimeJob(
        artifact=str(artifact), entry="nothing", session="benchmarks.work_session", feeds=str(feeds), **options
    )


def evaluated(artifact: Artifact, feeds: Path, output: Path, device: Path, **options: Any) -> dict[str, Array]:
    """Outputs by name over all samples, by the measuring program; those of an earlier start are taken."""
    if not output.exists():
        LocalDevice(device).run(EvaluateJob(**_artifact_fields(artifact, feeds), outputs=str(output), **options))
    return load_npz(output)


def processors() -> list[int]:
    """That this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def median_ns(trace: ProcessTrace) -> float:
    """Of the calls of a process."""
    return float(np.median(call_latency_ns(trace)))


def kept_rounds(
    jobs: Mapping[str, TimeJob],
    rounds: int,
    folder: Path,
    device: LocalDevice,
    *,
    seed: int = 0,
    more: More = lambda _: False,
) -> tuple[Round, ...]:
    """Every arm in every round, fresh processes in random order; rounds that lie in the folder are not run again."""
    earlier = [load_json(Round, path.read_bytes()) for path in sorted(folder.glob("*.json"))]

    def keep(one: Round) -> None:
        write(folder / f"{one.index:04}.json", dump_json(one))
        print(f"\r{folder.parent.name}: round {one.index + 1}, for {rounds}", end="", file=sys.stderr, flush=True)

    finished = run_rounds(device, jobs, rounds=rounds, seed=seed, done=earlier, more=more, on_round=keep)
    print(file=sys.stderr)
    return finished


def interleaved(arms: Mapping[str, Callable[[], T]], rounds: int, seed: int) -> dict[str, list[T]]:
    """What each arm gives once a round, in an order that is drawn for each round."""
    order = random.Random(seed)  # noqa: S311 (no secret)
    values: dict[str, list[T]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name in order.sample(sorted(arms), len(arms)):
            values[name].append(arms[name]())
    return values


def benchmark_app(model: Path, hint: str, seconds: int, *options: str) -> str:
    """What OpenVINO's own tool prints of a model in float32 on the processor, a sample a call.

    Raises:
        RuntimeError: It failed.

    """
    program = "from openvino.tools.benchmark.main import main; main()"
    command = [sys.executable, "-c", program, "-m", str(model), "-d", "CPU", "-hint", hint]
    command += ["-infer_precision", "f32", "-b", "1", "-t", str(seconds), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"benchmark_app failed: {(ended.stdout + ended.stderr)[-500:]}")
    return ended.stdout


def printed(text: str, name: str) -> float:
    """Nanoseconds, or what else is counted, of a line: "Median:  35.02 ms", "Throughput:   28.55 FPS", "Count: 9 ...".

    Raises:
        ValueError: No such line.

    """
    line = re.search(name + r":\s+([0-9.]+) (ms|us|FPS|iterations)", text)
    if line is None:
        raise ValueError(f"benchmark_app printed no {name}: ...{text[-500:]}")
    return float(line[1]) * {"ms": 1e6, "us": 1e3}.get(line[2], 1.0)
