"""Distillation in a child process: the user's models, samples and functions run here."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import (
    Array,
    DistillStep,
    ModelSource,
    OnProgress,
    ProgressEvent,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.errors import DistillationError, SamplesError
from edgeport.pipeline.compression.qat_worker import keep_samples
from edgeport.pipeline.datasets.sources import location_from_json, open_samples

if TYPE_CHECKING:
    from edgeport.exporter.distill.teacher_student import Network
    from edgeport.exporter.train.distributed import DistributedContext
    from edgeport.exporter.train.samples import LearningSamples

__all__ = ["distill_in_child"]

_AT_ONCE = 256


def distill_in_child(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a teacher and a student, trains the student, and keeps it.

    Args:
        payload: `teacher` and `student` (a `ModelSource` each), `step` (a `DistillStep`), `samples` (a location) with
            `target`, or instead `kept` (a folder of them, as `keep_samples` writes it), `output` (a `.safetensors`
            file), `work` (a folder that a killed training goes on from), and where wanted `options` (an
            `ExportOptions`, for how feeds get into both), `judged` (the output that labels are of), `replaces` (the
            student is to take the teacher's place), `device`, `threads`.
        on_progress: Told every few steps.

    Returns:
        `results` (a `DistillResult` of each generation), `best` (which one was kept), `weights` and `macs` of teacher
        and student.

    Raises:
        EdgeportError: As `load_module`, `distill`.

    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded
    import torch

    from edgeport.exporter.train.launcher import in_processes

    if payload.get("threads"):
        torch.set_num_threads(int(payload["threads"]))
    work = Path(payload["work"])
    _tell(on_progress, "reading the samples")
    samples = _samples(payload, work / "samples")
    _tell(on_progress, "loading teacher and student")
    teacher, student = _network(payload, "teacher"), _network(payload, "student")
    weights, macs = _costs(teacher, student, samples)
    if payload.get("replaces"):
        _require_alike(teacher, student, samples)
    found = in_processes(
        _train,
        payload,
        processes=load_json(DistillStep, json.dumps(payload["step"])).processes,
        device=payload.get("device", "cpu"),
        on_progress=on_progress,
    )
    return {**found, "weights": weights, "macs": macs}


def _train(payload: Mapping[str, Any], hardware: DistributedContext, on_progress: OnProgress) -> dict[str, Any]:
    """In each process of the training; the first one keeps the student."""
    from edgeport.exporter.distill.distilling import born_again
    from edgeport.exporter.distill.loss_factory import make_augment, make_objective
    from edgeport.exporter.distill.options import options_of
    from edgeport.exporter.structure.pruned_weights import save_like

    step = load_json(DistillStep, json.dumps(payload["step"]))
    folder = payload["teacher"].get("search_path")
    search_path = Path(folder) if folder else None
    samples = _samples(payload, Path(payload["work"]) / "samples")
    made = born_again(
        lambda: _network(payload, "student"),
        _network(payload, "teacher"),
        samples,
        make_objective(step.L, step.R, step.lambda_, search_path) if step.L else None,
        generations=step.generations,
        folder=Path(payload["work"]) / "training",
        options=options_of(step),
        augment=make_augment(step.augment, search_path),
        output=_judged(payload, samples),
        hardware=hardware,
        on_progress=on_progress,
    )
    if hardware.rank == 0:
        save_like(payload["student"].get("weights"), made.student.module.cpu(), Path(payload["output"]))
    return {"results": to_jsonable(list(made.results)), "best": made.best}


def _network(payload: Mapping[str, Any], who: str) -> Network:
    from edgeport.exporter.distill.teacher_student import Network
    from edgeport.exporter.loaders.model_source import load_module
    from edgeport.exporter.options import ExportOptions

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
        try:
            _require_usable(open_kept(folder), payload["target"])
        except SamplesError:
            shutil.rmtree(folder)  # the next call may find better ones
            raise
    return open_kept(folder)


def _require_usable(samples: LearningSamples, target: str) -> None:
    """Makes sure, before a training, that samples are numbers, and have the labels that were named; those of a run were
    looked through before.

    Raises:
        SamplesError: No labels; NaN or Inf.

    """
    if target and samples.labels is None:
        raise SamplesError(
            asked=f"learn from the labels {target!r} (target)",
            found=f"samples without them; there are {', '.join(samples.feeds)}",
            fix="name the array that holds the labels, or leave target out: the teacher alone says what is right then",
        )
    _require_finite(samples.feeds)


def _require_finite(feeds: Mapping[str, Array]) -> None:
    floats = {name: one for name, one in feeds.items() if one.dtype.kind == "f"}
    for name, array in floats.items():
        for start in range(0, len(array), _AT_ONCE):
            wrong = np.argwhere(~np.isfinite(array[start : start + _AT_ONCE]))
            if len(wrong):
                raise SamplesError(
                    asked=f"learn from samples of {name!r}",
                    found=f"NaN or Inf in sample {start + int(wrong[0][0])}",
                    fix="find where the preprocessing divides by zero or overflows, or drop the sample",
                )


def _judged(payload: Mapping[str, Any], samples: LearningSamples) -> str:
    """The output that labels are of, as PyTorch names it: in ONNX one that is called as a feed is has `_out` behind."""
    name = str(payload.get("judged", ""))
    own = name.removesuffix("_out")
    return own if own in samples.feeds else name


def _require_alike(teacher: Network, student: Network, samples: LearningSamples) -> None:
    """Makes sure, before it learns for hours, that the student answers in the teacher's form.

    Raises:
        DistillationError: Outputs of other names, dtypes or numbers of axes, or rows of other sizes. More axes than a
            row has may be free; they are compared when both are exported.

    """
    import torch

    from edgeport.exporter.distill.teacher_student import answers

    feeds = {name: torch.from_numpy(np.array(one[:2])) for name, one in samples.feeds.items()}
    given, wanted = (
        [
            f"{name}: {one.dtype}, {f'rows of {one.shape[1]}' if one.ndim == 2 else f'{one.ndim} axes'}"
            for name, one in answers(network, feeds).items()
        ]
        for network in (student, teacher)
    )
    if given != wanted:
        raise DistillationError(
            asked="put a student in the place of its teacher",
            found=f"outputs {'; '.join(given)} in place of {'; '.join(wanted)}",
            fix="let the student give outputs of the same names and sizes as the model that the recipe names",
        )


def _costs(teacher: Network, student: Network, samples: LearningSamples) -> tuple[list[int], list[float]]:
    from edgeport.exporter.prune.cost_model import count_costs
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
