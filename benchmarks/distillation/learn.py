"""One training in a process of its own, which may be killed and started again: `learn FOLDER`, with FOLDER/spec.json.

Leaves `student.safetensors`, `outputs.npy` (of what is judged) and `told.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from benchmarks.distillation.subjects import SUBJECTS
from benchmarks.harness import training
from edgeport.exporter.distill.distilling import distill
from edgeport.exporter.distill.loss_factory import make_augment, make_objective
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.distributed import this_process


def spec_of(**own: Any) -> dict[str, Any]:
    """What `learn_in` is told; what is common need not be said."""
    return {"R": [], "lambda": 0.0, "held_out": 0.02, "taught": True, "augment": "", **own}


def learn_in(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Trains, or goes on where it was."""
    subject = SUBJECTS[spec["subject"]](spec)
    settings = TrainingSettings(
        epochs=spec["epochs"],
        batch_size=spec["batch"],
        seed=spec["seed"],
        precision=spec["precision"],
        # Only the last weights are looked at beside the first ones: the schedule has come to its end by then.
        evaluate_every=spec["epochs"],
        checkpoint_every=40,
    )
    options = DistillOptions(
        training=settings,
        **{name: spec[name] for name in ("optimizer", "rate", "weight_decay", "held_out")},
    )
    result = distill(
        subject.student,
        subject.teacher if spec["taught"] else None,
        subject.samples,
        make_objective(spec["L"], spec["R"], spec["lambda"]),
        folder=folder / "training",
        options=options,
        augment=make_augment(spec["augment"]),
        hardware=this_process("auto"),
        on_progress=training.tell,
    )
    student = subject.student.module.cpu().eval()
    save_file({name: one.contiguous() for name, one in student.state_dict().items()}, folder / "student.safetensors")
    np.save(folder / "outputs.npy", subject.outputs(student))
    before_after = {"before": dict(result.before), "after": dict(result.after)}
    return {"objective": result.objective, **before_after, "steps": result.steps}


if __name__ == "__main__":
    training.main(learn_in)
