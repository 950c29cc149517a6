"""Quantization-aware training in a child process: the user's model, samples and loss run here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeport.atomic import atomic_write
from edgeport.contracts import (
    Array,
    ModelSource,
    OnnxModel,
    OnProgress,
    QuantizationPlan,
    QuantizationRules,
    SampleSet,
    dump_json,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.errors import SamplesError
from edgeport.exporter.qat.options import QatOptions
from edgeport.exporter.train.distributed import DistributedContext
from edgeport.npz import GrowingArray, load_npz, save_npy, save_npz

__all__ = ["keep_in_child", "keep_samples", "learn_in_child"]


def learn_in_child(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Plans, trains with the plan's rounding, and keeps PyTorch's outputs for the evaluation set.

    Args:
        payload: `source` (a `ModelSource`), `model` (an `OnnxModel`, its export), `export` (an `ExportOptions`); what
            `plan_for` takes (`backend`, `precision`, `calibration`, `method`, `mix`); what `calibration_samples` takes;
            `teacher` (a `ModelSource`; the float model itself by default), `options` (a `QatOptions`), `search_path`
            (of the user's loss), `device`; `feeds` (`.npz` of the evaluation set); `work`, a folder that a killed
            training goes on from; and `folder`, which gets `model.onnx`, `plan.json`, `result.json` and `outputs.npz`.
        on_progress: Told every few steps.

    Returns:
        Nothing.

    Raises:
        EdgeportError: As `plan_for`, `load_module` and `learn`.

    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded
    from edgeport.backends.registry import backend as backend_named
    from edgeport.backends.registry import effective_plan
    from edgeport.exporter.train.launcher import in_processes
    from edgeport.pipeline.datasets.calibration_samples import calibration_samples
    from edgeport.pipeline.quantization.planning import plan_for

    model = load_json(OnnxModel, json.dumps(payload["model"]))
    backend = backend_named(payload["backend"])
    plan = plan_for(model, backend, payload)
    rules = backend.capabilities().rules
    if rules is None:
        raise TypeError(payload["backend"])  # plan_for has refused it
    plan = effective_plan(payload["backend"], model, plan)  # what is trained is what will run
    Path(payload["work"]).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="edgeport-samples-") as spool:
        keep_samples(calibration_samples(payload, model), Path(spool))
        return in_processes(
            _learn,
            {**payload, "plan": to_jsonable(plan), "rules": to_jsonable(rules), "kept": spool},
            processes=load_json(QatOptions, json.dumps(payload["options"])).processes,
            device=payload.get("device", "cpu"),
            on_progress=on_progress,
        )


def _learn(payload: Mapping[str, Any], hardware: DistributedContext, on_progress: OnProgress) -> dict[str, Any]:
    """In each process of the training."""
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.exporter.loaders.model_source import load_module
    from edgeport.exporter.options import ExportOptions
    from edgeport.exporter.qat.trainer import learn
    from edgeport.exporter.train.samples import open_samples

    folder, work, teacher = Path(payload["folder"]), Path(payload["work"]), payload.get("teacher")
    learnt = learn(
        load_module(load_json(ModelSource, json.dumps(payload["source"]))),
        load_json(OnnxModel, json.dumps(payload["model"])),
        load_json(QuantizationPlan, json.dumps(payload["plan"])),
        load_json(QuantizationRules, json.dumps(payload["rules"])),
        open_samples(Path(payload["kept"])),
        partial(open_reference, threads=payload.get("threads")),
        folder=work,
        options=load_json(QatOptions, json.dumps(payload["options"])),
        export=load_json(ExportOptions, json.dumps(payload["export"])),
        search_path=Path(payload["search_path"]) if payload.get("search_path") else None,
        hardware=hardware,
        teacher=load_module(load_json(ModelSource, json.dumps(teacher))) if teacher is not None else None,
        on_progress=on_progress,
    )
    if hardware.rank != 0:
        return {}
    result = learnt.result
    for file in work.glob("model.onnx*"):  # and its weights, where they lie beside it
        file.replace(folder / file.name)
    save_npz(folder / "outputs.npz", learnt.outputs(load_npz(payload["feeds"])))
    (folder / "plan.json").write_bytes(dump_json(result.plan))
    (folder / "result.json").write_text(json.dumps(to_jsonable(result)), encoding="utf-8")
    return {}


def keep_in_child(payload: dict[str, Any]) -> dict[str, Any]:
    """Writes what is learned from to `payload["folder"]`, as `open_samples` opens it.

    Args:
        payload: `model` (an `OnnxModel`), `folder`, and what `calibration_samples` takes.

    Returns:
        Nothing.

    """
    from edgeport.pipeline.datasets.calibration_samples import calibration_samples

    folder = Path(payload["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    keep_samples(calibration_samples(payload, load_json(OnnxModel, json.dumps(payload["model"]))), folder)
    return {}


def keep_samples(samples: SampleSet, folder: Path) -> None:
    """Writes the whole set as `open_samples` opens it, no more than a batch of it in memory.

    Raises:
        SamplesError: Samples of several shapes or dtypes; or labels for some of them alone.

    """
    from edgeport.exporter.train.samples import INDEX

    with ExitStack() as stack:
        feeds: dict[str, GrowingArray] = {}
        labels: dict[str, GrowingArray] = {}
        for batch in samples:
            parts = [(feeds, name, array) for name, array in batch.feeds.items()]
            parts += [(labels, "labels", batch.target)] if batch.target is not None else []
            for kept, name, array in parts:
                if name not in kept:
                    kept[name] = stack.enter_context(closing(GrowingArray(folder)))
                _add(kept[name], name, array)
        counts = [len(one) for one in (*feeds.values(), *labels.values())]
        if labels and counts[-1] != counts[0]:
            raise SamplesError(
                asked="learn from the samples' labels",
                found=f"labels for {counts[-1]} of {counts[0]} samples",
                fix="give a label with every batch, or with none",
            )
        files = {str(number): one for number, one in enumerate(feeds.values())} | labels
        for stem, grown in files.items():
            with (folder / f"{stem}.npy").open("wb") as file:
                save_npy(file, grown)
        atomic_write(folder / INDEX, json.dumps(list(feeds)))  # whoever sees the index finds all of them


def _add(array: GrowingArray, name: str, rows: Array) -> None:
    try:
        array.add(rows)
    except ValueError as error:
        raise SamplesError(
            asked=f"learn from samples of {name!r}",
            found=str(error),
            fix="give all samples the same dtype and shape: pad, crop or convert them",
        ) from error
