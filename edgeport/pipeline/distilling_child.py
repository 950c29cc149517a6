"""Distillation in a child process: the user's models, samples and functions run here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import DistillStep, ModelSource, OnProgress, ProgressEvent, load_json, silent, to_jsonable
from edgeport.pipeline.learning_child import keep_samples
from edgeport.pipeline.locations import location_from_json, open_samples

if TYPE_CHECKING:
    from edgeport.exporter.distill.pair import Network
    from edgeport.exporter.train.hardware import Hardware
    from edgeport.exporter.train.samples import LearningSamples

__all__ = ["distill_in_child"]


def distill_in_child(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a teacher and a student, trains the student, and keeps it.

    Args:
        payload: `teacher` and `student` (a `ModelSource` each), `step` (a `DistillStep`), `samples` (a location) with
            `target`, or instead `kept` (a folder of them, as `keep_samples` writes it), `output` (a `.safetensors`
            file), `work` (a folder that a killed training goes on from), and where wanted `options` (an
            `ExportOptions`, for how feeds get into both), `device`, `threads`.
        on_progress: Told every few steps.

    Returns:
        `results` (a `DistillResult` of each generation), `best` (which one was kept), `weights` and `macs` of teacher
        and student.

    Raises:
        EdgeportError: As `load_module`, `distill`.

    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded
    import torch

    from edgeport.exporter.train.processes import in_processes

    if payload.get("threads"):
        torch.set_num_threads(int(payload["threads"]))
    work = Path(payload["work"])
    _tell(on_progress, "reading the samples")
    samples = _samples(payload, work / "samples")
    _tell(on_progress, "loading teacher and student")
    weights, macs = _costs(_network(payload, "teacher"), _network(payload, "student"), samples)
    found = in_processes(
        _train,
        payload,
        processes=load_json(DistillStep, json.dumps(payload["step"])).processes,
        device=payload.get("device", "cpu"),
        on_progress=on_progress,
    )
    return {**found, "weights": weights, "macs": macs}


def _train(payload: Mapping[str, Any], hardware: Hardware, on_progress: OnProgress) -> dict[str, Any]:
    """In each process of the training; the first one keeps the student."""
    from edgeport.exporter.distill.distilling import born_again
    from edgeport.exporter.distill.options import options_of
    from edgeport.exporter.distill.spelling import augment_spelled, objective_spelled
    from edgeport.exporter.prune.keeping import save_like

    step = load_json(DistillStep, json.dumps(payload["step"]))
    folder = payload["teacher"].get("search_path")
    search_path = Path(folder) if folder else None
    made = born_again(
        lambda: _network(payload, "student"),
        _network(payload, "teacher"),
        _samples(payload, Path(payload["work"]) / "samples"),
        objective_spelled(step.L, step.R, step.lambda_, search_path) if step.L else None,
        generations=step.generations,
        folder=Path(payload["work"]) / "training",
        options=options_of(step),
        augment=augment_spelled(step.augment, search_path),
        hardware=hardware,
        on_progress=on_progress,
    )
    if hardware.rank == 0:
        save_like(payload["student"].get("weights"), made.student.module.cpu(), Path(payload["output"]))
    return {"results": to_jsonable(list(made.results)), "best": made.best}


def _network(payload: Mapping[str, Any], who: str) -> Network:
    from edgeport.exporter.distill.pair import Network
    from edgeport.exporter.options import ExportOptions
    from edgeport.exporter.sources import load_module

    options = ExportOptions()
    if payload.get("options"):
        options = load_json(ExportOptions, json.dumps(payload["options"]))
    module = load_module(load_json(ModelSource, json.dumps(payload[who])))
    return Network(module=module, parameters=options.parameters, constants=options.constants)


def _samples(payload: Mapping[str, Any], folder: Path) -> LearningSamples:
    """As arrays that lie on the disk: a step reads the rows that it needs."""
    from edgeport.exporter.train.samples import INDEX
    from edgeport.exporter.train.samples import open_samples as open_kept

    if payload.get("kept"):
        return open_kept(Path(payload["kept"]))
    if not (folder / INDEX).exists():
        folder.mkdir(parents=True, exist_ok=True)
        keep_samples(open_samples(location_from_json(payload["samples"]), payload["target"]), folder)
    return open_kept(folder)


def _costs(teacher: Network, student: Network, samples: LearningSamples) -> tuple[list[int], list[float]]:
    from edgeport.exporter.prune.counting import count_costs
    from edgeport.exporter.prune.samples import Samples

    weights, macs = [], []
    for network in (teacher, student):
        shown = Samples(
            feeds={name: one[:2] for name, one in samples.feeds.items()},
            parameters=network.parameters,
            constants=network.constants,
        )
        shown.require_fit(network.module)
        weights.append(sum(one.numel() for one in network.module.parameters()))
        macs.append(count_costs(network.module, shown).macs({}))
    return weights, macs


def _tell(on_progress: OnProgress, message: str) -> None:
    on_progress(ProgressEvent(stage="distil", message=message, done=0, total=1))
