"""A checkpoint's weights into a module, which is first made as small as a pruned checkpoint is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.errors import SourceError
from edgeport.exporter.checkpoint import is_safetensors, read_state_dict
from edgeport.exporter.structure.pruned_weights import fit, read_record

if TYPE_CHECKING:
    import torch

__all__ = ["load_weights"]

_SHOWN = 5
"""Names listed in a message; the details hold them all."""


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Puts a checkpoint's weights into the module; every name and shape must fit.

    A file of `edgeport.exporter.prune` first makes the module as small as the weights are.

    Raises:
        UnsafeFileError, SourceError: As `read_state_dict`; also names or shapes that do not fit.

    """
    weights = read_state_dict(path)
    record = read_record(path) if is_safetensors(path) else None
    if record is not None:
        fit(module, weights, record, path)
    wanted = module.state_dict()
    # The counter takes no part in inference, and files of old releases do not have it.
    missing = sorted(name for name in wanted.keys() - weights.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(weights.keys() - wanted.keys())
    shapes = {
        name: (tuple(weights[name].shape), tuple(wanted[name].shape))
        for name in sorted(weights.keys() & wanted.keys())
        if weights[name].shape != wanted[name].shape
    }
    if missing or unexpected or shapes:
        raise SourceError(
            asked=f"load the weights {path.name} into {type(module).__name__}",
            found="; ".join(_mismatch(missing, unexpected, shapes)),
            fix="build the model with the arguments that it was trained with, or give its own checkpoint",
            details={
                "missing": missing,
                "unexpected": unexpected,
                "shapes": {name: [list(file), list(model)] for name, (file, model) in shapes.items()},
            },
        )
    module.load_state_dict(weights, strict=False)


def _mismatch(
    missing: list[str], unexpected: list[str], shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
) -> list[str]:
    def some(names: list[str]) -> str:
        return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")

    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({some(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({some(unexpected)})")
    if shapes:
        told = [f"{name}: {file} in the file, {model} in the model" for name, (file, model) in shapes.items()]
        parts.append(f"{len(shapes)} of another shape ({some(told)})")
    return parts
