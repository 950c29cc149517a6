"""How an artifact is run, as `edgeport tune` finds it, against what the runtimes and their own tool do by themselves.

`python -m benchmarks.backends --out FOLDER [--short] [--part MODEL ...] [--minutes N]`

EfficientNet-Lite0, MiniLM and ResNet-18 in float32, on all processors that this process may use. Each is compiled for
ONNX Runtime and OpenVINO; `edgeport tune` searches over both for the lowest latency, and for the highest throughput.
What it saves is then run beside

- OpenVINO's benchmark_app with the hint of that name, fed in the types that the model takes (by itself it feeds what
  looks like an image as uint8, a quarter of the bytes);
- ONNX Runtime with its defaults; for throughput also with a call for each processor at once,

each once a round in a fresh process, in random order, and compared within the round. Latency is the median of a call
of one sample, throughput is samples per second, whatever the batch. benchmark_app counts the time within the runtime
alone, which favours it by some tens of microseconds a call: beside its median, which checks are held to, stands what a
call takes of the whole loop, its own and ours, as whoever calls from Python sees it.

It needs a machine that nobody else uses, for three quarters of an hour: five minutes for each search, as `edgeport
tune` takes by itself, and then the rounds. Searches and rounds that lie in `--out` are not run again, so it may be done
in pieces: with `--minutes 20` none begins later than that, and models of which something is missing then are left out,
by name.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.models import MODELS, BenchmarkModel, available
from benchmarks.results import Arguments, Check, Table, argument_parser, at_least, median_interval, parsed, report
from edgeport.contracts import Artifact, TimeJob

SEED = 0
NAMES = ("EfficientNet-Lite0", "MiniLM", "ResNet-18")
GOALS = ("latency", "throughput")
ROUNDS, ROUNDS_SHORT = {"latency": 40, "throughput": 14}, 6
TUNING_S, TUNING_SHORT_S = 300.0, 60.0
"""The first is what `edgeport tune` takes where nobody says."""
DURATION_S, DURATION_SHORT_S = 2, 1
LEAST_RATIO = 0.97
LEAST_MEAN = {"latency": 1.0, "throughput": 1.03}
TUNED, DEFAULTS, CALL_PER_CORE, APP = "tuned", "ONNX Runtime's defaults", "a call per core", "benchmark_app"
LOOP = " by its whole loop"
"""Behind an arm's name: how long its loop took for each of its calls, nanoseconds."""

Values = dict[str, float]


class OutOfTimeError(Exception):
    """What is missing may not begin any more."""


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """When nothing more begins; never where `at_s` is None. Of `time.monotonic`."""

    at_s: float | None = None

    def require(self) -> None:
        """Raises where the time is up.

        Raises:
            OutOfTimeError: It is.

        """
        if self.at_s is not None and time.monotonic() > self.at_s:
            raise OutOfTimeError


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model, exported and compiled; each artifact's folder is called by its backend."""

    name: str
    folder: Path

    @property
    def feeds(self) -> Path:
        """Two samples."""
        return self.folder / "feeds.npz"

    def artifact(self, backend: str) -> Artifact:
        """As it was compiled, without a word on how it is run."""
        from edgeport.pipeline.artifacts import load_artifact

        return load_artifact(self.folder / backend)


def prepare(model: BenchmarkModel, out: Path) -> Prepared:
    """Exports and compiles; what lies in `--out` already is taken from there."""
    import numpy as np

    from edgeport import api
    from edgeport.contracts import ModelSource

    made = Prepared(name=model.name, folder=out / model.name)
    made.folder.mkdir(parents=True, exist_ok=True)
    onnx = made.folder / "model.onnx"
    if not onnx.exists():
        arrays: dict[str, Any] = model.feeds()
        np.savez(made.feeds, **arrays)
        source = ModelSource(location=model.factory, search_path=Path(__file__).parent.parent)
        api.export(source, example=made.feeds, output=onnx)
    for backend in ("onnxruntime", "openvino"):
        if not (made.folder / backend).exists():
            api.quantize(
                onnx, output=made.folder / backend, options=api.QuantizeOptions(backend=backend, precision="fp32")
            )
    return made


def tuned(prepared: Prepared, goal: str, seconds: float, deadline: Deadline) -> dict[str, Any]:
    """What the search says of itself; its artifact lies in `tuned-GOAL-SECONDS/best`."""
    from edgeport import api
    from edgeport.contracts import to_jsonable

    output = prepared.folder / f"tuned-{goal}-{seconds:.0f}s"
    said = output.with_suffix(".json")
    if said.exists():
        known: dict[str, Any] = json.loads(said.read_text(encoding="utf-8"))
        return known
    deadline.require()
    found = api.tune_execution(
        [prepared.folder / "onnxruntime", prepared.folder / "openvino"],
        output=output,
        store=prepared.folder / "store",
        options=api.ExecutionTuneOptions(goal=goal, time_s=seconds, samples=prepared.feeds),
    )
    kept: dict[str, Any] = to_jsonable(found)
    names = ("chosen", "default", "gain", "tried", "finished", "spent_s", "reason")
    told = {name: kept[name] for name in names} | {"folder": output.name}
    partial = said.with_suffix(".partial")
    partial.write_text(json.dumps(told), encoding="utf-8")
    partial.replace(said)
    return told


def arms(prepared: Prepared, goal: str, duration_s: int, folder: str) -> dict[str, Callable[[], Values]]:
    """Per arm what runs it once: nanoseconds of a call for latency, samples per second for throughput."""
    from edgeport.pipeline.artifacts import load_artifact

    best = load_artifact(prepared.folder / folder / "best")
    plain = prepared.artifact("onnxruntime")
    found = {
        TUNED: lambda: ours(TUNED, prepared, best, goal, duration_s, best.execution.calls_at_once),
        DEFAULTS: lambda: ours(DEFAULTS, prepared, plain, goal, duration_s, 1),
        APP: lambda: benchmark_app(prepared, goal, duration_s),
    }
    if goal == "throughput":
        found[CALL_PER_CORE] = lambda: ours(CALL_PER_CORE, prepared, plain, goal, duration_s, _cores())
    return found


def ours(arm: str, prepared: Prepared, artifact: Artifact, goal: str, duration_s: int, calls: int) -> Values:
    """As our agent times it, in a fresh process."""
    import numpy as np

    from edgeport.devices.latency.timer import call_latency_ns
    from edgeport.devices.local import LocalDevice

    batch = artifact.execution.batch
    job = TimeJob(
        artifact=str(artifact.folder),
        entry=artifact.entry,
        session=artifact.session,
        settings=artifact.settings,
        feeds=str(_fed(prepared, batch)),
        batch=batch,
        warmup_s=0.3,
        duration_s=duration_s,
        scenario="single-stream" if goal == "latency" else "offline",
        streams=1 if goal == "latency" else calls,
    )
    trace = LocalDevice(prepared.folder / "device").run(job)
    if goal == "latency":
        return {arm: float(np.median(call_latency_ns(trace))), arm + LOOP: trace.elapsed_ns / trace.samples}
    return {arm: 1e9 * trace.samples / trace.elapsed_ns}


def _fed(prepared: Prepared, batch: int) -> Path:
    """The two samples, over and over, as many as a call takes."""
    from edgeport.npz import load_npz, save_npz
    from edgeport.pipeline.batches import first_batch

    path = prepared.folder / f"feeds-{batch}.npz"
    if not path.exists():
        save_npz(path, first_batch(load_npz(prepared.feeds), max(2, batch)))
    return path


def benchmark_app(prepared: Prepared, goal: str, duration_s: int) -> Values:
    """OpenVINO's own tool with the hint of that name, on the same IR in float32 and with the same types of inputs."""
    from edgeport.npz import load_npz

    artifact = prepared.artifact("openvino")
    program = "from openvino.tools.benchmark.main import main; main()"
    arguments = [sys.executable, "-c", program, "-m", str(artifact.folder / artifact.entry), "-d", "CPU"]
    arguments += ["-hint", goal, "-infer_precision", "f32", "-b", "1", "-t", str(duration_s)]
    if {one.dtype.name for one in load_npz(prepared.feeds).values()} == {"float32"}:
        arguments += ["-ip", "f32"]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"benchmark_app failed: {(ran.stdout + ran.stderr)[-500:]}")
    if goal == "throughput":
        return {APP: printed(ran.stdout, "Throughput")}
    loop_ns = printed(ran.stdout, "Duration") / printed(ran.stdout, "Count")
    return {APP: printed(ran.stdout, "Median"), APP + LOOP: loop_ns}


def printed(text: str, name: str) -> float:
    """Nanoseconds, or what else is counted, of a line: "Median:  35.02 ms", "Throughput:   28.55 FPS", "Count: 9 ...".

    Raises:
        ValueError: No such line.

    """
    found = re.search(name + r":\s+([0-9.]+) (ms|us|FPS|iterations)", text)
    if found is None:
        raise ValueError(f"benchmark_app printed no {name}: ...{text[-500:]}")
    return float(found[1]) * {"ms": 1e6, "us": 1e3}.get(found[2], 1.0)


def measure(
    folder: Path, run: Mapping[str, Callable[[], Values]], rounds: int, deadline: Deadline
) -> list[dict[str, float]]:
    """Every arm once in every round; a round that lies in the folder is taken from there."""
    folder.mkdir(exist_ok=True)
    done = []
    for index in range(rounds):
        path = folder / f"{index:04}.json"
        if not path.exists():
            deadline.require()
            order = random.Random(f"{SEED}:{folder.name}:{index}").sample(sorted(run), len(run))  # noqa: S311 (no secret)
            one = dict(value for name in order for value in run[name]().items())
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(one), encoding="utf-8")
            partial.replace(path)
        done.append(json.loads(path.read_text(encoding="utf-8")))
        print(f"\r{folder.parent.name}, {folder.name}: {index + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return done


def gains(rounds: Sequence[Mapping[str, float]], goal: str, peer: str, *, of: str = "") -> tuple[float, float, float]:
    """Low, median, high of how many times as good the tuned one is as the peer, paired by round; above 1 is better."""
    if goal == "latency":
        return median_interval([one[peer + of] / one[TUNED + of] for one in rounds])
    return median_interval([one[TUNED] / one[peer] for one in rounds])


def main() -> int:
    """Three models, two goals."""
    parser = argument_parser("How an artifact is run")
    parser.add_argument("--part", action="append", choices=NAMES, help="this model alone; may be repeated")
    parser.add_argument("--minutes", type=float, help="no search and no round begins later")
    given = parser.parse_args()
    names = [name for name in NAMES if name in (given.part or NAMES)]
    missing = [name for name in names if not available(MODELS[name])]
    if missing:
        print(f"{', '.join(missing)}: pip install -e '.[peers]'", file=sys.stderr)
        return 1
    ends = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    return _run(parsed(given), names, Deadline(at_s=ends))


def searched_and_measured(
    prepared: Prepared, goal: str, deadline: Deadline, *, short: bool
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """What the search says, and the rounds of what it chose.

    Raises:
        OutOfTimeError: Something is missing that may not begin any more.

    """
    search = tuned(prepared, goal, TUNING_SHORT_S if short else TUNING_S, deadline)
    duration_s = DURATION_SHORT_S if short else DURATION_S
    run = arms(prepared, goal, duration_s, search["folder"])
    folder = prepared.folder / f"rounds-{search['folder']}"
    return search, measure(folder, run, ROUNDS_SHORT if short else ROUNDS[goal], deadline)


def _run(arguments: Arguments, names: Sequence[str], deadline: Deadline) -> int:
    done: dict[str, dict[str, Any]] = {}
    for name in names:
        prepared = prepare(MODELS[name], arguments.out)
        try:
            done[name] = {
                goal: searched_and_measured(prepared, goal, deadline, short=arguments.short) for goal in GOALS
            }
        except OutOfTimeError:
            print(f"\n{name}: the time is up; what was measured is kept in {prepared.folder}")
    return _report(arguments, done) if done else 1


def _report(arguments: Arguments, done: Mapping[str, Mapping[str, Any]]) -> int:
    checks: list[Check] = []
    figures: dict[str, Any] = {}
    rows = []
    means: dict[str, list[float]] = {goal: [] for goal in GOALS}
    for name, of in done.items():
        for goal, (search, rounds) in of.items():
            found = {peer: gains(rounds, goal, peer) for peer in rounds[0] if peer != TUNED and LOOP not in peer}
            hardest = min(found, key=lambda peer: found[peer][1])
            means[goal].append(found[hardest][1])
            figures[f"{name}, {goal}"] = {
                "search": search,
                "rounds": rounds,
                "gain_low_median_high": {peer: list(gain) for peer, gain in found.items()},
            }
            for peer, (low, middle, high) in found.items():
                rows.append((name, goal, str(search["chosen"]), peer, f"{middle:.3f}x", f"{low:.3f}x to {high:.3f}x"))
                print(f"{name}, {goal}: {search['chosen']}: {middle:.3f}x of {peer}, 95 % {low:.3f}x to {high:.3f}x")
            if goal == "latency":
                low, middle, high = gains(rounds, goal, APP, of=LOOP)
                rows.append((name, goal, "the same", APP + LOOP, f"{middle:.3f}x", f"{low:.3f}x to {high:.3f}x"))
                figures[f"{name}, {goal}"]["loop_over_median_us"] = {
                    arm: median(one[arm + LOOP] - one[arm] for one in rounds) / 1e3 for arm in (TUNED, APP)
                }
            low = min(gain[0] for gain in found.values())
            checks.append(at_least(f"{name}, {goal}: tuned over the best of its peers, lower bound", low, LEAST_RATIO))
    for goal, ratios in means.items() if len(done) == len(NAMES) else ():
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        checks.append(at_least(f"{goal}: tuned over the best peer of each, geometric mean", mean, LEAST_MEAN[goal]))
    table = Table(
        title="Tuned against each peer",
        columns=("model", "goal", "chosen", "peer", "gain", "95 %"),
        rows=tuple(rows),
    )
    parts = tuple(done), tuple(name for name in NAMES if name not in done)
    return report("backends", arguments, figures, checks, seed=SEED, tables=[table], parts=parts)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
