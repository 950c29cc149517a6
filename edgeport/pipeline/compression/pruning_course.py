"""What makes the trainings of `edgeport prune` the same, so that a stopped one goes on; and their numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeport.contracts import ModelSource, PruneStep, digest_file, digest_json, to_jsonable
from edgeport.pipeline.output.training_logs import copy_curves, course_places, remove_curves

__all__ = ["course_of", "forget_course", "training_digest"]


def training_digest(
    source: ModelSource, samples: Path, target: str, step: PruneStep, options: Mapping[str, Any]
) -> str:
    """Of all that makes the trainings those of this very pruning.

    Args:
        source: The model.
        samples: `.npz`.
        target: Key of the labels in it.
        step: What is asked.
        options: What else decides what is trained.

    """
    from edgeport.code_version import code_version
    from edgeport.pipeline.compression.qat import digest_of_function
    from edgeport.pipeline.engine.context import tool_versions
    from edgeport.pipeline.source_model.export import source_files

    functions = (source.location, *step.functions)
    key = {
        "pruned": to_jsonable(source) | {"weights": "", **source_files(source)},
        "functions": [digest_of_function(one, source.search_path) for one in functions],
        "samples": [digest_file(samples), target],
        "step": to_jsonable(step),
        "options": options,
        "versions": tool_versions(),
    }
    return digest_json([key, code_version()])


def course_of(folder: Path, output: Path) -> Path:
    """The numbers of all trainings beside the output, a JSON object per line, each with the step that it followed.

    Args:
        folder: With a folder `step-N` for each.
        output: The pruned file; `NAME.metrics.jsonl` and `NAME.tensorboard/step-N` come beside it.

    """
    log, curves = course_places(output)
    remove_curves(curves)
    folders = sorted(folder.glob("step-*"), key=lambda one: int(one.name.removeprefix("step-")))
    lines = [
        json.dumps({"after": int(one.name.removeprefix("step-")), **json.loads(line)})
        for one in folders
        for line in (one / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    log.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for one in folders:
        copy_curves(one, curves / one.name)
    return log


def forget_course(output: Path) -> None:
    """Takes away the course of a training whose weights are written over by such that nobody trained."""
    log, curves = course_places(output)
    log.unlink(missing_ok=True)
    remove_curves(curves)
