"""A pruning as a step of a run: kept in the store, and gone on with after a kill; latencies are the target's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import PruneStep, TrainedStep, digest_json, load_json, to_jsonable
from edgeport.exporter.prune.cost_model import Costs, RemovedUnits
from edgeport.exporter.prune.latency_search import MOST_TRIALS
from edgeport.pipeline.compression.prune import PruneBench, PruneWork, search_counts
from edgeport.pipeline.compression.qat import require_batches
from edgeport.pipeline.compression.step import COURSES, Made, StepWork, removed_text, trained_text
from edgeport.pipeline.engine.input_tracking import run_recorded, states_of
from edgeport.pipeline.output.training_logs import copy_courses
from edgeport.pipeline.source_model.export import export_options

if TYPE_CHECKING:
    from edgeport.pipeline.benchmarking.artifact import BenchSettings

__all__ = ["prune_in_run"]

_FILE = "pruned.safetensors"


def prune_in_run(work: StepWork, step: PruneStep) -> Made:
    """Prunes the module that the step begins with, and trains it where that is asked.

    Raises:
        PruningError: Nothing can go, or not so much.
        SamplesError, SourceError, TrainingError: As the training.

    """
    if step.training is not None:
        require_batches(work.shared, f"train {work.context.recipe.name} in batches of {step.training.batch_size}")
        judged = step.training.output or work.context.recipe.data.output
        step = replace(step, training=replace(step.training, output=judged))
    kept = _Kept(work=work, step=step)
    if not step.measured:
        folder, found = kept.child("prune", {"output": _FILE})
        return kept.made(folder, found, ())
    _, seen = kept.child("look", {})
    trials = _Trials(kept=kept, seen=seen)
    budgeted, costs = search_counts(
        step,
        seen,
        whole_ns=trials.whole_ns,
        speedup=trials.speedup,
        again=lambda counts: trials.speedup(counts, again=True),
        losses=trials.losses,
        on_trial=trials.tell,
    )
    said = _measured_text(step, budgeted.latency_ns, budgeted.before_ns, costs, budgeted.counts)
    if not any(budgeted.counts.values()):
        why = "it is as fast already" if budgeted.reached else "no network that was measured is faster"
        return Made(said=(f"nothing was removed: {why} ({budgeted.before_ns / 1e6:.4g} ms)",))
    folder, found = kept.child(
        "take",
        {"output": _FILE, "onnx": "model.onnx"},
        group_specs=seen["group_specs"],
        counts=dict(budgeted.counts),
        fine_tuned=True,
    )
    missed = () if budgeted.reached else ("the latency was not reached; this is the fastest that was found",)
    return kept.made(folder, found, (said, *missed))


def _measured_text(step: PruneStep, after_ns: float, before_ns: float, costs: Costs, counts: RemovedUnits) -> str:
    share = costs.macs(counts) / costs.macs({})
    goal = f"asked were {step.latency_ns / 1e6:.4g} ms" if step.latency_ns is not None else f"asked was {step.speedup}x"
    return (
        f"measured on the target {before_ns / 1e6:.4g} ms to {after_ns / 1e6:.4g} ms, {before_ns / after_ns:.3g}x "
        f"({goal}), with {share:.1%} of the multiplications"
    )


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """The children of a pruning, each answered by the store where it was done before."""

    work: StepWork
    step: PruneStep

    def payload(self) -> dict[str, Any]:
        """What every child is told, but the samples, which are written when one is needed."""
        context = self.work.context
        return {
            "source": to_jsonable(context.recipe.source),
            "teacher": to_jsonable(self.work.original),
            "step": to_jsonable(self.step),
            "options": export_options(context),
        }

    def child(self, what: str, files: Mapping[str, str], **more: object) -> tuple[Path, dict[str, Any]]:
        """The folder with what `<what>_in_child` wrote, and what it answered.

        Args:
            what: Of `edgeport.exporter.prune.worker`.
            files: Of its payload, to the name of the file that it writes there.
            more: Of its payload.

        """
        from edgeport.code_version import code_version

        context = self.work.context
        key = {**self.work.key(self.step), "backends": [], "what": what, "more": more}
        training = context.store.root / "training" / digest_json([key, code_version()])

        def build(folder: Path) -> dict[str, str]:
            place = str(self.work.samples.place())
            payload = {
                **self.payload(),
                **more,
                **{name: str(folder / file) for name, file in files.items()},
                "samples": place,
                "training": place,
                "work": str(training),
            }
            limits = context.limits.for_training() if self.step.trains and files else context.limits
            found, rests_on = run_recorded(
                replace(context, limits=limits),
                f"edgeport.exporter.prune.worker:{what}_in_child",
                payload,
                asked=f"{self.step.said} of {context.recipe.name}",
                on_progress=context.clock.inside(self.work.stage),
            )
            for extra in folder.glob("*.onnx*"):  # exported anew, as every model of a run
                extra.unlink()
            (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
            copy_courses(training, folder / COURSES)
            shutil.rmtree(training, ignore_errors=True)
            return rests_on

        folder = context.store.get_or_build_watched("prune", key, build, states_of)
        return folder, json.loads((folder / "found.json").read_text(encoding="utf-8"))

    def made(self, folder: Path, found: Mapping[str, Any], measured: tuple[str, ...]) -> Made:
        """The source with these weights."""
        source = replace(self.work.context.recipe.source, weights=folder / _FILE)
        trained = [load_json(TrainedStep, json.dumps(one)) for one in found["trained"]]
        said = (removed_text(found), *measured, *map(trained_text, trained))
        return Made(source=source, said=said, courses=folder / COURSES)


class _Trials:
    """Networks that are measured on the target; a number that is known is not measured again."""

    def __init__(self, *, kept: _Kept, seen: Mapping[str, Any]) -> None:
        self._kept, self._seen = kept, seen
        self._bench: PruneBench | None = None

    def tell(self, done: int) -> None:
        """Progress."""
        work = self._kept.work
        work.context.clock.step(work.stage, "measuring a pruned network", done=done, total=MOST_TRIALS)

    def whole_ns(self) -> float:
        """Median of the network as it is."""
        return self._known({}, lambda bench: bench.whole_ns())

    def speedup(self, counts: RemovedUnits, *, again: bool = False) -> float:
        """Of the network without these units over that; measured anew where it was measured before."""
        return self._known(counts, lambda bench: bench.speedup(counts), again=again)

    def losses(self, several: Sequence[RemovedUnits]) -> list[float]:
        """What each of these networks loses on the samples."""
        asked = [dict(counts) for counts in several]
        _, found = self._kept.child("judge", {}, group_specs=self._seen["group_specs"], several=asked)
        losses: list[float] = found["losses"]
        return losses

    def _known(self, counts: RemovedUnits, measure: Any, *, again: bool = False) -> float:
        work, settings = self._kept.work, self._kept.work.bench
        key = {
            **work.key(self._kept.step),
            "backends": [],
            "counts": dict(counts),
            "measured": [settings.backend, settings.threads, settings.rounds, settings.duration_s],
            "device": work.context.facts.digest,
            "again": again,
        }
        return float(work.context.store.get_or_build_json("prune-trial", key, lambda: measure(self._opened(settings))))

    def _opened(self, settings: BenchSettings) -> PruneBench:
        if self._bench is None:
            work, place = self._kept.work, str(self._kept.work.samples.place())
            folder = work.context.scratch / work.stage
            folder.mkdir()
            pruning = PruneWork(
                payload={**self._kept.payload(), "samples": place, "training": place},
                folder=folder,
                settings=settings,
                on_progress=lambda _: None,
                limits=work.context.limits,
            )
            self._bench = PruneBench(pruning, self._seen["group_specs"])
        return self._bench
