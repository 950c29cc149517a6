"""Trainings by name, each in a process and a folder of its own, and rows by key; what is finished is not done again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgeport.contracts import digest_json

__all__ = ["kept_row", "quick_precision", "spec_of", "trained"]

T = TypeVar("T")

_COMMON: Mapping[str, Any] = {"R": [], "lambda": 0.0, "held_out": 0.02, "taught": True, "augment": ""}


def spec_of(**own: Any) -> dict[str, Any]:
    """What `learn` is told; what is common need not be said."""
    return {**_COMMON, **own}


def quick_precision() -> Literal["bf16", "fp32"]:
    """bf16 where it is computed in one instruction; else autocast would be slower than float32."""
    import torch

    from edgeport.hardware import cpu_flags

    here = torch.cuda.is_available() or not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
    return "bf16" if here else "fp32"


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


def kept_row(folder: Path, name: str, key: Mapping[str, Any], make: Callable[[Path], T]) -> T:
    """The JSON value that is kept for the key, or what is made now; so a stopped run goes on row by row.

    `make` gets a folder of this row alone. Other settings are another key: what they gave stays beside it.
    """
    place = folder / f"{name}-{digest_json(dict(key))[:12]}"
    file = place / "row.json"
    if not file.exists():
        place.mkdir(parents=True, exist_ok=True)
        made = {"key": dict(key), "value": make(place)}
        part = file.with_suffix(".part")
        part.write_text(json.dumps(made), encoding="utf-8")
        part.replace(file)
    found: T = json.loads(file.read_text(encoding="utf-8"))["value"]
    return found
