"""What runs in a child process: the user's networks are built and trained there; the parent never imports torch.

Called by `run_isolated`, by the functions' names; payloads and results are JSON values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.atomic import atomic_file
from edgeport.contracts import Array, OnProgress, ProgressEvent, TensorSpec, silent, to_jsonable
from edgeport.errors import SamplesError
from edgeport.exporter.distill.data_free.methods import METHODS, VaeOptions
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.worker import contract_of, loaded_arrays, loaded_module
from edgeport.npz import save_npz

if TYPE_CHECKING:
    import torch

    from edgeport.exporter.distill.objective import Objective
    from edgeport.exporter.distill.task import HeldOut

__all__ = ["distill_in_child", "imitate_in_child"]

USUAL = ("soft-targets:20",)
"""L where nobody says otherwise: the temperature of Fast's authors."""


def distill_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Distils a student without data, or goes on, and writes its weights.

    Args:
        payload: `teacher` and `student` (`ModelSource`s), `inputs` (a `TensorSpec`), `method` (a name of `METHODS`) and
            `values` (of it), `objective` (L, R and lambda, in words), `options` (`DistillOptions`), `steps`,
            `mirror`, `device`, `work` (a folder for the training), `output` (`.safetensors`); where wanted `kept` (path
            of a `.npz` for samples that were made), `judged` (path of a `.npz` with the input) and `target` (key of the
            labels in it).
        on_progress: Told of each step.

    Returns:
        `result` (a `DistillResult`), `notes`, `weights` (parameters of teacher and student).

    Raises:
        EdgeportError: As `load_module` and `distill_without_data`.

    """
    from edgeport.exporter.distill.data_free.augmentation import Views
    from edgeport.exporter.distill.data_free.distilling import distill_without_data
    from edgeport.exporter.distill.teacher_student import Network
    from edgeport.exporter.prune.checkpoint import save_like
    from edgeport.exporter.train.distributed import this_process

    on_progress(ProgressEvent(stage="distil", message="load teacher and student", done=0, total=1))
    teacher, student = (loaded_module({"source": payload[who]}) for who in ("teacher", "student"))
    spec = contract_of(TensorSpec, payload["inputs"])
    options = contract_of(DistillOptions, payload["options"])
    done = distill_without_data(
        Network(module=student),
        Network(module=teacher),
        spec,
        METHODS[payload["method"]](**payload["values"]),
        _objective(payload),
        steps=int(payload["steps"]),
        folder=Path(payload["work"]),
        options=options,
        views=Views(mirror=bool(payload["mirror"])),
        judged=_judged(payload, spec, student),
        hardware=this_process(payload["device"]),
        on_progress=on_progress,
    )
    save_like(payload["student"].get("weights"), student.cpu(), Path(payload["output"]))
    if payload.get("kept"):
        _save_made(Path(payload["kept"]), spec.name, done.samples, "generator")
    sizes = [sum(one.numel() for one in module.parameters()) for module in (teacher, student)]
    return {"result": to_jsonable(done.result), "notes": list(done.notes), "weights": sizes}


def imitate_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Learns what samples look like, or goes on, and writes others that look so.

    Args:
        payload: `samples` (path of a `.npz`), `inputs` (a `TensorSpec`: which array), `options` (`VaeOptions`),
            `count`, `device`, `work` (a folder for the training), `output` (a `.npz`).
        on_progress: Told of each step.

    Returns:
        `samples`: how many were learned from.

    Raises:
        EdgeportError: As `learn_inputs`.

    """
    from edgeport.exporter.distill.data_free.input_vae import learn_inputs
    from edgeport.exporter.train.distributed import this_process

    spec = contract_of(TensorSpec, payload["inputs"])
    options = contract_of(VaeOptions, payload["options"])
    given = loaded_arrays(payload["samples"])[spec.name]
    vae = learn_inputs(
        given, spec, Path(payload["work"]), options, hardware=this_process(payload["device"]), on_progress=on_progress
    )
    drawn = vae.draw(int(payload["count"]), options.training.seed)
    _save_made(Path(payload["output"]), spec.name, drawn, "vae")
    return {"samples": len(given)}


def _save_made(path: Path, name: str, samples: Array, made: str) -> None:
    """The whole file, or what was there before."""
    with atomic_file(path) as draft:
        save_npz(draft, {name: samples}, made=made)


def _objective(payload: Mapping[str, Any]) -> Objective:
    from edgeport.exporter.distill.loss_factory import make_objective

    of_l, of_r, lambda_ = payload["objective"]
    folder = payload["teacher"].get("search_path")
    return make_objective(of_l or USUAL, of_r, lambda_, Path(folder) if folder else None)


def _judged(payload: Mapping[str, Any], spec: TensorSpec, student: torch.nn.Module) -> HeldOut | None:
    """Labelled samples that say how good the student is."""
    from edgeport.exporter.distill.task import HeldOut
    from edgeport.exporter.train.sampler import ArrayBatches
    from edgeport.exporter.train.samples import LABELS

    if not payload.get("judged"):
        return None
    arrays = loaded_arrays(payload["judged"])
    asked = f"judge a student on {Path(payload['judged']).name}"
    absent = [name for name in (spec.name, payload["target"]) if name not in arrays]
    if absent:
        raise SamplesError(
            asked=asked,
            found=f"arrays {', '.join(arrays)}, none of which is {absent[0]!r}",
            fix="store the input by its name, and the labels as --target calls them",
        )
    inputs, labels = arrays[spec.name], arrays[payload["target"]]
    if inputs.dtype != spec.dtype or inputs.shape[1:] != spec.shape[1:] or not len(inputs):
        raise SamplesError(
            asked=asked,
            found=f"{spec.name}: {inputs.dtype} {list(inputs.shape)}",
            fix=f"store samples of {spec.dtype} {list(spec.shape)}, as the input was declared",
        )
    _require_classes(student, spec.name, inputs, labels, asked)
    return HeldOut(batches=ArrayBatches({spec.name: inputs, LABELS: labels}), classes=True)


def _require_classes(student: torch.nn.Module, feed: str, inputs: Array, labels: Array, asked: str) -> None:
    import torch

    from edgeport.exporter.distill.data_free.inversion_loss import class_scores
    from edgeport.exporter.distill.teacher_student import Network, answers

    known = class_scores(answers(Network(module=student), {feed: torch.from_numpy(inputs[:2].copy())})).shape[1]
    whole = labels.dtype.kind in "iu" and labels.shape == inputs.shape[:1]
    if whole and 0 <= int(labels.min()) <= int(labels.max()) < known:
        return
    between = f", {labels.min()} to {labels.max()}" if whole else ""
    raise SamplesError(
        asked=asked,
        found=f"labels of {labels.dtype} {list(labels.shape)}{between} for {len(inputs)} samples and {known} classes",
        fix=f"give one whole number per sample, from 0 to {known - 1}",
    )
