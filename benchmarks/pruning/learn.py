"""One training, in a process that can be killed: `python -m benchmarks.pruning.learn FOLDER`.

FOLDER has `spec.json`: `bits` (4 or 8), `seed`, `rate`, `epochs`, `samples`, `threads`, `checkpoint_every`, and `base`,
the folder of what all trainings share: `net.onnx`, `plan-4.json`, `plan-8.json`, `train.npz`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import training
from benchmarks.harness.networks import resnet20
from edgeport.backends.onnxruntime import create_backend
from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.contracts import Precision, QuantizationPlan, QuantizationRules, dump_json, load_json
from edgeport.exporter.qat.options import QatOptions, default_teacher
from edgeport.exporter.qat.trainer import LearningSamples, learn
from edgeport.exporter.train import TrainingSettings
from edgeport.onnx_files import open_onnx


def rules_of(bits: int) -> QuantizationRules:
    """The dialect of this machine; with convolutions among those whose weights alone are narrow, for four bits."""
    rules = create_backend().capabilities().rules
    if rules is None:
        raise TypeError("ONNX Runtime has no integer dialect here")
    return replace(rules, weight_operators={**rules.weight_operators, "Conv": 1}) if bits == 4 else rules


def learn_in(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Trains, or goes on; leaves `learned/model.onnx`, `plan.json` and `outputs.npy`."""
    torch.set_num_threads(spec["threads"])
    base = Path(spec["base"])
    with np.load(base / "train.npz") as arrays:
        images, labels = arrays["images"][: spec["samples"]], arrays["labels"][: spec["samples"]]
    settings = TrainingSettings(
        epochs=spec["epochs"], batch_size=64, average=0.98, seed=spec["seed"], checkpoint_every=spec["checkpoint_every"]
    )
    precision = Precision.INT8 if spec["bits"] == 8 else Precision.INT4_WEIGHTS_32
    learnt = learn(
        resnet20().eval(),
        open_onnx(base / "net.onnx"),
        load_json(QuantizationPlan, (base / f"plan-{spec['bits']}.json").read_bytes()),
        rules_of(spec["bits"]),
        LearningSamples(feeds={"images": images}, labels=labels),
        open_reference,
        folder=folder / "learned",
        options=QatOptions(training=settings, rate=spec["rate"], teacher=default_teacher(precision, "auto")),
        on_progress=training.tell,
    )
    (folder / "plan.json").write_bytes(dump_json(learnt.result.plan))
    np.save(folder / "outputs.npy", learnt.outputs({"images": images[:256]})["output"])
    return {"before": dict(learnt.result.before), "after": dict(learnt.result.after), "steps": learnt.result.steps}


if __name__ == "__main__":
    training.main(learn_in)
