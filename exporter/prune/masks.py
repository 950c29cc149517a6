"""Zeros in weights: anywhere, or N of every M; they stay zeros while the network is trained on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.utils import prune
from torch.utils.hooks import RemovableHandle

from edgeport.errors import PruningError
from edgeport.exporter.prune.allocation import Scope
from edgeport.exporter.prune.importance.granularity import weights_of

__all__ = ["apply_masks", "masks_of", "pattern_masks", "settle_masks", "share_of_zeros", "unstructured_masks"]


def unstructured_masks(
    scores: Mapping[str, torch.Tensor], amount: float, scope: Scope = Scope.GLOBAL
) -> dict[str, torch.Tensor]:
    """Masks (bool, True stays) without the given share of entries: those of the lowest scores.

    Args:
        scores: By the weight's name.
        amount: 0..1, of all weights or of each.
        scope: What competes.

    """
    if scope is Scope.LAYER:
        return {name: _keep(score.flatten(), amount).reshape(score.shape) for name, score in scores.items()}
    flat = torch.cat([score.flatten() for score in scores.values()])
    kept, masks, start = _keep(flat, amount), {}, 0
    for name, score in scores.items():
        masks[name] = kept[start : start + score.numel()].reshape(score.shape)
        start += score.numel()
    return masks


def _keep(scores: torch.Tensor, amount: float) -> torch.Tensor:
    keep = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    count = round(amount * len(scores))
    if count:
        keep[torch.topk(scores, count, largest=False).indices] = False
    return keep


def pattern_masks(
    scores: Mapping[str, torch.Tensor], keep: int, of: int
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Masks that leave the best `keep` of every `of` entries along axis 1, the inputs of a layer.

    Mishra et al., "Accelerating Sparse Deep Neural Networks" (2021): so do the sparse tensor cores want it.

    Args:
        scores: By the weight's name, [outputs, inputs, ...].
        keep: N.
        of: M.

    Returns:
        Masks (bool, True stays), and the names of the weights whose inputs are no multiple of M, which are left.

    """
    masks, left = {}, []
    for name, score in scores.items():
        if score.shape[1] % of:
            left.append(name)
            continue
        rows = score.movedim(1, -1).contiguous()
        parts = rows.reshape(-1, of)
        mask = torch.zeros_like(parts, dtype=torch.bool)
        mask.scatter_(1, torch.topk(parts, keep, dim=1).indices, value=True)
        masks[name] = mask.reshape(rows.shape).movedim(-1, 1).contiguous()
    if not masks:
        raise PruningError(
            asked=f"leave {keep} of every {of} weights",
            found=f"{len(left)} layers, none with a multiple of {of} inputs",
            fix="take another pattern, or prune without one",
        )
    return masks, tuple(left)


def apply_masks(module: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> RemovableHandle:
    """Puts the masks in front of the weights by torch.nn.utils.prune, so that training leaves the zeros zero.

    Returns:
        Of a hook that does so again whenever the module is called, not their layer alone: attention reads the weight of
        its last layer without calling that.

    """
    for name, mask in masks.items():
        path, _, tensor = name.rpartition(".")
        prune.custom_from_mask(module.get_submodule(path), tensor, mask)  # type: ignore[no-untyped-call]
    return module.register_forward_pre_hook(_put_anew)


def _put_anew(module: torch.nn.Module, args: tuple[object, ...]) -> None:
    del args
    for name in masks_of(module):
        path, _, tensor = name.rpartition(".")
        layer = module.get_submodule(path)
        setattr(layer, tensor, getattr(layer, f"{tensor}_mask") * getattr(layer, f"{tensor}_orig"))


def masks_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The masks that stand in front of weights now, by the weights' names."""
    parameters, buffers = dict(module.named_parameters(remove_duplicate=False)), dict(module.named_buffers())
    names = [name.removesuffix("_mask") for name in buffers if name.endswith("_mask")]
    return {name: buffers[f"{name}_mask"].bool() for name in names if f"{name}_orig" in parameters}


def settle_masks(module: torch.nn.Module) -> None:
    """Writes the zeros into the weights, and takes the masks away."""
    for name in masks_of(module):
        path, _, tensor = name.rpartition(".")
        prune.remove(module.get_submodule(path), tensor)  # type: ignore[no-untyped-call]


def share_of_zeros(module: torch.nn.Module) -> float:
    """Of all weights of convolutions, fully connected and recurrent layers."""
    weights = list(weights_of(module).values())
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0
