"""Prunes a PyTorch model in children; where a latency decides, what it takes on this machine is measured."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.atomic import atomic_write
from edgeport.contracts import (
    Change,
    Interval,
    Limits,
    ModelSource,
    OnProgress,
    Outcome,
    ProgressEvent,
    PruneStep,
    TrainedStep,
    load_json,
    to_jsonable,
)
from edgeport.errors import SamplesError, UsageError
from edgeport.exporter.prune.cost_model import Costs, GroupSpec, RemovedUnits
from edgeport.exporter.prune.latency_search import MOST_TRIALS, Budgeted, Losses, prune_to_latency
from edgeport.exporter.prune.samples import JUDGED
from edgeport.exporter.prune.steps import check_step
from edgeport.isolation import run_isolated
from edgeport.npz import save_npz
from edgeport.pipeline.datasets.raw_files import read_samples
from edgeport.pipeline.engine.fingerprints import training_digest
from edgeport.pipeline.engine.workspace import held_folder
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.output.training_logs import copy_curves, course_places, remove_curves, require_course_places
from edgeport.store import Store

if TYPE_CHECKING:
    from edgeport.pipeline.benchmarking.artifact import BenchSettings
    from edgeport.pipeline.benchmarking.compare import CompareResult

__all__ = [
    "MeasuredTrial",
    "PruneBench",
    "PruneReport",
    "PruneWork",
    "course_of",
    "forget_course",
    "judge_final",
    "measured_by",
    "prune_source",
    "search_counts",
]


_SUFFIXES = (".safetensors", ".pt2")
_FEWEST_SAMPLES = 2


@dataclass(frozen=True, kw_only=True)
class MeasuredTrial:
    """A network that was measured on the way to a latency.

    Attributes:
        latency_ns: Its median.
        predicted_ns: What the model of latency said before; 0 where nothing was known yet.
        left: Share of the multiplications that it has.

    """

    latency_ns: float
    predicted_ns: float
    left: float


@dataclass(frozen=True, kw_only=True)
class PruneReport:
    """What became of a model.

    Attributes:
        file: The pruned weights (`.safetensors`), or the program (`.pt2`).
        step: What was asked.
        weights, macs: Parameters, and multiplications for one sample, before and after.
        size_bytes: Of the file.
        zeros: Share of the weights that is zero.
        removed: Name of a layer to how many units of it are gone, and of how many.
        blocks: Those that are gone.
        left: Path of a layer that could not be pruned to the reason.
        latency_ns: Medians before and after, where they were measured.
        goal_ns: What was asked of the second one.
        speedup: Over the unpruned model, from fresh pairs; None where it was not measured.
        trials: What was measured on the way.
        trained: What each training gave.
        log: The course of these trainings, a JSON object per line; None where there was none.
        outcome: PASS; FAIL where the latency was not reached, or what came out is not faster and was not kept.
        reason: In a sentence, where it is not PASS.

    """

    file: Path
    step: PruneStep
    weights: tuple[int, int]
    macs: tuple[float, float]
    size_bytes: int
    zeros: float
    removed: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    latency_ns: tuple[float, float] | None = None
    goal_ns: float | None = None
    speedup: Interval | None = None
    trials: tuple[MeasuredTrial, ...] = ()
    trained: tuple[TrainedStep, ...] = ()
    log: Path | None = None
    outcome: Outcome = Outcome.PASS
    reason: str = ""
    schema_version: int = 1


def prune_source(  # noqa: PLR0913 (those of the API)
    source: ModelSource,
    samples: Path,
    step: PruneStep,
    *,
    output: Path,
    target: str = "",
    settings: BenchSettings,
    on_progress: OnProgress,
    limits: Limits,
    store: Path | None = None,
    fresh: bool = False,
) -> PruneReport:
    """See `edgeport.api.prune`."""
    check_step(step)
    if output.suffix not in _SUFFIXES:
        raise UsageError(
            asked=f"write {output.name}",
            found="another kind of file",
            fix="name it .safetensors, for the model's own code, or .pt2, which needs no code",
        )
    if source.location.endswith((".onnx", ".pt2")):
        raise UsageError(
            asked=f"prune {source.location}",
            found="a graph, whose sizes are written into it",
            fix="give pkg.mod:factory and its weights",
        )
    require_writable(output)
    require_course_places(output)
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="edgeport-prune-")))
        given = read_samples(samples, target, count=(1 + JUDGED if step.measured else 1) * step.samples)
        if len(next(iter(given.feeds.values()))) < _FEWEST_SAMPLES:
            raise SamplesError(
                asked=f"prune {source.location} by {samples.name}",
                found="one sample, which does not tell which axes count samples",
                fix="give two or more; hundreds for criteria that look at what runs through the network",
            )
        arrays = dict(given.feeds) | ({target: np.asarray(given.target)} if given.target is not None else {})
        save_npz(folder / "samples.npz", arrays)
        trainings = folder / "training"
        if step.training is not None:
            measured = measured_by(settings) if step.measured else {}
            digest = training_digest(source, samples, target, step, measured)
            doing = f"prune {source.location}, and train it"
            trainings = held.enter_context(held_folder(Store(store), digest, fresh=fresh, asked=doing))
        payload = {
            "source": to_jsonable(source),
            "step": to_jsonable(step),
            "samples": str(folder / "samples.npz"),
            "target": target,
            "output": str(output.resolve()),
            "training": str(samples.resolve()),
            "work": str(trainings),
        }
        work = PruneWork(payload=payload, folder=folder, settings=settings, on_progress=on_progress, limits=limits)
        if step.measured:
            report = _to_latency(work, step, output, trainings / "searched.json")
        else:
            report = _report(step, output, work.child("prune"))
        if step.training is not None:
            report = replace(report, log=course_of(trainings, output))
        else:
            forget_course(output)
        return report


@dataclass(frozen=True, kw_only=True)
class PruneWork:
    """The children that are asked, and the device.

    Attributes:
        payload: What each child is told.
        folder: For scratch.
        settings: Of measurements.
        on_progress, limits: See `edgeport.api.prune`.

    """

    payload: Mapping[str, Any]
    folder: Path
    settings: BenchSettings
    on_progress: OnProgress
    limits: Limits

    def child(self, what: str, **more: object) -> dict[str, Any]:
        """What `<what>_in_child` answers."""
        trains = self.payload["step"]["training"] is not None and (what == "prune" or bool(more.get("fine_tuned")))
        patient = self.limits.for_training()
        return run_isolated(
            f"edgeport.exporter.prune.worker:{what}_in_child",
            {**self.payload, **more},
            limits=patient if trains else self.limits,
            on_progress=self.on_progress,
            asked=f"prune {self.payload['source']['location']}",
        )


class PruneBench:
    """Exports and times networks with so many units of each group gone."""

    def __init__(self, work: PruneWork, group_specs: list[Any]) -> None:
        self.work, self.group_specs = work, group_specs
        self.count = 0
        self._whole: Path | None = None

    @property
    def whole(self) -> Path:
        """An ONNX file of the whole network."""
        if self._whole is None:
            self._whole, _ = self.export({})
        return self._whole

    def export(self, counts: RemovedUnits, **more: object) -> tuple[Path, dict[str, Any]]:
        """An ONNX file of the network, and what the child said of it."""
        path = self.work.folder / f"trial-{self.count}.onnx"
        self.count += 1
        told = {"output": "", **more}
        found = self.work.child("take", group_specs=self.group_specs, counts=dict(counts), onnx=str(path), **told)
        return path, found

    def whole_ns(self) -> float:
        """Median of the whole network, in ns."""
        from edgeport.pipeline.benchmarking.compare import median_of

        return median_of(self.whole, self.work.settings, self.work.on_progress)

    def speedup(self, counts: RemovedUnits) -> float:
        """Of a trial over the whole network, from pairs."""
        path, _ = self.export(counts)
        try:
            return self.compare(self.whole, path).comparison.speedup.estimate
        finally:
            path.unlink()

    def losses(self, several: Sequence[RemovedUnits]) -> list[float]:
        """What each of these networks loses on the samples."""
        asked = [dict(counts) for counts in several]
        found: list[float] = self.work.child("judge", group_specs=self.group_specs, several=asked)["losses"]
        return found

    def compare(self, old: Path, new: Path) -> CompareResult:
        """Of both on this machine, in pairs."""
        from edgeport.pipeline.benchmarking.compare import compare_artifacts

        return compare_artifacts(old, new, self.work.settings, on_progress=self.work.on_progress)


def search_counts(  # noqa: PLR0913 (what is measured, and who is asked for what)
    step: PruneStep,
    seen: Mapping[str, Any],
    *,
    whole_ns: Callable[[], float],
    speedup: Callable[[RemovedUnits], float],
    again: Callable[[RemovedUnits], float],
    losses: Losses,
    on_trial: Callable[[int], None],
) -> tuple[Budgeted, Costs]:
    """How many units of each group go so that the step's latency is met.

    Args:
        step: With a latency or a speedup.
        seen: What `look_in_child` gave.
        whole_ns: Measures the whole network.
        speedup: Measures another one against it; pairs are disturbed less by neighbours than latencies.
        again: As `speedup`, measured anew, of what met the goal.
        losses: What networks lose on the samples.
        on_trial: Told the number of each that is measured next.

    """
    group_specs = [load_json(GroupSpec, json.dumps(one)) for one in seen["group_specs"]]
    costs = load_json(Costs, json.dumps(seen["costs"]))
    measured: list[float] = []

    def measure(counts: RemovedUnits) -> float:
        on_trial(len(measured))
        measured.append(measured[0] / speedup(counts) if measured else whole_ns())
        return measured[-1]

    found = prune_to_latency(
        group_specs,
        costs,
        measure,
        confirm=lambda counts: measured[0] / again(counts),
        losses=losses,
        latency_ns=step.latency_ns,
        speedup=step.speedup,
        round_to=step.round_to,
        least=step.least,
    )
    return found, costs


def measured_by(settings: BenchSettings) -> dict[str, Any]:
    """What a search measures with, for the key of what it found."""
    return {"backend": settings.backend, "threads": settings.threads, "rounds": settings.rounds}


@dataclass(frozen=True, kw_only=True)
class _Searched:
    """What a search found, kept for a training that may be stopped: another search would find another network."""

    seen: Mapping[str, Any]
    found: Budgeted

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, json.dumps(to_jsonable(self)))


def _to_latency(work: PruneWork, step: PruneStep, output: Path, kept: Path) -> PruneReport:
    searched = load_json(_Searched, kept.read_bytes()) if kept.exists() else _search(work, step)
    if step.training is not None:
        searched.write(kept)
    found, costs = searched.found, load_json(Costs, json.dumps(searched.seen["costs"]))
    bench = PruneBench(work, searched.seen["group_specs"])
    path, result = bench.export(found.counts, output=str(output.resolve()), fine_tuned=True)
    return judge_final(bench, found, costs, path, _report(step, output, result))


def _search(work: PruneWork, step: PruneStep) -> _Searched:
    seen = work.child("look")
    bench = PruneBench(work, seen["group_specs"])

    def tell(done: int) -> None:
        work.on_progress(ProgressEvent(stage="measure", message="a pruned network", done=done, total=MOST_TRIALS))

    found, _ = search_counts(
        step,
        seen,
        whole_ns=bench.whole_ns,
        speedup=bench.speedup,
        again=bench.speedup,
        losses=bench.losses,
        on_trial=tell,
    )
    return _Searched(seen=seen, found=found)


def judge_final(bench: PruneBench, found: Budgeted, costs: Costs, path: Path, report: PruneReport) -> PruneReport:
    """The report with a fresh comparison, which the goal is held to; what is not surely faster is not kept.

    Args:
        bench: That compares.
        found: By the search.
        costs: What layers cost.
        path: ONNX file of what came out, trained where that was asked.
        report: Of what is written.

    """
    whole = costs.macs({})
    report = replace(
        report,
        latency_ns=(found.before_ns, found.latency_ns),
        goal_ns=found.goal_ns,
        trials=tuple(
            MeasuredTrial(latency_ns=one.latency_ns, predicted_ns=one.predicted_ns, left=costs.macs(one.counts) / whole)
            for one in found.trials
        ),
    )
    if not any(found.counts.values()):
        if found.reached:
            return replace(report, reason="it is as fast already: nothing was removed")
        return replace(report, outcome=Outcome.FAIL, reason="no network that was measured is faster")
    compared = bench.compare(bench.whole, path)
    speedup = compared.comparison.speedup
    latency = found.before_ns / speedup.estimate
    report = replace(report, speedup=speedup, latency_ns=(found.before_ns, latency))
    if compared.comparison.change not in (Change.FASTER, Change.IMPROVED):
        _, result = bench.export({}, output=str(report.file.resolve()))
        kept = _report(report.step, report.file, result)
        return replace(
            kept,
            latency_ns=(found.before_ns, found.before_ns),
            goal_ns=report.goal_ns,
            speedup=speedup,
            trials=report.trials,
            outcome=Outcome.FAIL,
            reason="what was pruned is not surely faster: the model is written as it was",
        )
    if not found.reached:
        return replace(
            report, outcome=Outcome.FAIL, reason="the latency was not reached; this is the fastest that was found"
        )
    if latency > found.goal_ns:
        return replace(
            report,
            outcome=Outcome.FAIL,
            reason=f"measured in the end, it takes {latency / found.goal_ns:.3f} of the latency that was asked; "
            "ask for somewhat less",
        )
    return report


def _report(step: PruneStep, output: Path, found: Mapping[str, Any]) -> PruneReport:
    return PruneReport(
        file=output,
        step=step,
        weights=(int(found["weights"][0]), int(found["weights"][1])),
        macs=(float(found["macs"][0]), float(found["macs"][1])),
        size_bytes=output.stat().st_size,
        zeros=float(found["zeros"]),
        removed={name: (int(gone), int(units)) for name, (gone, units) in found["removed"].items()},
        blocks=tuple(found["blocks"]),
        left=dict(found["left"]),
        trained=tuple(load_json(TrainedStep, json.dumps(one)) for one in found["trained"]),
    )


def course_of(folder: Path, output: Path) -> Path:
    """The numbers of all trainings beside the output, a JSON object per line, each with the step that it followed.

    Args:
        folder: With a folder `step-N` for each.
        output: The pruned file; `NAME.metrics.jsonl` and `NAME.tensorboard/step-N` come beside it.

    """
    log, curves = course_places(output)
    remove_curves(curves)
    folders = sorted(folder.glob("step-*"), key=lambda one: int(one.name.removeprefix("step-")))
    lines = [
        json.dumps({"after": int(one.name.removeprefix("step-")), **json.loads(line)})
        for one in folders
        for line in (one / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    log.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for one in folders:
        copy_curves(one, curves / one.name)
    return log


def forget_course(output: Path) -> None:
    """Takes away the course of a training whose weights are written over by such that nobody trained."""
    log, curves = course_places(output)
    log.unlink(missing_ok=True)
    remove_curves(curves)
