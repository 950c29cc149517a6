"""All that a training needs to go on, in one file: tensors as safetensors, the rest as JSON in its header.

One file is replaced as a whole, so a kill leaves the last checkpoint or the one before it, never half of one. Nothing
is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgeport.atomic import atomic_file
from edgeport.errors import TrainingError

__all__ = ["Checkpoint", "load_optimizer", "optimizer_state", "read_checkpoint", "write_checkpoint"]

_KEY = "edgeport.training"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A moment of a training.

    Attributes:
        tensors: By name.
        values: JSON values by name.

    """

    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any] = field(default_factory=dict)

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin so, without that beginning."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replaces the file, on disk before it has its name."""
    from safetensors.torch import save_file

    # Tied weights are one tensor to PyTorch, which the format refuses; both names get a copy.
    tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in checkpoint.tensors.items()}
    with atomic_file(path) as draft:
        save_file(tensors, draft, metadata={_KEY: json.dumps(checkpoint.values, sort_keys=True)})


def read_checkpoint(path: Path) -> Checkpoint:
    """What was written.

    Raises:
        TrainingError: Damaged, or no checkpoint.

    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[_KEY])
            return Checkpoint(tensors={name: file.get_tensor(name) for name in file.keys()}, values=values)  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(
            asked=f"go on from {path.name}",
            found=f"no checkpoint of a training ({error})",
            fix="remove the file, and train from the start",
        ) from error


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Its state as tensors named `<parameter>.<key>`, and JSON values: its groups, and what is no tensor."""
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for parameter, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{parameter}.{key}"] = value
            else:
                plain.setdefault(str(parameter), {})[key] = value
    return tensors, {"groups": state["param_groups"], "plain": plain}


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]
) -> None:
    """Puts it back."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        parameter, _, key = name.partition(".")
        state.setdefault(int(parameter), {})[key] = value
    for parameter, entries in values["plain"].items():
        state.setdefault(int(parameter), {}).update(entries)
    groups = [
        {key: tuple(value) if isinstance(value, list) and key != "params" else value for key, value in group.items()}
        for group in values["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
