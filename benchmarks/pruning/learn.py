"""One training, in a process that can be killed: `python -m benchmarks.pruning.learn FOLDER`.

FOLDER has `spec.json`: `bits` (4 or 8), `seed`, `rate`, `epochs`, `samples`, `threads`, `checkpoint_every`, and `base`,
the folder of what all trainings share: `net.onnx`, `plan-4.json`, `plan-8.json`, `train.npz`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

__all__ = ["learn_in", "rules_of"]


def rules_of(bits: int) -> object:
    """The dialect of this machine; with convolutions among those whose weights alone are narrow, for four bits."""
    from edgeport.backends.onnxruntime import create_backend

    rules = create_backend().capabilities().rules
    if rules is None:
        raise TypeError("ONNX Runtime has no integer dialect here")
    return replace(rules, weight_operators={**rules.weight_operators, "Conv": 1}) if bits == 4 else rules


def learn_in(folder: Path) -> None:
    """Trains as FOLDER/spec.json says, or goes on; leaves `learned/model.onnx`, `plan.json` and `told.json`."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from benchmarks.quantization.networks import resnet20
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.contracts import Precision, QuantizationPlan, dump_json, load_json
    from edgeport.exporter.qat.options import QatOptions, default_teacher
    from edgeport.exporter.qat.trainer import LearningSamples, learn
    from edgeport.exporter.train import TrainingSettings
    from edgeport.onnx_files import open_onnx

    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    torch.set_num_threads(spec["threads"])
    base = Path(spec["base"])
    with np.load(base / "train.npz") as arrays:
        images, labels = arrays["images"][: spec["samples"]], arrays["labels"][: spec["samples"]]
    plan = load_json(QuantizationPlan, (base / f"plan-{spec['bits']}.json").read_bytes())
    training = TrainingSettings(
        epochs=spec["epochs"], batch_size=64, average=0.98, seed=spec["seed"], checkpoint_every=spec["checkpoint_every"]
    )
    precision = Precision.INT8 if spec["bits"] == 8 else Precision.INT4_WEIGHTS_32
    options = QatOptions(training=training, rate=spec["rate"], teacher=default_teacher(precision, "auto"))
    learnt = learn(
        resnet20().eval(),
        open_onnx(base / "net.onnx"),
        plan,
        rules_of(spec["bits"]),  # type: ignore[arg-type] # checked there
        LearningSamples(feeds={"images": images}, labels=labels),
        open_reference,
        folder=folder / "learned",
        options=options,
        on_progress=lambda event: print(event.done, event.total, event.message, flush=True),
    )
    (folder / "plan.json").write_bytes(dump_json(learnt.result.plan))
    outputs = learnt.outputs({"images": images[:256]})["output"]
    np.save(folder / "outputs.npy", outputs)
    told = {"before": dict(learnt.result.before), "after": dict(learnt.result.after), "steps": learnt.result.steps}
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    learn_in(Path(sys.argv[1]))
