"""What runs in a child process: the user's module is built, pruned and kept there; the parent never imports torch.

Called as `run_isolated("edgeport.exporter.prune.child:prune_in_child", payload)`; payloads and results are JSON values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import OnProgress, ProgressEvent, PruneStep, load_json, silent, to_jsonable
from edgeport.errors import PruningError
from edgeport.exporter.child import loaded_arrays, loaded_module
from edgeport.exporter.options import ExportOptions
from edgeport.user_functions import user_function

if TYPE_CHECKING:
    import torch

    from edgeport.exporter.prune.pruning import FineTune
    from edgeport.exporter.prune.samples import Samples

__all__ = ["look_in_child", "prune_in_child", "take_in_child"]


def prune_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model, prunes it, and writes what is left.

    Args:
        payload: `source` (a `ModelSource`), `step` (a `PruneStep` with an amount), `samples` (path of an `.npz` with
            the feeds), `output` (a `.safetensors` or `.pt2` file), and where wanted `target` (key of the labels in it),
            `options` (an `ExportOptions`), `threads`.
        on_progress: Told of each step.

    Returns:
        A `Pruning`, as JSON values.

    Raises:
        PruningError, SourceError, SamplesError: See `edgeport.exporter.prune.pruning.prune`.

    """
    from edgeport.exporter.prune.pruning import prune
    from edgeport.exporter.prune.steps import criterion_of, schedule_named, structure_of

    step = _step(payload)
    _tell(on_progress, "load the model", 0)
    module = loaded_module(payload)
    samples = _samples(payload, step, module)
    _tell(on_progress, f"prune {step.what} by {step.by}", 1)
    done = prune(
        module,
        structure_of(step),
        criterion_of(step),
        samples,
        schedule=schedule_named(step.schedule),
        recalibrated=step.recalibrate,
        fine_tune=_fine_tune(step, payload),
    )
    _tell(on_progress, "write it", 2)
    _write(module, samples, payload)
    values: dict[str, Any] = to_jsonable(done)
    return values


def look_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model, and tells what could be removed from it.

    Args:
        payload: As in `prune_in_child`, without `output`.
        on_progress: Told of each step.

    Returns:
        `outlines` and `costs`, as JSON values, and `left`.

    Raises:
        PruningError, SourceError, SamplesError: See `edgeport.exporter.prune.pruning.look`.

    """
    from edgeport.exporter.prune.pruning import look
    from edgeport.exporter.prune.steps import criterion_of, kinds_of

    step = _step(payload)
    _tell(on_progress, "load the model", 0)
    module = loaded_module(payload)
    _tell(on_progress, f"score {step.what} by {step.by}", 1)
    seen = look(module, criterion_of(step), _samples(payload, step, module), kinds_of(step))
    return {"outlines": to_jsonable(seen.outlines), "costs": to_jsonable(seen.costs), "left": dict(seen.left)}


def take_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model, removes so many units of each group, writes what is left, and exports it.

    Args:
        payload: As in `prune_in_child`, and `outlines` as `look_in_child` gave, `counts` (group to units that go),
            `onnx` (path of the file).
        on_progress: Told of each step.

    Returns:
        A `Pruning`, as JSON values.

    Raises:
        PruningError, SourceError, SamplesError, ExportError: As the functions that do it.

    """
    from edgeport.exporter.onnx_export import export_onnx
    from edgeport.exporter.prune.costs import Outline
    from edgeport.exporter.prune.pruning import take_counts
    from edgeport.exporter.prune.recalibrating import recalibrate

    step = _step(payload)
    _tell(on_progress, "load the model", 0)
    module = loaded_module(payload)
    samples = _samples(payload, step, module)
    outlines = [_contract(Outline, one) for one in payload["outlines"]]
    _tell(on_progress, "remove units", 1)
    done = take_counts(module, samples, outlines, payload["counts"], by=step.by)
    if step.recalibrate and payload.get("fine_tuned"):
        recalibrate(module, samples)
    if payload.get("fine_tuned"):
        tune = _fine_tune(step, payload)
        if tune is not None:
            tune(module, 0)
            module.eval()
    if payload.get("output"):
        _write(module, samples, payload)
    _tell(on_progress, "export", 2)
    export_onnx(module, samples.first(2).feeds, output=Path(payload["onnx"]), options=_options(payload))
    values: dict[str, Any] = to_jsonable(done)
    return values


def _step(payload: Mapping[str, Any]) -> PruneStep:
    step: PruneStep = _contract(PruneStep, payload["step"])
    return step


def _options(payload: Mapping[str, Any]) -> ExportOptions:
    options: ExportOptions = _contract(ExportOptions, payload.get("options") or to_jsonable(ExportOptions()))
    return options


def _samples(payload: Mapping[str, Any], step: PruneStep, module: torch.nn.Module) -> Samples:
    from edgeport.exporter.prune.samples import Samples

    arrays = dict(loaded_arrays(payload["samples"]))
    target = arrays.pop(payload["target"], None) if payload.get("target") else None
    options = _options(payload)
    samples = Samples(feeds=arrays, target=target, parameters=options.parameters, constants=options.constants)
    samples = samples.first(step.samples)
    samples.require_fit(module)
    return samples


def _fine_tune(step: PruneStep, payload: Mapping[str, Any]) -> FineTune | None:
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
    from edgeport.exporter.prune.keeping import save_program, save_pruned

    output = Path(payload["output"])
    if output.suffix == ".pt2":
        save_program(module, samples.first(2), output, _options(payload))
    else:
        save_pruned(module, output)


def _contract(cls: type[Any], values: Any) -> Any:
    return load_json(cls, json.dumps(values))


def _tell(on_progress: OnProgress, message: str, done: int) -> None:
    on_progress(ProgressEvent(stage="prune", message=message, done=done, total=3))
