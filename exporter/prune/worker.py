"""What runs in a child process: the user's module is built, pruned and kept there; the parent never imports torch.

Called as `run_isolated("edgeport.exporter.prune.worker:prune_in_child", payload)`; payloads and results are JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import (
    OnProgress,
    ProgressEvent,
    PruneStep,
    TrainedStep,
    silent,
    to_jsonable,
)
from edgeport.errors import PruningError
from edgeport.exporter.worker import contract_of, export_options_of, loaded_module
from edgeport.user_functions import user_function

if TYPE_CHECKING:
    import torch

    from edgeport.exporter.prune.cost_model import GroupSpec
    from edgeport.exporter.prune.pruning import FineTune
    from edgeport.exporter.prune.samples import Samples

__all__ = ["judge_in_child", "look_in_child", "prune_in_child", "take_in_child"]


def prune_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model, prunes it, and writes what is left.

    Args:
        payload: `source` (a `ModelSource`), `step` (a `PruneStep` with an amount), `samples` (path of an `.npz` with
            the feeds, or folder as `open_samples` takes it), `output` (a `.safetensors` or `.pt2` file), and where
            wanted `target` (key of the labels in the `.npz`), `options` (an `ExportOptions`), `threads`. For a step
            that trains: `training` (samples to learn from, as `samples`), `work` (a folder that a killed training goes
            on from), and where wanted `teacher` (a `ModelSource`; the model itself by default).
        on_progress: Told of each step.

    Returns:
        A `Pruning`, as JSON values, and `trained`: a `TrainedStep` for each training.

    Raises:
        PruningError, SourceError, SamplesError: See `edgeport.exporter.prune.pruning.prune`.
        TrainingError: A training diverged.

    """
    step, module, samples = _loaded(payload, on_progress)
    from edgeport.exporter.prune.pruning import prune
    from edgeport.exporter.prune.steps import criterion_of, schedule_named, structure_of

    trained: list[TrainedStep] = []
    _tell(on_progress, f"prune {step.what} by {step.by}", 1)
    done = prune(
        module,
        structure_of(step),
        criterion_of(step),
        samples,
        schedule=schedule_named(step.schedule),
        recalibrated=step.recalibrate,
        fine_tune=_fine_tune(step, payload, trained, on_progress),
    )
    _tell(on_progress, "write it", 2)
    _write(module, samples, payload)
    return {**to_jsonable(done), "trained": to_jsonable(trained)}


def look_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model, and tells what could be removed from it.

    Args:
        payload: As in `prune_in_child`, without `output`.
        on_progress: Told of each step.

    Returns:
        `group_specs` and `costs`, as JSON values, and `left`.

    Raises:
        PruningError, SourceError, SamplesError: See `edgeport.exporter.prune.pruning.look`.

    """
    step, module, samples = _loaded(payload, on_progress)
    from edgeport.exporter.prune.pruning import look
    from edgeport.exporter.prune.steps import criterion_of, kinds_of

    _tell(on_progress, f"score {step.what} by {step.by}", 1)
    seen = look(module, criterion_of(step), samples, kinds_of(step))
    return {"group_specs": to_jsonable(seen.group_specs), "costs": to_jsonable(seen.costs), "left": dict(seen.left)}


def take_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model, removes so many units of each group, writes what is left, and exports it.

    Args:
        payload: As in `prune_in_child`, and `group_specs` as `look_in_child` gave, `counts` (group to units that go),
            `onnx` (path of the file); `fine_tuned` where the step's training is done too.
        on_progress: Told of each step.

    Returns:
        As `prune_in_child`.

    Raises:
        PruningError, SourceError, SamplesError, ExportError: As the functions that do it.

    """
    step, module, samples = _loaded(payload, on_progress)
    from edgeport.exporter.onnx_export import export_onnx
    from edgeport.exporter.prune.bn_recalibration import recalibrate
    from edgeport.exporter.prune.pruning import take_counts

    group_specs = _group_specs(payload)
    _tell(on_progress, "remove units", 1)
    done = take_counts(module, samples, group_specs, payload["counts"], by=step.by)
    trained: list[TrainedStep] = []
    if step.recalibrate and payload.get("fine_tuned"):
        recalibrate(module, samples)
    if payload.get("fine_tuned"):
        tune = _fine_tune(step, payload, trained, on_progress)
        if tune is not None:
            tune(module, 0)
            module.eval()
    if payload.get("output"):
        _write(module, samples, payload)
    _tell(on_progress, "export", 2)
    export_onnx(module, samples.first(2).feeds, output=Path(payload["onnx"]), options=export_options_of(payload))
    return {**to_jsonable(done), "trained": to_jsonable(trained)}


def judge_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model, and tells what networks with fewer units lose on samples, before any training.

    These are the ones after those that it was scored by, twice as many; where no others are there, the same.

    Args:
        payload: As in `prune_in_child`, without `output`, and `group_specs` as `look_in_child` gave; `several`, for
            each network group to units that go.
        on_progress: Told of each step.

    Returns:
        `losses`, one for each network; see `edgeport.exporter.prune.loss_eval.losses_of`.

    Raises:
        PruningError, SourceError, SamplesError: As the functions that do it.

    """
    step, module, samples = _loaded(payload, on_progress)
    from edgeport.exporter.prune.loss_eval import losses_of

    group_specs, unseen = _group_specs(payload), _all_samples(payload).unseen(step.samples)
    _tell(on_progress, "judge proposals", 1)
    anew = step.recalibrate or step.trains
    return {"losses": losses_of(module, samples, group_specs, payload["several"], judged_by=unseen, recalibrated=anew)}


def _loaded(payload: Mapping[str, Any], on_progress: OnProgress) -> tuple[PruneStep, torch.nn.Module, Samples]:
    """The step, the model, and samples that it takes; to be called before what imports PyTorch: see `loaded_module`."""
    step = contract_of(PruneStep, payload["step"])
    _tell(on_progress, "load the model", 0)
    module = loaded_module(payload)
    return step, module, _samples(payload, step, module)


def _group_specs(payload: Mapping[str, Any]) -> list[GroupSpec]:
    from edgeport.exporter.prune.cost_model import GroupSpec

    return [contract_of(GroupSpec, one) for one in payload["group_specs"]]


def _samples(payload: Mapping[str, Any], step: PruneStep, module: torch.nn.Module) -> Samples:
    samples = _all_samples(payload).first(step.samples)
    samples.require_fit(module)
    return samples


def _all_samples(payload: Mapping[str, Any]) -> Samples:
    from edgeport.exporter.prune.samples import Samples
    from edgeport.exporter.prune.training import samples_at

    given, options = samples_at(payload["samples"], payload), export_options_of(payload)
    return Samples(feeds=given.feeds, target=given.labels, parameters=options.parameters, constants=options.constants)


def _fine_tune(
    step: PruneStep, payload: Mapping[str, Any], trained: list[TrainedStep], on_progress: OnProgress
) -> FineTune | None:
    """What trains after each step, if anything does; what it gave is added to `trained`."""
    if step.training is not None:
        from edgeport.exporter.prune.steps import trainings_of
        from edgeport.exporter.prune.training import TrainingBetween

        epochs = trainings_of(step)
        return TrainingBetween(step.training, epochs, payload, step.device, on_progress, done=trained)
    if not step.fine_tune:
        return None
    folder = payload["source"].get("search_path")
    try:
        found: Any = user_function(step.fine_tune, Path(folder) if folder else None)
    except (ImportError, AttributeError, ValueError) as error:
        raise PruningError(
            asked=f"train by {step.fine_tune}",
            found=f"that it can't be imported ({error})",
            fix="write pkg.mod:function",
        ) from error
    tune: FineTune = found
    return tune


def _write(module: torch.nn.Module, samples: Samples, payload: Mapping[str, Any]) -> None:
    from edgeport.exporter.prune.checkpoint import save_program, save_pruned

    output = Path(payload["output"])
    if output.suffix == ".pt2":
        save_program(module, samples.first(2), output, export_options_of(payload))
    else:
        save_pruned(module, output)


def _tell(on_progress: OnProgress, message: str, done: int) -> None:
    on_progress(ProgressEvent(stage="prune", message=message, done=done, total=3))
