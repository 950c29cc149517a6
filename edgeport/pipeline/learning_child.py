"""Quantization-aware training in a child process: the user's model, samples and loss run here."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import (
    Array,
    ModelSource,
    OnnxModel,
    OnProgress,
    QuantizationPlan,
    QuantizationRules,
    dump_json,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.errors import SamplesError
from edgeport.npz import GrowingArray, load_npz, save_npy, save_npz

if TYPE_CHECKING:
    from edgeport.contracts import SampleSet
    from edgeport.exporter.qat.learn import LearningSamples

__all__ = ["learn_in_child"]


def learn_in_child(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Plans, trains with the plan's rounding, and keeps PyTorch's outputs for the evaluation set.

    Args:
        payload: `source` (a `ModelSource`), `model` (an `OnnxModel`, its export), `export` (an `ExportOptions`); what
            `plan_for` takes (`backend`, `precision`, `calibration`, `method`, `mix`); what `calibration_samples` takes;
            `options` (a `QatOptions`), `search_path` (of the user's loss), `device`; `feeds` (`.npz` of the evaluation
            set); `work`, a folder that a killed training goes on from; and `folder`, which gets `model.onnx`,
            `plan.json`, `result.json` and `outputs.npz`.
        on_progress: Told every few steps.

    Returns:
        Nothing.

    Raises:
        EdgeportError: As `plan_for`, `load_module` and `learn`.

    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.backends.registry import backend as backend_named
    from edgeport.exporter.options import ExportOptions
    from edgeport.exporter.qat import QatOptions
    from edgeport.exporter.qat.learn import learn
    from edgeport.exporter.sources import load_module
    from edgeport.exporter.train.hardware import this_process
    from edgeport.pipeline.child_samples import calibration_samples
    from edgeport.pipeline.children import plan_for

    model = load_json(OnnxModel, json.dumps(payload["model"]))
    backend = backend_named(payload["backend"])
    plan = plan_for(model, backend, payload)
    rules = backend.capabilities().rules
    if rules is None:
        raise TypeError(payload["backend"])  # plan_for has refused it
    plan = _as_written(payload["backend"], model, plan, rules)
    folder, work = Path(payload["folder"]), Path(payload["work"])
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="edgeport-samples-") as spool:
        learnt = learn(
            load_module(load_json(ModelSource, json.dumps(payload["source"]))),
            model,
            plan,
            rules,
            _in_files(calibration_samples(payload, model), Path(spool)),
            partial(open_reference, threads=payload.get("threads")),
            folder=work,
            options=load_json(QatOptions, json.dumps(payload["options"])),
            export=load_json(ExportOptions, json.dumps(payload["export"])),
            search_path=Path(payload["search_path"]) if payload.get("search_path") else None,
            hardware=this_process(payload.get("device", "cpu")),
            on_progress=on_progress,
        )
    result = learnt.result
    for file in work.glob("model.onnx*"):  # and its weights, where they lie beside it
        file.replace(folder / file.name)
    save_npz(folder / "outputs.npz", learnt.outputs(load_npz(payload["feeds"])))
    (folder / "plan.json").write_bytes(dump_json(result.plan))
    (folder / "result.json").write_text(json.dumps(to_jsonable(result)), encoding="utf-8")
    return {}


def _as_written(backend: str, model: OnnxModel, plan: QuantizationPlan, rules: QuantizationRules) -> QuantizationPlan:
    """Without the pairs that the backend leaves out of what it writes: what is trained is what will run."""
    from edgeport.backends.onnxruntime.float_ends import leave_ends_float
    from edgeport.backends.qdq.read_pairs import read_pairs_only
    from edgeport.onnx_files import read_ir

    graph = read_ir(model).graph
    if backend == "onnxruntime":
        return leave_ends_float(graph, plan)
    return read_pairs_only(graph, plan, rules) if backend in ("openvino", "tensorrt") else plan


def _in_files(samples: SampleSet, folder: Path) -> LearningSamples:
    """The whole set as arrays that lie on the disk: a step reads the rows that it needs."""
    from edgeport.exporter.qat.learn import LearningSamples

    labels = "labels"
    with ExitStack() as stack:
        kept: dict[tuple[str, str], GrowingArray] = {}
        for batch in samples:
            parts = {("feed", name): array for name, array in batch.feeds.items()}
            if batch.target is not None:
                parts["target", labels] = batch.target
            for key, array in parts.items():
                if key not in kept:
                    kept[key] = stack.enter_context(closing(GrowingArray(folder)))
                _add(kept[key], key, array)
        opened: dict[tuple[str, str], Array] = {}
        for number, (key, grown) in enumerate(kept.items()):
            path = folder / f"{number}.npy"
            with path.open("wb") as file:
                save_npy(file, grown)
            opened[key] = np.load(path, mmap_mode="r", allow_pickle=False)
    found = opened.pop(("target", labels), None)
    feeds = {name: array for (_, name), array in opened.items()}
    if found is not None and len(found) != len(next(iter(feeds.values()))):
        raise SamplesError(
            asked="learn from the samples' labels",
            found=f"labels for {len(found)} of {len(next(iter(feeds.values())))} samples",
            fix="give a label with every batch, or with none",
        )
    return LearningSamples(feeds=feeds, labels=found)


def _add(array: GrowingArray, key: tuple[str, str], rows: Array) -> None:
    try:
        array.add(rows)
    except ValueError as error:
        raise SamplesError(
            asked=f"learn from samples of {key[1]!r}",
            found=str(error),
            fix="give all samples the same dtype and shape: pad, crop or convert them",
        ) from error
