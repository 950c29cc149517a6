"""Quantization-aware training with the plan of a target: as a step of a recipe, and as a command.

The command, `edgeport qat`, trains for one target of a recipe, and judges and times the result beside the floats. Its
output folder gets, once all of it is known:

    model.onnx       the float model with the learned weights
    plan.json        what quantizes it to what was trained
    best/            its artifact, as `edgeport quantize` writes one
    metrics.jsonl    the course of the training; tensorboard/ too, where that is installed
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.contracts import (
    AccuracyResult,
    Candidate,
    Comparison,
    Limits,
    ModelSource,
    OnnxModel,
    OnProgress,
    Precision,
    QatStep,
    TrainedStep,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.contracts.recipe import Recipe, Target
from edgeport.errors import AlreadyQuantizedError, UsageError
from edgeport.exporter.qat.options import QatOptions, QatResult
from edgeport.exporter.train.settings import TrainingSettings
from edgeport.npz import load_npz
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.benchmarking.screening import confirm_beside_floats
from edgeport.pipeline.build_inputs import Shared, share
from edgeport.pipeline.compilation.candidates import list_candidates
from edgeport.pipeline.compilation.compile import build_candidates, build_planned
from edgeport.pipeline.compression.reports import QatReport
from edgeport.pipeline.compression.step import (
    StepContext,
    StepResult,
    TrainedCandidate,
    require_batches,
    source_key,
)
from edgeport.pipeline.compression.workbench import TRAINING_LOGS, Workbench
from edgeport.pipeline.datasets.calibration_samples import learning_payload
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.datasets.sources import location_named
from edgeport.pipeline.engine.context import RunContext, require_local, run_context
from edgeport.pipeline.engine.fingerprints import digest_of_function, source_files, tool_versions
from edgeport.pipeline.evaluation.evaluate import Validated, validate_candidates
from edgeport.pipeline.output.artifact_folder import artifact_draft, write_artifact_record
from edgeport.pipeline.output.training_logs import CURVES, METRICS, copy_curves
from edgeport.pipeline.quantization.calibration import calibrate_model
from edgeport.pipeline.quantization.range_search import method_for
from edgeport.pipeline.selection.select import Decision, decide
from edgeport.pipeline.source_model.export import export_options
from edgeport.report.step_summary import trained_text

__all__ = [
    "BOUND",
    "QatRequest",
    "difference_from",
    "difference_note",
    "qat_recipe",
    "train_in_run",
    "train_plan",
]

BOUND = 0.02
"""Root mean square of what the runtime's outputs usually differ from the trained PyTorch model's by at most, over that
of the outputs. Sums in another order now and then move a value by a step, which deep networks amplify; ONNX Runtime
with its optimizations differs from itself without them by as much."""

_FILES = ("plan.json", METRICS)
_WORKER = "edgeport.pipeline.compression.qat_worker:learn_in_child"


def qat_recipe(  # noqa: PLR0913 (those of the API)
    recipe: Recipe,
    *,
    output: Path,
    backend: str = "",
    precision: Precision = Precision.INT8,
    samples: Path | str | None = None,
    options: QatOptions = QatOptions(),  # noqa: B008 (frozen)
    device: str = "auto",
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
) -> QatReport:
    """See `edgeport.api.qat`."""
    require_local(recipe)
    target = _target(recipe, backend, precision)
    data = recipe.data
    if samples is not None:
        data = replace(data, calibration=location_named(samples), training=None)
    elif data.calibration is None:
        data = replace(data, calibration=data.training)
    budget = replace(recipe.target_budgets.get(target.name, recipe.budget), throughput_per_s=None)
    # Constants that recovery changes are not the module's, which is what is trained.
    search = replace(recipe.search, recovery=())
    alone = replace(recipe, targets=(target,), data=data, budget=budget, target_budgets={}, search=search)
    _require_trainable(alone)
    with (
        _replacing(output) as draft,
        run_context(alone, store=store, on_progress=on_progress, limits=limits, fresh=fresh) as context,
    ):
        report = _Work(context=context, target=target, options=options, device=device, fresh=fresh).report(draft)
    return replace(report, folder=output)


@contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of what an earlier training left there."""
    ours = output.is_dir() and not output.is_symlink() and all((output / name).is_file() for name in _FILES)
    with artifact_draft(output, overwrite=ours) as draft:
        yield draft


def _target(recipe: Recipe, backend: str, precision: Precision) -> Target:
    """The first target of that backend, with this precision alone."""
    found = [target for target in recipe.targets if backend in ("", target.backend)]
    asked = f"train for {backend or 'a target'} in {precision}"
    if not found:
        known = ", ".join(dict.fromkeys(target.backend for target in recipe.targets))
        raise UsageError(asked=asked, found=f"targets {known}", fix="name one of them, or add it to the recipe")
    if not precision.has_fixed_integers:
        raise UsageError(
            asked=asked,
            found="a precision without fixed integers",
            fix="take int8, int8-weights, or int4-weights-32 and its like",
        )
    return replace(found[0], name="", precisions=(precision,), tune_s=None)


def _require_trainable(recipe: Recipe) -> None:
    asked = f"train {recipe.name} with a plan's rounding"
    if recipe.source.location.endswith((".onnx", ".pt2")):
        raise UsageError(
            asked=asked,
            found=f"a {Path(recipe.source.location).suffix} file, whose graph is fixed",
            fix="give the PyTorch model: [model] source = pkg.mod:factory, with its weights",
        )
    if recipe.state:
        raise UsageError(
            asked=asked, found="a model with a state, whose steps follow each other", fix="quantize it without training"
        )
    if Preparation.of(recipe).folded:
        raise UsageError(
            asked=asked,
            found="preprocessing that is folded into the graph",
            fix="train without fold = true; fold it in when the result is exported",
        )
    if recipe.data.learned_from is None:
        raise UsageError(
            asked=asked,
            found="no samples to learn from",
            fix="name them (--samples train.npz), or give [data] training or calibration",
        )


@dataclass(frozen=True, kw_only=True)
class QatRequest:
    """What is trained, and how.

    Attributes:
        target: With the one precision of the plan.
        options: How.
        device: That trains.
        fresh: What an earlier training left is forgotten.
        teacher: Whose outputs are learned from beside the labels; None for those of the float model itself.

    """

    target: Target
    options: QatOptions
    device: str
    fresh: bool = False
    teacher: ModelSource | None = None


@dataclass(frozen=True, kw_only=True)
class _TrainedPlan:
    """A training in the store; `folder` is as `learn_in_child` leaves it."""

    folder: Path
    result: QatResult
    model: OnnxModel

    @property
    def training_logs(self) -> Path:
        return self.folder / TRAINING_LOGS / "training"


def train_plan(context: RunContext, shared: Shared, request: QatRequest) -> _TrainedPlan:
    """What a training left in the store; a killed one goes on.

    Args:
        context: Of the run; its recipe names the model that learns.
        shared: Of that model; its calibration is of its very export.
        request: What is trained.

    """
    recipe, prepared, target = context.recipe, shared.prepared, request.target
    capabilities = shared.capabilities[target.backend]
    asked: dict[str, Any] = {
        "backend": target.backend,
        "precision": target.precisions[0],
        "mix": to_jsonable(target.mix),
        "method": method_for(shared.methods, capabilities, recipe.search.calibration_method),
        "options": to_jsonable(request.options),
        "export": export_options(context),
        "device": request.device,
    }
    key = {
        **asked,
        "model": prepared.model.digest,
        "source": source_key(recipe.source),
        "calibration": shared.calibration_digest,
        "samples": shared.samples.learned_from[0],
        "target": recipe.data.target,
        "evaluation": shared.samples.fingerprint,
        "rules": to_jsonable(capabilities),
        "loss": digest_of_function(request.options.loss, recipe.search_path),
        "teacher": source_files(request.teacher) if request.teacher is not None else None,
        "versions": tool_versions(),
    }
    payload = {
        **asked,
        **learning_payload(recipe, shared.samples),
        "source": to_jsonable(recipe.source),
        "teacher": to_jsonable(request.teacher) if request.teacher is not None else None,
        "model": to_jsonable(prepared.model),
        "calibration": str(shared.calibration) if shared.calibration is not None else None,
        "search_path": str(recipe.search_path) if recipe.search_path else None,
        "feeds": str(shared.samples.feeds),
    }
    context.clock.step("train", "loading the model and its samples")
    bench = Workbench(
        store=context.store,
        scratch=context.scratch,
        limits=context.limits,
        purpose=f"train {recipe.name}",
        on_progress=context.clock.inside("train"),
        key=key,
        context=context,
    )
    folder, _ = bench.build("qat", _WORKER, lambda: payload, files={"folder": ""}, trains=True, fresh=request.fresh)
    model = open_onnx(folder / "model.onnx")
    result = replace(load_json(QatResult, (folder / "result.json").read_bytes()), model=model)
    return _TrainedPlan(folder=folder, result=result, model=model)


@dataclass(frozen=True, kw_only=True)
class _Work:
    context: RunContext
    target: Target
    options: QatOptions
    device: str
    fresh: bool

    def report(self, draft: Path) -> QatReport:
        context, shared = share(self.context)
        if shared.prepared.quantized:
            raise AlreadyQuantizedError(
                asked=f"train {context.recipe.name} with a plan's rounding",
                found="a model that is quantized already",
                fix="give the float model that it was made from",
            )
        require_batches(shared, f"train {context.recipe.name} in batches of {self.options.training.batch_size}")
        request = QatRequest(target=self.target, options=self.options, device=self.device, fresh=self.fresh)
        plan = train_plan(context, shared, request)
        decision, against, extra = self._beside_floats(context, shared, plan.model, plan.folder)
        trained = self._candidate.name
        artifact = next((one.artifact for one in decision.candidates if one.name == trained), None)
        shutil.copyfile(plan.folder / "plan.json", draft / "plan.json")
        shutil.copyfile(plan.training_logs / METRICS, draft / METRICS)
        copy_curves(plan.training_logs, draft / CURVES)
        for file in plan.folder.glob("model.onnx*"):
            shutil.copyfile(file, draft / file.name)
        if artifact is not None:
            shutil.copytree(artifact.folder, draft / "best" / "artifact")
            write_artifact_record(draft / "best", to_jsonable(artifact), to_jsonable(plan.model))
        return QatReport(
            name=context.recipe.name,
            backend=self.target.backend,
            precision=self.target.precisions[0],
            learned=plan.result,
            difference=extra.difference,
            untrained=extra.untrained,
            candidates=decision.candidates,
            trained=trained,
            chosen=decision.chosen,
            folder=draft,
            outcome=decision.outcome,
            against=against,
            notes=(*shared.notes, *_notes(plan.result, extra.difference)),
        )

    @property
    def _candidate(self) -> Candidate:
        precision = self.target.precisions[0]
        return Candidate(
            name=f"{self.target.backend} {precision} trained",
            backend=self.target.backend,
            precision=precision,
            execution=self.target.execution,
            mix=self.target.mix,
            least_placement=self.target.least_placement,
        )

    def _beside_floats(
        self, context: RunContext, shared: Shared, model: OnnxModel, learned_in: Path
    ) -> tuple[Decision, Mapping[str, Comparison], _Extra]:
        """The trained plan and every float that its runtime has here, in one experiment; the untrained plan judged."""
        samples = shared.samples
        listed = list_candidates(context.recipe.targets, shared.capabilities)
        built = build_candidates(
            context,
            shared.prepared.model,
            shared.capabilities,
            shared.calibration,
            shared.calibration_digest,
            listed=listed,
            methods=shared.methods,
        )
        capabilities = shared.capabilities[self.target.backend]
        trained = build_planned(context, self._candidate, model, learned_in / "plan.json", capabilities)
        validated = validate_candidates(context, [trained, *built], samples, shared.prepared.reference)
        untrained = next((one.candidate.accuracy for one in validated[1:] if not one.candidate.is_float), None)
        extra = _Extra(difference=difference_from(validated[0], learned_in / "outputs.npz"), untrained=untrained)
        shown = [one for one in validated if one.candidate.is_float or one is validated[0]]
        rows, against, confirmation = confirm_beside_floats(context, shown, samples, self._candidate.name)
        return decide(rows, confirmation.against, confirmation.unusable), against, extra


@dataclass(frozen=True, kw_only=True)
class _Extra:
    """What is told of the trained plan beside its row."""

    difference: float | None
    untrained: AccuracyResult | None


def difference_from(trained: Validated, expected: Path) -> float | None:
    """Root mean square of a candidate's outputs less PyTorch's (`.npz`), over that of these; None without any."""
    if trained.outputs is None:
        return None
    found, wanted = load_npz(trained.outputs), load_npz(expected)
    names = [name for name in wanted if name in found and np.issubdtype(wanted[name].dtype, np.floating)]
    error = sum(float(np.square(found[name].astype(np.float64) - wanted[name]).sum()) for name in names)
    whole = sum(float(np.square(wanted[name].astype(np.float64)).sum()) for name in names)
    return float(np.sqrt(error / whole)) if whole else 0.0


def _notes(learned: QatResult, difference: float | None) -> tuple[str, ...]:
    notes = []
    if learned.best_step == 0:
        notes.append("No step made the held-out samples better: the weights are those from before the training.")
    if learned.left_float:
        names = ", ".join(learned.left_float[:3])
        more = f" and {len(learned.left_float) - 3} more" if len(learned.left_float) > 3 else ""
        notes.append(f"Not found in the PyTorch graph, and so in float: {names}{more}.")
    notes += difference_note(difference)
    return tuple(notes)


def difference_note(difference: float | None) -> list[str]:
    """A sentence where a runtime's outputs differ from what was trained by more than is usual; else none."""
    if difference is None or difference <= BOUND:
        return []
    note = (
        f"The runtime's outputs differ from what was trained by {difference:.1%} (root mean square), more than the "
        f"{BOUND:.0%} that is usual: it may compute otherwise than its plan says."
    )
    return [note]


def train_in_run(work: StepContext, step: QatStep) -> StepResult:
    """Trains with the rounding of each target that builds the step's precision, from what the step begins with.

    Targets whose plans are written alike share a training: the store answers the second one.

    Raises:
        PlanError, TrainingError, SamplesError: As `learn_in_child`.

    """
    asked = f"train {work.run.recipe.name} in batches of {step.training.batch_size}"
    require_batches(work.shared, asked)
    context, shared = _untransformed(work)
    options = _options(step, context.recipe.data.output)
    teacher = work.original if work.original != context.recipe.source and step.training.teacher > 0 else None
    candidates, missing = [], []
    for target in context.recipe.targets:
        here = shared.capabilities[target.backend]
        if step.precision not in target.precisions:
            continue
        if context.processor is not None:
            missing.append(f"{target.backend}: a plan for another processor than this machine's is not trained with")
            continue
        if not here.installed or here.rules is None:
            missing.append(f"{target.backend}: {here.reason or 'it takes no plan'}")
            continue
        alone = replace(target, precisions=(step.precision,), tune_s=None)
        request = QatRequest(target=alone, options=options, device=step.device, teacher=teacher)
        candidates.append(_trained_candidate(context, shared, request))
    return StepResult(candidates=tuple(candidates), summary=tuple(missing))


def _untransformed(work: StepContext) -> tuple[RunContext, Shared]:
    """Without recovery: constants that it changed are not the module's, which is what learns."""
    recipe, shared = work.run.recipe, work.shared
    if not recipe.search.recovery:
        return work.run, shared
    context = replace(work.run, recipe=replace(recipe, search=replace(recipe.search, recovery=())))
    calibration = calibrate_model(context, shared.prepared.model, shared.samples, shared.by_device)
    return context, replace(
        shared,
        transformed=shared.prepared.model,
        calibration=calibration.file,
        calibration_digest=calibration.digest,
        methods=calibration.methods,
    )


def _options(step: QatStep, output: str) -> QatOptions:
    training = step.training
    return QatOptions(
        training=TrainingSettings(
            epochs=training.epochs,
            batch_size=training.batch_size,
            precision=training.mixed,
            average=training.average,
            clip_norm=training.clip_norm,
            patience=training.patience,
            seed=training.seed,
        ),
        rate=training.rate,
        loss=training.loss,
        teacher=training.teacher,
        temperature=training.temperature,
        output=training.output or output,
        learn_ranges=step.learn_ranges,
        held_out=training.held_out,
        processes=training.processes,
    )


def _trained_candidate(context: RunContext, shared: Shared, request: QatRequest) -> TrainedCandidate:
    plan, target = train_plan(context, shared, request), request.target
    result = plan.result
    model = replace(shared.prepared.model, path=plan.model.path, digest=plan.model.digest)
    (precision,) = target.precisions
    candidate = Candidate(
        name=f"{target.backend} {precision}{target.mix.label}",
        backend=target.backend,
        precision=precision,
        execution=target.execution,
        mix=target.mix,
    )
    trained = TrainedStep(before=result.before, after=result.after, best_step=result.best_step, steps=result.steps)
    summary = [f"loss: {result.loss}", trained_text(trained)]
    if result.left_float:
        summary.append(f"{len(result.left_float)} nodes were not found in the PyTorch graph and stay in float")
    capabilities = shared.capabilities[target.backend]
    return TrainedCandidate(
        candidate=build_planned(context, candidate, model, plan.folder / "plan.json", capabilities),
        model=model,
        expected=plan.folder / "outputs.npz",
        summary=tuple(summary),
        training_logs=plan.training_logs,
    )
