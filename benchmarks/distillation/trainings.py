"""Trainings by name, each in a process and a folder of its own; what is finished is not done again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["spec_of", "trained"]

_COMMON: Mapping[str, Any] = {"R": [], "lambda": 0.0, "threads": 2, "held_out": 0.02, "taught": True, "augment": ""}


def spec_of(**own: Any) -> dict[str, Any]:
    """What `learn` is told; what is common need not be said."""
    return {**_COMMON, **own}


def trained(folder: Path, spec: Mapping[str, Any]) -> Path:
    """The folder with `outputs.npy`, `student.safetensors`, `told.json`; a training that was stopped goes on.

    Raises:
        ValueError: The folder holds another training.

    """
    text = json.dumps(spec, sort_keys=True)
    file = folder / "spec.json"
    folder.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ValueError(f"{folder} holds a training with other settings: take another --out")
    file.write_text(text, encoding="utf-8")
    if not (folder / "told.json").exists():
        print(f"training {folder.name}", flush=True)
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            subprocess.run([sys.executable, "-m", "benchmarks.distillation.learn", folder], check=True, stdout=log)
    return folder
