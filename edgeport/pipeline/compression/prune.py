"""Prunes a PyTorch model in children; where a latency decides, what it takes on the target is measured.

`Pruner` does it, with a workbench of a command (`prune_source`) or of a step of a recipe (`prune_in_run`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.contracts import (
    Change,
    Limits,
    ModelSource,
    OnProgress,
    Outcome,
    ProgressEvent,
    PruneStep,
    TrainedStep,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.errors import SamplesError, UsageError
from edgeport.exporter.prune.cost_model import Costs, GroupSpec, RemovedUnits
from edgeport.exporter.prune.latency_search import MOST_TRIALS, Budgeted, Losses, prune_to_latency
from edgeport.exporter.prune.samples import JUDGED
from edgeport.exporter.prune.steps import check_step
from edgeport.npz import save_npz
from edgeport.pipeline.benchmarking.artifact import BenchSettings
from edgeport.pipeline.compression.reports import MeasuredTrial, PruneReport
from edgeport.pipeline.compression.step import StepContext, StepResult, require_batches
from edgeport.pipeline.compression.workbench import (
    TRAINING_LOGS,
    Workbench,
    command_workbench,
    measurement_key,
    publish,
)
from edgeport.pipeline.datasets.raw_files import read_samples
from edgeport.pipeline.engine.fingerprints import training_digest
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.output.training_logs import merge_training_logs, remove_training_log, require_log_places
from edgeport.pipeline.source_model.export import export_options
from edgeport.report.step_summary import latency_text, pruned_text, trained_text

__all__ = ["Pruner", "judge_final", "prune_in_run", "prune_source", "search_counts"]

_SUFFIXES = (".safetensors", ".pt2")
_FEWEST_SAMPLES = 2


@dataclass(frozen=True, kw_only=True)
class Pruner:
    """Prunes a model, and measures networks with fewer units on the way to a latency.

    Attributes:
        bench: Where it works.
        step: What is asked.
        payload: Gives what every child is told; called only where one is needed.
        trial_progress: Told of the events of children and measurements for networks that are tried.
        file: Name of what is left.

    """

    bench: Workbench
    step: PruneStep
    payload: Callable[[], Mapping[str, object]]
    trial_progress: OnProgress
    file: str = "pruned.safetensors"

    def prune(self) -> tuple[Path, dict[str, Any]]:
        """The folder with the pruned model, and what the child did; for a step that says how much goes."""
        return self._child("prune", {}, files={"output": self.file}, trains=True)

    def take(
        self, counts: RemovedUnits, *, onnx: Path | str = "model.onnx", fine_tuned: bool = True
    ) -> tuple[Path, dict[str, Any]]:
        """As `prune`, without so many units of each group.

        Args:
            counts: Group to units.
            onnx: The float model, in the folder or elsewhere.
            fine_tuned: The step's training is done too.

        """
        more = {**self._groups, "counts": dict(counts), "fine_tuned": fine_tuned}
        return self._child("take", more, files={"output": self.file, "onnx": str(onnx)}, trains=fine_tuned)

    def search(self, on_trial: Callable[[int], None]) -> tuple[Budgeted, Costs]:
        """How many units of each group go so that the latency is met; what was measured is not measured again."""

        def known(counts: RemovedUnits, measure: Callable[[], float], *, again: bool = False) -> float:
            return self.bench.measure("prune-trial", {"counts": dict(counts), "again": again}, measure)

        return search_counts(
            self.step,
            self._seen,
            whole_ns=lambda: known({}, self.whole_ns),
            speedup=lambda counts: known(counts, partial(self.speedup, counts)),
            again=lambda counts: known(counts, partial(self.speedup, counts), again=True),
            losses=self._losses,
            on_trial=on_trial,
        )

    def whole_ns(self) -> float:
        """Median of the whole network."""
        return self._trials.median_ns(self.whole)

    def speedup(self, counts: RemovedUnits) -> float:
        """Of a network without these units over the whole one, from pairs."""
        path = self._export(counts, "trial.onnx")
        try:
            return self._trials.compare(self.whole, path).comparison.speedup.estimate
        finally:
            path.unlink()

    @cached_property
    def whole(self) -> Path:
        """An ONNX file of the whole network."""
        return self._export({}, "whole.onnx")

    def _losses(self, several: Sequence[RemovedUnits]) -> list[float]:
        networks = [dict(counts) for counts in several]
        losses: list[float] = self._child("judge", {**self._groups, "several": networks})[1]["losses"]
        return losses

    def _export(self, counts: RemovedUnits, name: str) -> Path:
        path = self.bench.scratch / name
        payload = {**self.payload(), **self._groups, "counts": dict(counts), "output": "", "onnx": str(path)}
        self._trials.run(_worker("take"), payload)
        return path

    def _child(
        self,
        what: str,
        more: Mapping[str, object],
        *,
        files: Mapping[str, str] | None = None,
        trains: bool = False,
    ) -> tuple[Path, dict[str, Any]]:
        return self.bench.build(
            "prune",
            _worker(what),
            lambda: {**self.payload(), **more},
            key={"what": what, "more": more},
            files=files,
            trains=trains and self.step.trains,
        )

    @property
    def _trials(self) -> Workbench:
        return replace(self.bench, on_progress=self.trial_progress)

    @property
    def _groups(self) -> dict[str, object]:
        return {"group_specs": self._seen["group_specs"]}

    @cached_property
    def _seen(self) -> dict[str, Any]:
        return self._child("look", {})[1]


def _worker(what: str) -> str:
    return f"edgeport.exporter.prune.worker:{what}_in_child"


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

    budgeted = prune_to_latency(
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
    return budgeted, costs


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
    _require_prunable(source, step, output)
    given = read_samples(samples, target, count=(1 + JUDGED if step.measured else 1) * step.samples)
    if len(next(iter(given.feeds.values()))) < _FEWEST_SAMPLES:
        raise SamplesError(
            asked=f"prune {source.location} by {samples.name}",
            found="one sample, which does not tell which axes count samples",
            fix="give two or more; hundreds for criteria that look at what runs through the network",
        )
    digest = None
    if step.training is not None:
        options = {"measured": measurement_key(settings)} if step.measured else {}
        digest = training_digest(source, samples, target, step, options)
    with command_workbench(
        digest,
        purpose=f"prune {source.location}, and train it",
        store=store,
        limits=limits,
        on_progress=on_progress,
        fresh=fresh,
        settings=settings,
    ) as bench:
        labels = {target: np.asarray(given.target)} if given.target is not None else {}
        save_npz(bench.scratch / "samples.npz", {**given.feeds, **labels})
        payload = {
            "source": to_jsonable(source),
            "step": to_jsonable(step),
            "samples": str(bench.scratch / "samples.npz"),
            "target": target,
            "training": str(samples.resolve()),
        }
        file = f"pruned{output.suffix}"
        named = replace(bench, purpose=f"prune {source.location}")
        pruner = Pruner(bench=named, step=step, payload=lambda: payload, trial_progress=on_progress, file=file)
        return _pruned_for(pruner, output)


def _require_prunable(source: ModelSource, step: PruneStep, output: Path) -> None:
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
    require_log_places(output)


def _pruned_for(pruner: Pruner, output: Path) -> PruneReport:
    """Prunes as the step asks, and writes what is left and its trainings' log."""
    step, on_progress = pruner.step, pruner.bench.on_progress

    def tell(done: int) -> None:
        on_progress(ProgressEvent(stage="measure", message="a pruned network", done=done, total=MOST_TRIALS))

    if step.measured:
        budgeted, costs = pruner.search(tell)
        folder, response = pruner.take(budgeted.counts)
        publish(folder / pruner.file, output)
        report = _report(step, output, response)
        report = judge_final(pruner, budgeted, costs, folder / "model.onnx", report)
    else:
        folder, response = pruner.prune()
        publish(folder / pruner.file, output)
        report = _report(step, output, response)
    if step.training is None:
        remove_training_log(output)
        return report
    return replace(report, log=merge_training_logs(folder / TRAINING_LOGS, output))


def judge_final(pruner: Pruner, budgeted: Budgeted, costs: Costs, onnx: Path, report: PruneReport) -> PruneReport:
    """The report with a fresh comparison, which the goal is held to; what is not surely faster is not kept.

    Args:
        pruner: That compares.
        budgeted: By the search.
        costs: What layers cost.
        onnx: What came out, trained where that was asked.
        report: Of what is written.

    """
    before_ns, whole = budgeted.before_ns, costs.macs({})
    trials = tuple(
        MeasuredTrial(latency_ns=one.latency_ns, predicted_ns=one.predicted_ns, left=costs.macs(one.counts) / whole)
        for one in budgeted.trials
    )
    report = replace(report, latency_ns=(before_ns, budgeted.latency_ns), goal_ns=budgeted.goal_ns, trials=trials)
    if not any(budgeted.counts.values()):
        if budgeted.reached:
            return replace(report, reason="it is as fast already: nothing was removed")
        return replace(report, outcome=Outcome.FAIL, reason="no network that was measured is faster")
    comparison = pruner.bench.compare(pruner.whole, onnx).comparison
    latency_ns = before_ns / comparison.speedup.estimate
    reason = ""
    if comparison.change not in (Change.FASTER, Change.IMPROVED):
        folder, response = pruner.take({}, fine_tuned=False)
        publish(folder / pruner.file, report.file)
        report = replace(_report(report.step, report.file, response), goal_ns=budgeted.goal_ns, trials=trials)
        latency_ns = before_ns
        reason = "what was pruned is not surely faster: the model is written as it was"
    elif not budgeted.reached:
        reason = "the latency was not reached; this is the fastest that was found"
    elif latency_ns > budgeted.goal_ns:
        share = latency_ns / budgeted.goal_ns
        reason = f"measured in the end, it takes {share:.3f} of the latency that was asked; ask for somewhat less"
    return replace(
        report,
        latency_ns=(before_ns, latency_ns),
        speedup=comparison.speedup,
        outcome=Outcome.FAIL if reason else Outcome.PASS,
        reason=reason,
    )


def _report(step: PruneStep, output: Path, response: Mapping[str, Any]) -> PruneReport:
    return PruneReport(
        file=output,
        step=step,
        weights=(int(response["weights"][0]), int(response["weights"][1])),
        macs=(float(response["macs"][0]), float(response["macs"][1])),
        size_bytes=output.stat().st_size,
        zeros=float(response["zeros"]),
        removed={name: (int(gone), int(units)) for name, (gone, units) in response["removed"].items()},
        blocks=tuple(response["blocks"]),
        left=dict(response["left"]),
        trained=_trained(response),
    )


def _trained(response: Mapping[str, Any]) -> tuple[TrainedStep, ...]:
    return tuple(load_json(TrainedStep, json.dumps(one)) for one in response["trained"])


def prune_in_run(context: StepContext, step: PruneStep) -> StepResult:
    """Prunes the module that the step begins with, and trains it where that is asked.

    Raises:
        PruningError: Nothing can go, or not so much.
        SamplesError, SourceError, TrainingError: As the training.

    """
    recipe = context.run.recipe
    if step.training is not None:
        require_batches(context.shared, f"train {recipe.name} in batches of {step.training.batch_size}")
        step = replace(step, training=replace(step.training, output=step.training.output or recipe.data.output))

    def payload() -> dict[str, object]:
        place = str(context.samples.place())
        return {
            "source": to_jsonable(recipe.source),
            "teacher": to_jsonable(context.original),
            "step": to_jsonable(step),
            "options": export_options(context.run),
            "samples": place,
            "training": place,
        }

    pruner = Pruner(bench=context.workbench(step), step=step, payload=payload, trial_progress=silent)
    if not step.measured:
        return _step_result(recipe.source, pruner, *pruner.prune())
    clock, stage = context.run.clock, context.stage
    budgeted, costs = pruner.search(
        lambda done: clock.step(stage, "measuring a pruned network", done=done, total=MOST_TRIALS)
    )
    if not any(budgeted.counts.values()):
        why = "it is as fast already" if budgeted.reached else "no network that was measured is faster"
        return StepResult(summary=(f"nothing was removed: {why} ({budgeted.before_ns / 1e6:.4g} ms)",))
    missed = () if budgeted.reached else ("the latency was not reached; this is the fastest that was found",)
    taken = pruner.take(budgeted.counts, onnx=pruner.bench.scratch / "model.onnx")
    return _step_result(recipe.source, pruner, *taken, latency_text(step, budgeted, costs), *missed)


def _step_result(
    source: ModelSource, pruner: Pruner, folder: Path, response: Mapping[str, Any], *measured: str
) -> StepResult:
    return StepResult(
        source=replace(source, weights=folder / pruner.file),
        summary=(pruned_text(response), *measured, *map(trained_text, _trained(response))),
        training_logs=folder / TRAINING_LOGS,
    )
