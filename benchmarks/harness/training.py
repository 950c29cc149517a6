"""Trainings, each in a process and a folder of its own, that may be killed and started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.harness.kept import write
from edgeport.contracts import ProgressEvent
from edgeport.hardware import cpu_flags


def quick_precision() -> Literal["bf16", "fp32"]:
    """bf16 where it is computed in one instruction; else autocast would be slower than float32."""
    here = torch.cuda.is_available() or not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
    return "bf16" if here else "fp32"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch draws by this seed within, and goes on after it as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def command(module: str, folder: Path, spec: Mapping[str, Any]) -> list[str]:
    """The command that trains in the folder as `spec.json` there says.

    Raises:
        ValueError: The folder holds another training.

    """
    text, file = json.dumps(spec, sort_keys=True), folder / "spec.json"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ValueError(f"{folder} holds a training with other settings: take another --out")
    write(file, text)
    return [sys.executable, "-m", module, str(folder)]


def trained(module: str, folder: Path, spec: Mapping[str, Any]) -> Path:
    """The folder with what the module's `main` leaves; a training that was stopped goes on."""
    arguments = command(module, folder, spec)
    if not (folder / "told.json").exists():
        print(f"training {folder.name}", flush=True)
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            subprocess.run(arguments, check=True, stdout=log)
    return folder


def main(learn: Callable[[Path, Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """In that process: learn as FOLDER/spec.json says; what `learn` returns, JSON values, is kept as `told.json`."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder = Path(sys.argv[1])
    facts = learn(folder, json.loads((folder / "spec.json").read_text(encoding="utf-8")))
    write(folder / "told.json", json.dumps(facts))


def tell(event: ProgressEvent) -> None:
    """Print a step of a training."""
    print(event.done, event.total, event.message, flush=True)
