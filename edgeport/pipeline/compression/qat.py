"""`edgeport qat`: quantization-aware training for one target of a recipe, judged and timed beside the floats.

What is written to the output folder, once all of it is known:

    model.onnx       the float model with the learned weights
    plan.json        what quantizes it to what was trained
    best/            its artifact, as `edgeport quantize` writes one
    metrics.jsonl    the course of the training; tensorboard/ too, where that is installed
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
    Outcome,
    Precision,
    digest_json,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.contracts.recipe import Recipe, Target
from edgeport.errors import AlreadyQuantizedError, SamplesError, UsageError
from edgeport.exporter.qat.options import QatOptions, QatResult
from edgeport.npz import load_npz
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.benchmarking.screening import confirm_beside_floats
from edgeport.pipeline.build_inputs import Shared, share
from edgeport.pipeline.compilation.candidates import list_candidates
from edgeport.pipeline.compilation.compile import build_candidates, build_planned
from edgeport.pipeline.datasets.calibration_samples import learning_payload
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.datasets.sources import location_named
from edgeport.pipeline.engine.context import RunContext, require_local, run_context
from edgeport.pipeline.engine.fingerprints import digest_of_function, source_files, tool_versions
from edgeport.pipeline.engine.input_tracking import run_recorded, states_of
from edgeport.pipeline.evaluation.evaluate import Validated, validate_candidates
from edgeport.pipeline.output.artifact_folder import artifact_draft, write_artifact_record
from edgeport.pipeline.output.training_logs import CURVES, copy_curves
from edgeport.pipeline.quantization.range_search import method_for
from edgeport.pipeline.selection.select import Decision, decide
from edgeport.pipeline.source_model.export import export_options

__all__ = [
    "BOUND",
    "Learning",
    "QatReport",
    "difference_from",
    "difference_note",
    "learned_plan",
    "qat_recipe",
    "require_batches",
]

BOUND = 0.02
"""Root mean square of what the runtime's outputs usually differ from the trained PyTorch model's by at most, over that
of the outputs. Sums in another order now and then move a value by a step, which deep networks amplify; ONNX Runtime
with its optimizations differs from itself without them by as much."""

_FILES = ("plan.json", "metrics.jsonl")


@dataclass(frozen=True, kw_only=True)
class QatReport:
    """What training with a plan's rounding brought.

    Attributes:
        name: Of the model.
        backend: Of the target.
        precision: Of the plan.
        learned: The training itself.
        difference: Root mean square of the runtime's outputs less PyTorch's with the same rounding, over that of the
            outputs, on the evaluation set; None where it was not run.
        untrained: Accuracy of the plan without training; None where it was not run.
        candidates: The trained plan and the floats of its runtime, measured side by side; the chosen first.
        trained: Name of the trained one.
        chosen: Name of the one that should ship; empty where none may.
        against: Latency against each float.
        folder: The output folder.
        outcome: PASS where something may ship, the float too.
        notes: What a reader must know, one sentence each.

    """

    name: str
    backend: str
    precision: Precision
    learned: QatResult
    difference: float | None
    untrained: AccuracyResult | None
    candidates: tuple[Candidate, ...]
    trained: str
    chosen: str
    folder: Path
    outcome: Outcome
    against: Mapping[str, Comparison] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    schema_version: int = 1


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


def require_batches(shared: Shared, asked: str) -> None:
    """Makes sure that any samples can be trained on together.

    Raises:
        SamplesError: A fixed batch, or samples of several shapes.

    """
    if shared.prepared.model.fixed_batch is not None or shared.samples.is_ragged:
        raise SamplesError(
            asked=asked,
            found="a model with a fixed batch" if shared.prepared.model.fixed_batch else "samples of several shapes",
            fix="export it with a free batch (dynamic_batch = true), and give samples of one shape",
        )


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What is learned.

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


def learned_plan(context: RunContext, shared: Shared, wanted: Learning) -> Path:
    """The folder that a training left in the store, with what `learn_in_child` writes; a killed one goes on.

    Args:
        context: Of the run; its recipe names the model that learns.
        shared: Of that model; its calibration is of its very export.
        wanted: What is learned.

    """
    recipe, prepared = context.recipe, shared.prepared
    asked: dict[str, Any] = {
        "backend": wanted.target.backend,
        "precision": wanted.target.precisions[0],
        "mix": to_jsonable(wanted.target.mix),
        "method": method_for(
            shared.methods, shared.capabilities[wanted.target.backend], recipe.search.calibration_method
        ),
        "options": to_jsonable(wanted.options),
        "export": export_options(context),
        "device": wanted.device,
    }
    key = {
        **asked,
        "model": prepared.model.digest,
        "source": to_jsonable(recipe.source) | {"weights": "", **source_files(recipe.source)},
        "calibration": shared.calibration_digest,
        "samples": shared.samples.learned_from[0],
        "target": recipe.data.target,
        "evaluation": shared.samples.fingerprint,
        "rules": to_jsonable(shared.capabilities[wanted.target.backend]),
        "loss": digest_of_function(wanted.options.loss, recipe.search_path),
        "teacher": source_files(wanted.teacher) if wanted.teacher is not None else None,
        "versions": tool_versions(),
    }
    context.clock.step("train", "loading the model and its samples")

    def build(folder: Path) -> dict[str, str]:
        from edgeport.code_version import code_version

        work = context.store.root / "training" / digest_json([key, code_version()])
        if wanted.fresh:
            shutil.rmtree(work, ignore_errors=True)
        payload = {
            **asked,
            **learning_payload(recipe, shared.samples),
            "source": to_jsonable(recipe.source),
            "teacher": to_jsonable(wanted.teacher) if wanted.teacher is not None else None,
            "model": to_jsonable(prepared.model),
            "calibration": str(shared.calibration) if shared.calibration is not None else None,
            "search_path": str(recipe.search_path) if recipe.search_path else None,
            "feeds": str(shared.samples.feeds),
            "work": str(work),
            "folder": str(folder),
        }
        patient = replace(context, limits=context.limits.for_training())
        function, doing = "edgeport.pipeline.compression.qat_worker:learn_in_child", f"train {recipe.name}"
        _, rests_on = run_recorded(patient, function, payload, asked=doing, on_progress=context.clock.inside("train"))
        shutil.copyfile(work / "training" / "metrics.jsonl", folder / "metrics.jsonl")
        copy_curves(work / "training", folder / CURVES)
        shutil.rmtree(work, ignore_errors=True)
        return rests_on

    return context.store.get_or_build_watched("qat", key, build, states_of)


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
        asked = Learning(target=self.target, options=self.options, device=self.device, fresh=self.fresh)
        learned_in = learned_plan(context, shared, asked)
        learned = load_json(QatResult, (learned_in / "result.json").read_bytes())
        model = open_onnx(learned_in / "model.onnx")
        learned = replace(learned, model=model)
        decision, against, extra = self._beside_floats(context, shared, model, learned_in)
        trained = self._candidate.name
        artifact = next((one.artifact for one in decision.candidates if one.name == trained), None)
        for name in _FILES:
            shutil.copyfile(learned_in / name, draft / name)
        copy_curves(learned_in, draft / CURVES)
        for file in learned_in.glob("model.onnx*"):
            shutil.copyfile(file, draft / file.name)
        if artifact is not None:
            shutil.copytree(artifact.folder, draft / "best" / "artifact")
            write_artifact_record(draft / "best", to_jsonable(artifact), to_jsonable(model))
        return QatReport(
            name=context.recipe.name,
            backend=self.target.backend,
            precision=self.target.precisions[0],
            learned=learned,
            difference=extra.difference,
            untrained=extra.untrained,
            candidates=decision.candidates,
            trained=trained,
            chosen=decision.chosen,
            folder=draft,
            outcome=decision.outcome,
            against=against,
            notes=(*shared.notes, *_notes(learned, extra.difference)),
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
