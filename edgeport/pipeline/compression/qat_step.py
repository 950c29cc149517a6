"""Quantization-aware training as a step of a run: one for each target's dialect, and a candidate of each."""

from __future__ import annotations

from dataclasses import replace

from edgeport.contracts import Candidate, OnnxModel, QatStep, Target, TrainedStep, load_json
from edgeport.exporter.qat.options import QatOptions, QatResult
from edgeport.exporter.train.settings import TrainingSettings
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.build_inputs import Shared
from edgeport.pipeline.compilation.compile import build_planned
from edgeport.pipeline.compression.qat import Learning, learned_plan, require_batches
from edgeport.pipeline.compression.step import Made, Plan, StepWork, trained_text
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.quantization.calibration import calibrate_model

__all__ = ["learn_in_run"]


def learn_in_run(work: StepWork, step: QatStep) -> Made:
    """Trains with the rounding of each target that builds the step's precision, from what the step begins with.

    Targets whose plans are written alike share a training: the store answers the second one.

    Raises:
        PlanError, TrainingError, SamplesError: As `learn_in_child`.

    """
    asked = f"train {work.context.recipe.name} in batches of {step.training.batch_size}"
    require_batches(work.shared, asked)
    context, shared = _untransformed(work)
    options = _options(step, context.recipe.data.output)
    teacher = work.original if work.original != context.recipe.source and step.training.teacher > 0 else None
    plans, missing = [], []
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
        wanted = Learning(target=alone, options=options, device=step.device, teacher=teacher)
        plans.append(_plan(context, shared, alone, wanted))
    return Made(plans=tuple(plans), said=tuple(missing))


def _untransformed(work: StepWork) -> tuple[RunContext, Shared]:
    """Without recovery: constants that it changed are not the module's, which is what learns."""
    recipe, shared = work.context.recipe, work.shared
    if not recipe.search.recovery:
        return work.context, shared
    context = replace(work.context, recipe=replace(recipe, search=replace(recipe.search, recovery=())))
    found = calibrate_model(context, shared.prepared.model, shared.samples, shared.by_device)
    return context, replace(
        shared,
        transformed=shared.prepared.model,
        calibration=found.file,
        calibration_digest=found.digest,
        methods=found.methods,
    )


def _options(step: QatStep, output: str) -> QatOptions:
    asked = step.training
    return QatOptions(
        training=TrainingSettings(
            epochs=asked.epochs,
            batch_size=asked.batch_size,
            precision=asked.mixed,
            average=asked.average,
            clip_norm=asked.clip_norm,
            patience=asked.patience,
            seed=asked.seed,
        ),
        rate=asked.rate,
        loss=asked.loss,
        teacher=asked.teacher,
        temperature=asked.temperature,
        output=asked.output or output,
        learn_ranges=step.learn_ranges,
        held_out=asked.held_out,
        processes=asked.processes,
    )


def _plan(context: RunContext, shared: Shared, target: Target, wanted: Learning) -> Plan:
    folder = learned_plan(context, shared, wanted)
    learned = load_json(QatResult, (folder / "result.json").read_bytes())
    written = open_onnx(folder / "model.onnx")
    model: OnnxModel = replace(shared.prepared.model, path=written.path, digest=written.digest)
    (precision,) = target.precisions
    candidate = Candidate(
        name=f"{target.backend} {precision}{target.mix.label}",
        backend=target.backend,
        precision=precision,
        execution=target.execution,
        mix=target.mix,
    )
    trained = TrainedStep(before=learned.before, after=learned.after, best_step=learned.best_step, steps=learned.steps)
    said = [f"loss: {learned.loss}", trained_text(trained)]
    if learned.left_float:
        said.append(f"{len(learned.left_float)} nodes were not found in the PyTorch graph and stay in float")
    return Plan(
        candidate=build_planned(context, candidate, model, folder / "plan.json", shared.capabilities[target.backend]),
        model=model,
        expected=folder / "outputs.npz",
        said=tuple(said),
        courses=folder,
    )
