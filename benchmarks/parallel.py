"""A model in stages, and two models side by side: throughput of a pipeline, equal outputs, and budgets that are kept.

`python -m benchmarks.parallel --out FOLDER [--short]`

EfficientNet-Lite0 and MiniLM, on ONNX Runtime, one sample a call:

- **Throughput**: the whole model on one core; the model in two stages on two cores, with a call more than stages under
  way; the same with each stage in a process of its own; and, beside them, whole calls on each of the two cores
  (data-parallel: one session, two calls at once). Each arm once a round in a fresh process, in random order; the ratio
  to the whole on one core is taken within the round.
- **Equality**: a cut into three stages, in float and in int8, gives the outputs of the whole.
- **Side by side**: both models at work at the same time, each held to 1.3 times the p90 that it has alone on one core.
  As they are, each with its runtime's defaults, one of them breaks its budget; what `edgeport schedule` finds keeps
  both.

It needs two cores that nobody else uses; rounds that lie in `--out` are not run again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import (
    Arguments,
    Check,
    Table,
    at_least,
    at_most,
    evaluated,
    kept_rounds,
    median_interval,
    parse_arguments,
    processors,
    report,
    time_job,
)
from benchmarks.harness.models import MODELS, Exported, exported
from edgeport import api
from edgeport.contracts import (
    Artifact,
    ExecutionConfig,
    ModelParallel,
    ProcessTrace,
    SingleStream,
    TimeJob,
    to_jsonable,
)
from edgeport.devices.agent.arrays import largest_difference
from edgeport.devices.experiment import run_rounds
from edgeport.devices.latency.timer import call_latency_ns
from edgeport.devices.local import LocalDevice

SEED = 0
NAMES = ("EfficientNet-Lite0", "MiniLM")
ROUNDS, ROUNDS_SHORT = 20, 6
DURATION_S = 2.0
PIPELINE_GAIN = 1.6
EQUAL = {"fp32": 1e-5, "int8": 1e-5}
"""Largest difference, relative to the largest value of the output."""
ROOM = 1.3
"""A budget over the p90 of a model alone on one core."""
WHOLE, PIPELINE, DATA = "whole, one core", "two stages, two cores", "data-parallel, two cores"
PROCESSES = "two stages, two processes"


def compiled(files: Exported, precision: str, execution: ExecutionConfig, label: str) -> Artifact:
    """Of ONNX Runtime; int8 by the statistics of the two samples."""
    calibration = files.folder / "model.calibration.safetensors"
    if precision != "int8":
        return files.compiled(f"{precision}-{label}", precision=precision, execution=execution)
    if not calibration.exists():
        api.calibrate(files.onnx, files.feeds, output=calibration)
    return files.compiled(f"int8-{label}", calibration=calibration, execution=execution)


def arms(files: Exported, cores: Sequence[int]) -> dict[str, TimeJob]:
    """The job of each arm; every one is "offline": as many calls as there is time for."""
    first, second = cores[:2]
    cut = ModelParallel(stages=2, cores=((first,), (second,)))
    ways = {
        WHOLE: ("whole", ExecutionConfig(threads=1, affinity=(first,)), 1),
        PIPELINE: ("2-stages", ExecutionConfig(threads=1, layout=cut), 3),
        PROCESSES: ("2-processes", ExecutionConfig(threads=1, layout=replace(cut, processes=True)), 3),
        DATA: ("2-streams", ExecutionConfig(threads=1, affinity=(first, second)), 2),
    }
    return {
        arm: _job(files, compiled(files, "fp32", execution, label), scenario="offline", streams=streams)
        for arm, (label, execution, streams) in ways.items()
    }


def _job(files: Exported, artifact: Artifact, *, scenario: str, streams: int) -> TimeJob:
    return time_job(artifact, files.feeds, warmup_s=0.3, duration_s=DURATION_S, scenario=scenario, streams=streams)


def measure(files: Exported, jobs: Mapping[str, TimeJob], rounds: int) -> list[Mapping[str, ProcessTrace]]:
    """Every arm in every round, fresh processes in random order."""
    device = LocalDevice(files.folder / "device")
    finished = kept_rounds(jobs, rounds, files.folder / "rounds", device, seed=SEED)
    failed = next((error for one in finished for error in one.errors.values()), None)
    if failed is not None:
        raise RuntimeError(f"an arm of {files.name} failed: {failed}")
    return [one.traces for one in finished]


def throughput_per_s(trace: ProcessTrace) -> float:
    """Samples a second."""
    return 1e9 * trace.samples / trace.elapsed_ns


def gains(rounds: Sequence[Mapping[str, ProcessTrace]], arm: str) -> tuple[float, float, float]:
    """Low, median, high of the arm's throughput over that of the whole on one core, paired by round."""
    return median_interval([throughput_per_s(one[arm]) / throughput_per_s(one[WHOLE]) for one in rounds])


def difference(files: Exported, precision: str) -> float:
    """Of three stages from the whole: the largest, relative to the largest value of its output, over both samples."""
    outputs = []
    for label, layout in (("whole", SingleStream()), ("3-stages", ModelParallel(stages=3))):
        artifact = compiled(files, precision, ExecutionConfig(threads=1, layout=layout), f"{label}-unpinned")
        output = files.folder / f"{precision}-{label}.npz"
        outputs.append(evaluated(artifact, files.feeds, output, files.folder / "device"))
    worst, faults = largest_difference(outputs[1], outputs[0])
    if worst is None or faults:
        raise RuntimeError(f"the stages of {files.name} give other outputs: {faults}")
    return worst


def alone_p90_ns(every: Sequence[Exported], core: int, rounds: int) -> dict[str, float]:
    """By model: the p90 of a call alone on one core; the median over fresh processes."""
    one = ExecutionConfig(threads=1, affinity=(core,))
    jobs = {
        each.name: _job(each, compiled(each, "fp32", one, "whole"), scenario="single-stream", streams=1)
        for each in every
    }
    done = run_rounds(LocalDevice(every[0].folder / "device"), jobs, rounds=rounds, seed=SEED)
    return {
        name: float(np.median([np.quantile(call_latency_ns(each.traces[name]), 0.9) for each in done])) for name in jobs
    }


def side_by_side(every: Sequence[Exported], core: int, rounds: int, out: Path) -> tuple[dict[str, Any], list[Check]]:
    """What the naive run and the schedule take of each budget: the worse of the two models."""
    alone = alone_p90_ns(every, core, rounds)
    models = {}
    for each in every:
        artifact = compiled(each, "fp32", ExecutionConfig(), "as-it-is")
        models[each.name] = (artifact.folder.parent, f"p90={round(ROOM * alone[each.name])}ns")
    samples = {each.name: each.feeds for each in every}
    found = api.schedule(models, output=out / "schedule", samples=samples, rounds=max(6, rounds // 2))
    taken = {way.name: max(one.quantile_ns / one.limit_ns for one in way.residents) for way in found.tried}
    naive = taken[found.tried[0].name]
    kept = taken.get(found.chosen, float("inf"))
    print(f"side by side: {naive:.2f} of its budget as they are; {found.chosen or found.reason}: {kept:.2f}")
    checks = [
        at_least("side by side: a naive run takes, of the budget that it breaks", naive, 1.0),
        at_most("side by side: the schedule takes, of the harder budget", min(kept, 99.0), 1.0),
    ]
    told = {
        key: value for key, value in to_jsonable(found).items() if key not in ("folder", "device", "schema_version")
    }
    return {"alone_p90_ns": alone, "found": told}, checks


def main() -> int:
    """Both models, all parts."""
    arguments = parse_arguments("A model in stages")
    cores = processors()
    if len(cores) < 2:
        print("two cores are needed", file=sys.stderr)
        return 1
    absent = [name for name in NAMES if MODELS[name].missing]
    if absent:
        print(f"{', '.join(absent)}: pip install -e '.[peers]'", file=sys.stderr)
        return 1
    return _run(arguments, cores, ROUNDS_SHORT if arguments.short else ROUNDS)


def _run(arguments: Arguments, cores: Sequence[int], count: int) -> int:
    checks: list[Check] = []
    figures: dict[str, Any] = {}
    rows = []
    every = [exported(MODELS[name], arguments.out) for name in NAMES]
    for name, files in zip(NAMES, every, strict=True):
        for precision, bound in EQUAL.items():
            found = difference(files, precision)
            figures[f"{name}, {precision}, difference of 3 stages"] = found
            checks.append(at_most(f"{name} {precision}: 3 stages differ from the whole by", found, bound))
        rounds = measure(files, arms(files, cores), count)
        figures[name] = {
            arm: {
                "samples_per_s": [throughput_per_s(one[arm]) for one in rounds],
                "flags": sorted({flag for one in rounds for flag in one[arm].flags}),
            }
            for arm in (WHOLE, PIPELINE, PROCESSES, DATA)
        }
        for arm in (PIPELINE, PROCESSES, DATA):
            low, middle, high = gains(rounds, arm)
            figures[name][arm]["gain_low_median_high"] = [low, middle, high]
            rows.append((name, arm, f"{middle:.2f}x", f"{low:.2f}x to {high:.2f}x"))
            print(f"{name}: {arm}: {middle:.2f}x the whole on one core, 95 % {low:.2f}x to {high:.2f}x")
            if arm == PIPELINE:
                checks.append(at_least(f"{name}: {arm}, gain", low, PIPELINE_GAIN))
    figures["side by side"], more = side_by_side(every, cores[0], count, arguments.out)
    checks += more
    table = Table(
        title="Throughput over the whole on one core", columns=("model", "arm", "gain", "95 %"), rows=tuple(rows)
    )
    return report("parallel", arguments, figures, checks, seed=SEED, tables=[table])


if __name__ == "__main__":
    sys.exit(main())
