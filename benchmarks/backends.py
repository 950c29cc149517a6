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

import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from benchmarks.harness import (
    Arguments,
    Check,
    Table,
    argument_parser,
    at_least,
    benchmark_app,
    kept,
    median_interval,
    median_ns,
    parsed,
    printed,
    processors,
    report,
    time_job,
)
from benchmarks.harness.models import MODELS, Exported, exported
from edgeport import api
from edgeport.contracts import Artifact, to_jsonable
from edgeport.devices.local import LocalDevice
from edgeport.npz import load_npz, save_npz
from edgeport.pipeline.datasets.batching import first_batch
from edgeport.pipeline.output.artifact_folder import load_artifact

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


def require_time(deadline_s: float) -> None:
    """Raises where the time of `time.monotonic` is up.

    Raises:
        OutOfTimeError: It is.

    """
    if time.monotonic() > deadline_s:
        raise OutOfTimeError


def artifact(files: Exported, backend: str) -> Artifact:
    """In float32, without a word on how it is run."""
    return files.compiled(backend, backend=backend, precision="fp32")


def search(files: Exported, goal: str, seconds: float, deadline_s: float) -> dict[str, Any]:
    """What the search says of itself; its artifact lies in `tuned-GOAL-SECONDS/best`."""
    output = files.folder / f"tuned-{goal}-{seconds:.0f}s"

    def make() -> dict[str, Any]:
        require_time(deadline_s)
        result: dict[str, Any] = to_jsonable(
            api.tune_execution(
                [artifact(files, backend).folder.parent for backend in ("onnxruntime", "openvino")],
                goal=goal,
                output=output,
                time_s=seconds,
                samples=files.feeds,
                store=files.folder / "store",
            )
        )
        names = ("chosen", "default", "gain", "tried", "finished", "spent_s", "reason")
        return {name: result[name] for name in names} | {"folder": output.name}

    return kept(output.with_suffix(".json"), dict, make)


def arms(files: Exported, goal: str, duration_s: int, folder: str) -> dict[str, Callable[[], Values]]:
    """Per arm what runs it once: nanoseconds of a call for latency, samples per second for throughput."""
    best, plain = load_artifact(files.folder / folder / "best"), artifact(files, "onnxruntime")
    ways = {TUNED: (best, best.execution.calls_at_once), DEFAULTS: (plain, 1)}
    if goal == "throughput":
        ways[CALL_PER_CORE] = plain, len(processors())
    timed: dict[str, Callable[[], Values]] = {
        name: partial(ours, name, files, built, goal, duration_s, calls) for name, (built, calls) in ways.items()
    }
    return timed | {APP: partial(peer, files, goal, duration_s)}


def ours(arm: str, files: Exported, built: Artifact, goal: str, duration_s: int, calls: int) -> Values:
    """As our agent times it, in a fresh process."""
    batch = built.execution.batch
    single = goal == "latency"
    job = time_job(
        built,
        _fed(files, batch),
        batch=batch,
        warmup_s=0.3,
        duration_s=duration_s,
        scenario="single-stream" if single else "offline",
        streams=1 if single else calls,
    )
    trace = LocalDevice(files.folder / "device").run(job)
    if single:
        return {arm: median_ns(trace), arm + LOOP: trace.elapsed_ns / trace.samples}
    return {arm: 1e9 * trace.samples / trace.elapsed_ns}


def _fed(files: Exported, batch: int) -> Path:
    """The two samples, over and over, as many as a call takes."""
    path = files.folder / f"feeds-{batch}.npz"
    if not path.exists():
        save_npz(path, first_batch(load_npz(files.feeds), max(2, batch)))
    return path


def peer(files: Exported, goal: str, duration_s: int) -> Values:
    """OpenVINO's own tool with the hint of that name, on the same IR in float32 and with the same types of inputs."""
    built = artifact(files, "openvino")
    floats = {one.dtype.name for one in load_npz(files.feeds).values()} == {"float32"}
    text = benchmark_app(built.folder / built.entry, goal, duration_s, *(("-ip", "f32") if floats else ()))
    if goal == "throughput":
        return {APP: printed(text, "Throughput")}
    return {APP: printed(text, "Median"), APP + LOOP: printed(text, "Duration") / printed(text, "Count")}


def measure(
    folder: Path, run: Mapping[str, Callable[[], Values]], rounds: int, deadline_s: float
) -> list[dict[str, float]]:
    """Every arm once in every round; a round that lies in the folder is taken from there."""

    def once(index: int) -> Values:
        require_time(deadline_s)
        order = random.Random(f"{SEED}:{folder.name}:{index}").sample(sorted(run), len(run))  # noqa: S311 (no secret)
        return {arm: value for name in order for arm, value in run[name]().items()}

    done = []
    for index in range(rounds):
        done.append(kept(folder / f"{index:04}.json", dict, partial(once, index)))
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
    parser.add_argument("--minutes", type=float, default=math.inf, help="no search and no round begins later")
    given = parser.parse_args()
    names = [name for name in NAMES if name in (given.part or NAMES)]
    absent = [name for name in names if MODELS[name].missing]
    if absent:
        print(f"{', '.join(absent)}: pip install -e '.[peers]'", file=sys.stderr)
        return 1
    arguments = parsed(given)
    deadline_s = time.monotonic() + 60 * given.minutes
    done: dict[str, dict[str, Any]] = {}
    for name in names:
        files = exported(MODELS[name], arguments.out)
        try:
            done[name] = {goal: searched_and_measured(files, goal, deadline_s, short=arguments.short) for goal in GOALS}
        except OutOfTimeError:
            print(f"\n{name}: the time is up; what was measured is kept in {files.folder}")
    return _report(arguments, done) if done else 1


def searched_and_measured(
    files: Exported, goal: str, deadline_s: float, *, short: bool
) -> tuple[dict[str, Any], list[Values]]:
    """What the search says, and the rounds of what it chose.

    Raises:
        OutOfTimeError: Something is missing that may not begin any more.

    """
    result = search(files, goal, TUNING_SHORT_S if short else TUNING_S, deadline_s)
    run = arms(files, goal, DURATION_SHORT_S if short else DURATION_S, result["folder"])
    folder = files.folder / f"rounds-{result['folder']}"
    return result, measure(folder, run, ROUNDS_SHORT if short else ROUNDS[goal], deadline_s)


def _report(arguments: Arguments, done: Mapping[str, Mapping[str, Any]]) -> int:
    checks: list[Check] = []
    figures: dict[str, Any] = {}
    rows = []
    means: dict[str, list[float]] = {goal: [] for goal in GOALS}
    for name, of in done.items():
        for goal, (result, rounds) in of.items():
            found = {peer: gains(rounds, goal, peer) for peer in rounds[0] if peer != TUNED and LOOP not in peer}
            hardest = min(found, key=lambda peer: found[peer][1])
            means[goal].append(found[hardest][1])
            figures[f"{name}, {goal}"] = {
                "search": result,
                "rounds": rounds,
                "gain_low_median_high": {peer: list(gain) for peer, gain in found.items()},
            }
            for peer, (low, middle, high) in found.items():
                rows.append((name, goal, str(result["chosen"]), peer, f"{middle:.3f}x", f"{low:.3f}x to {high:.3f}x"))
                print(f"{name}, {goal}: {result['chosen']}: {middle:.3f}x of {peer}, 95 % {low:.3f}x to {high:.3f}x")
            if goal == "latency":
                low, middle, high = gains(rounds, goal, APP, of=LOOP)
                rows.append((name, goal, "the same", APP + LOOP, f"{middle:.3f}x", f"{low:.3f}x to {high:.3f}x"))
                figures[f"{name}, {goal}"]["loop_over_median_us"] = {
                    arm: median(one[arm + LOOP] - one[arm] for one in rounds) / 1e3 for arm in (TUNED, APP)
                }
            low = min(gain[0] for gain in found.values())
            checks.append(at_least(f"{name}, {goal}: tuned over the best of its peers, lower bound", low, LEAST_RATIO))
    for goal, ratios in means.items() if len(done) == len(NAMES) else ():
        name = f"{goal}: tuned over the best peer of each, geometric mean"
        checks.append(at_least(name, geometric_mean(ratios), LEAST_MEAN[goal]))
    table = Table(
        title="Tuned against each peer",
        columns=("model", "goal", "chosen", "peer", "gain", "95 %"),
        rows=tuple(rows),
    )
    parts = tuple(done), tuple(name for name in NAMES if name not in done)
    return report("backends", arguments, figures, checks, seed=SEED, tables=[table], parts=parts)


if __name__ == "__main__":
    sys.exit(main())
