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

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.models import MODELS, BenchmarkModel, available
from benchmarks.results import (
    Arguments,
    Check,
    Table,
    at_least,
    at_most,
    median_interval,
    parse_arguments,
    report,
)
from edgeport.contracts import (
    Artifact,
    EvaluateJob,
    ExecutionConfig,
    ModelParallel,
    ProcessTrace,
    SingleStream,
    TimeJob,
)

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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model on disk.

    Attributes:
        name: Of the model.
        onnx: The float file.
        feeds: `.npz` with two samples.
        calibration: Statistics of these two, for int8.

    """

    name: str
    onnx: Path
    feeds: Path
    calibration: Path

    def compiled(self, precision: str, execution: ExecutionConfig, label: str) -> Artifact:
        """Of ONNX Runtime; what lies there already is taken."""
        from edgeport import api
        from edgeport.pipeline.artifacts import load_artifact

        place = self.onnx.parent / f"{precision}-{label}"
        if not place.exists():
            calibration = self.calibration if precision == "int8" else None
            api.quantize(
                self.onnx,
                calibration,
                output=place,
                execution=execution,
                options=api.QuantizeOptions(precision=precision),
            )
        return load_artifact(place)


def prepare(model: BenchmarkModel, out: Path) -> Prepared:
    """Exports and calibrates; what lies in `--out` already is taken from there."""
    import numpy as np

    from edgeport import api
    from edgeport.contracts import ModelSource

    folder = out / model.name
    folder.mkdir(parents=True, exist_ok=True)
    made = Prepared(
        name=model.name,
        onnx=folder / "model.onnx",
        feeds=folder / "feeds.npz",
        calibration=folder / "model.calibration.safetensors",
    )
    if not made.onnx.exists():
        arrays: dict[str, Any] = model.feeds()
        np.savez(made.feeds, **arrays)
        source = ModelSource(location=model.factory, search_path=Path(__file__).parent.parent)
        api.export(source, example=made.feeds, output=made.onnx)
    if not made.calibration.exists():
        api.calibrate(made.onnx, made.feeds, output=made.calibration)
    return made


def arms(prepared: Prepared, cores: Sequence[int]) -> dict[str, TimeJob]:
    """The job of each arm; every one is "offline": as many calls as there is time for."""
    first, second = cores[:2]
    one = ExecutionConfig(threads=1, affinity=(first,))
    both = ExecutionConfig(threads=1, affinity=(first, second))
    cut = ModelParallel(stages=2, cores=((first,), (second,)))
    two = ExecutionConfig(threads=1, layout=cut)
    apart = ExecutionConfig(threads=1, layout=replace(cut, processes=True))
    return {
        WHOLE: _job(prepared, prepared.compiled("fp32", one, "whole"), streams=1),
        PIPELINE: _job(prepared, prepared.compiled("fp32", two, "2-stages"), streams=3),
        PROCESSES: _job(prepared, prepared.compiled("fp32", apart, "2-processes"), streams=3),
        DATA: _job(prepared, prepared.compiled("fp32", both, "2-streams"), streams=2),
    }


def _job(prepared: Prepared, artifact: Artifact, *, streams: int) -> TimeJob:
    return TimeJob(
        artifact=str(artifact.folder),
        entry=artifact.entry,
        session=artifact.session,
        settings=artifact.settings,
        feeds=str(prepared.feeds),
        warmup_s=0.3,
        duration_s=DURATION_S,
        scenario="offline",
        streams=streams,
    )


def measure(prepared: Prepared, jobs: Mapping[str, TimeJob], rounds: int) -> list[Mapping[str, ProcessTrace]]:
    """Every arm in every round, fresh processes in random order."""
    from edgeport.contracts import dump_json, load_json
    from edgeport.devices.experiment import Round, run_rounds
    from edgeport.devices.local import LocalDevice

    folder = prepared.onnx.parent / "rounds"
    folder.mkdir(exist_ok=True)
    done = [load_json(Round, path.read_bytes()) for path in sorted(folder.glob("*.json"))]

    def keep(one: Round) -> None:
        partial = folder / f"{one.index:04}.partial"
        partial.write_bytes(dump_json(one))
        partial.replace(partial.with_suffix(".json"))
        print(f"\r{prepared.name}: round {one.index + 1} of {rounds}", end="", file=sys.stderr, flush=True)

    device = LocalDevice(prepared.onnx.parent / "device")
    finished = run_rounds(device, jobs, rounds=rounds, seed=SEED, done=done[:rounds], on_round=keep)
    print(file=sys.stderr)
    failed = next((error for one in finished for error in one.errors.values()), None)
    if failed is not None:
        raise RuntimeError(f"an arm of {prepared.name} failed: {failed}")
    return [one.traces for one in finished]


def throughput_per_s(trace: ProcessTrace) -> float:
    """Samples a second."""
    return 1e9 * trace.samples / trace.elapsed_ns


def gains(rounds: Sequence[Mapping[str, ProcessTrace]], arm: str) -> tuple[float, float, float]:
    """Low, median, high of the arm's throughput over that of the whole on one core, paired by round."""
    return median_interval([throughput_per_s(one[arm]) / throughput_per_s(one[WHOLE]) for one in rounds])


def difference(prepared: Prepared, precision: str) -> float:
    """Of three stages from the whole: the largest, relative to the largest value of its output, over both samples."""
    from edgeport.devices.agent.arrays import largest_difference, load_arrays
    from edgeport.devices.local import LocalDevice

    device = LocalDevice(prepared.onnx.parent / "device")
    found = []
    for label, layout in (("whole", SingleStream()), ("3-stages", ModelParallel(stages=3))):
        artifact = prepared.compiled(precision, ExecutionConfig(threads=1, layout=layout), f"{label}-unpinned")
        outputs = prepared.onnx.parent / f"{precision}-{label}.npz"
        device.run(
            EvaluateJob(
                artifact=str(artifact.folder),
                entry=artifact.entry,
                session=artifact.session,
                settings=artifact.settings,
                feeds=str(prepared.feeds),
                outputs=str(outputs),
            )
        )
        found.append(load_arrays(str(outputs)))
    worst, faults = largest_difference(found[1], found[0])
    if worst is None or faults:
        raise RuntimeError(f"the stages of {prepared.name} give other outputs: {faults}")
    return worst


def alone_p90_ns(every: Sequence[Prepared], core: int, rounds: int) -> dict[str, float]:
    """By model: the p90 of a call alone on one core; the median over fresh processes."""
    import numpy as np

    from edgeport.devices.experiment import run_rounds
    from edgeport.devices.latency.timer import call_latency_ns
    from edgeport.devices.local import LocalDevice

    one = ExecutionConfig(threads=1, affinity=(core,))
    jobs = {
        each.name: replace(_job(each, each.compiled("fp32", one, "whole"), streams=1), scenario="single-stream")
        for each in every
    }
    done = run_rounds(LocalDevice(every[0].onnx.parent / "device"), jobs, rounds=rounds, seed=SEED)
    return {
        name: float(np.median([np.quantile(call_latency_ns(each.traces[name]), 0.9) for each in done])) for name in jobs
    }


def side_by_side(every: Sequence[Prepared], core: int, rounds: int, out: Path) -> tuple[dict[str, Any], list[Check]]:
    """What the naive run and the schedule take of each budget: the worse of the two models."""
    from edgeport import api
    from edgeport.contracts import to_jsonable

    alone = alone_p90_ns(every, core, rounds)
    models = {}
    for each in every:
        each.compiled("fp32", ExecutionConfig(), "as-it-is")
        models[each.name] = (each.onnx.parent / "fp32-as-it-is", f"p90={round(ROOM * alone[each.name])}ns")
    samples = {each.name: each.feeds for each in every}
    found = api.schedule(
        models, output=out / "schedule", samples=samples, options=api.ScheduleOptions(rounds=max(6, rounds // 2))
    )
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
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        print("two cores are needed", file=sys.stderr)
        return 1
    missing = [name for name in NAMES if not available(MODELS[name])]
    if missing:
        print(f"{', '.join(missing)}: pip install -e '.[peers]'", file=sys.stderr)
        return 1
    return _run(arguments, cores)


def _run(arguments: Arguments, cores: Sequence[int]) -> int:
    checks: list[Check] = []
    figures: dict[str, Any] = {}
    rows = []
    every = [prepare(MODELS[name], arguments.out) for name in NAMES]
    for name, prepared in zip(NAMES, every, strict=True):
        for precision, bound in EQUAL.items():
            found = difference(prepared, precision)
            figures[f"{name}, {precision}, difference of 3 stages"] = found
            checks.append(at_most(f"{name} {precision}: 3 stages differ from the whole by", found, bound))
        rounds = measure(prepared, arms(prepared, cores), ROUNDS_SHORT if arguments.short else ROUNDS)
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
    count = ROUNDS_SHORT if arguments.short else ROUNDS
    figures["side by side"], more = side_by_side(every, cores[0], count, arguments.out)
    checks += more
    table = Table(
        title="Throughput over the whole on one core", columns=("model", "arm", "gain", "95 %"), rows=tuple(rows)
    )
    return report("parallel", arguments, figures, checks, seed=SEED, tables=[table])


if __name__ == "__main__":
    sys.exit(main())
