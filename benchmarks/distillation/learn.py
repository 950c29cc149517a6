"""One training in a process of its own, which may be killed and started again: `learn FOLDER`, with FOLDER/spec.json.

Leaves `student.safetensors`, `outputs.npy` (of what is judged) and `told.json`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["learn_in"]


def learn_in(folder: Path) -> None:
    """Trains as FOLDER/spec.json says, or goes on where it was."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from safetensors.torch import save_file

    from benchmarks.distillation.subjects import SUBJECTS
    from edgeport.exporter.distill.distilling import distill
    from edgeport.exporter.distill.loss_factory import make_augment, make_objective
    from edgeport.exporter.distill.options import DistillOptions
    from edgeport.exporter.train import TrainingSettings
    from edgeport.exporter.train.distributed import this_process

    spec: Mapping[str, Any] = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    subject = SUBJECTS[spec["subject"]](spec)
    training = TrainingSettings(
        epochs=spec["epochs"],
        batch_size=spec["batch"],
        seed=spec["seed"],
        precision=spec["precision"],
        # Only the last weights are looked at beside the first ones: the schedule has come to its end by then.
        evaluate_every=spec["epochs"],
        checkpoint_every=40,
    )
    options = DistillOptions(
        training=training,
        optimizer=spec["optimizer"],
        rate=spec["rate"],
        weight_decay=spec["weight_decay"],
        held_out=spec["held_out"],
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
        on_progress=lambda event: print(event.done, event.total, event.message, flush=True),
    )
    student = subject.student.module.cpu().eval()
    save_file({name: one.contiguous() for name, one in student.state_dict().items()}, folder / "student.safetensors")
    np.save(folder / "outputs.npy", subject.outputs(student))
    told = {"objective": result.objective, "before": dict(result.before), "after": dict(result.after)}
    (folder / "told.json").write_text(json.dumps(told | {"steps": result.steps}), encoding="utf-8")


if __name__ == "__main__":
    learn_in(Path(sys.argv[1]))
