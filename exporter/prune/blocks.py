"""Whole residual blocks: those that change least of what goes through them are taken out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeport.errors import PruningError
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.silence import quiet
from edgeport.exporter.structure.passed_blocks import pass_through

if TYPE_CHECKING:
    import torch

__all__ = ["Block", "find_blocks", "remove_blocks"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A module that may be left out, because what leaves it has the shape of what enters.

    Attributes:
        path: Of the module.
        returns_tuple: It returns its result in a tuple.
        influence: 1 minus the mean cosine between what enters and what leaves: Men et al., "ShortGPT: Layers in Large
            Language Models are More Redundant Than You Expect" (2024), section 3.2. The lowest go first.

    """

    path: str
    returns_tuple: bool
    influence: float


def find_blocks(module: torch.nn.Module, samples: Samples) -> tuple[Block, ...]:
    """Members of a sequence of modules of one class that give what they take, in shape; each was tried.

    Args:
        module: In evaluation mode; it is not changed.
        samples: The influence is over these.

    Raises:
        PruningError: There is none.

    """
    import torch

    candidates = [
        f"{path}.{name}" if path else name
        for path, holder in module.named_modules()
        if isinstance(holder, torch.nn.Sequential | torch.nn.ModuleList)
        for name, child in holder.named_children()
        if sum(type(other) is type(child) for other in holder.children()) > 1 and list(child.children())
    ]
    seen: dict[str, list[float]] = {}
    tuples: dict[str, bool] = {}
    handles = [module.get_submodule(path).register_forward_hook(_watching(path, seen, tuples)) for path in candidates]
    try:
        with torch.no_grad():
            for rows in samples.batches():
                samples.outputs(module, rows)
    finally:
        for handle in handles:
            handle.remove()
    found = [
        Block(path=path, returns_tuple=tuples[path], influence=sum(values) / len(values))
        for path, values in seen.items()
        if values
    ]
    found = [one for one in found if _runs_without(module, one, samples.first(2))]
    if not found:
        raise PruningError(
            asked="find blocks that can be removed",
            found="no repeated module that gives what it takes, in shape",
            fix="prune channels instead",
        )
    return tuple(found)


def _watching(path: str, seen: dict[str, list[float]], tuples: dict[str, bool]) -> Any:
    import torch

    def see(_: object, arguments: tuple[Any, ...], result: Any) -> None:
        left = result[0] if isinstance(result, tuple) else result
        entered = arguments[0] if arguments else None
        if not isinstance(entered, torch.Tensor) or not isinstance(left, torch.Tensor) or entered.shape != left.shape:
            seen[path] = []
            return
        tuples[path] = isinstance(result, tuple)
        cosine = torch.nn.functional.cosine_similarity(entered.float().flatten(1), left.float().flatten(1), dim=1)
        seen.setdefault(path, []).append(1.0 - float(cosine.mean()))

    return see


def _runs_without(module: torch.nn.Module, block: Block, samples: Samples) -> bool:
    import torch

    try:
        with quiet(), torch.no_grad():
            before = {name: value.shape for name, value in samples.outputs(module).items()}
            shorter = copy.deepcopy(module)
            remove_blocks(shorter, [block])
            return before == {name: value.shape for name, value in samples.outputs(shorter).items()}
    except Exception:  # noqa: BLE001 (the user's forward raises anything: then the block stays)
        return False


def remove_blocks(module: torch.nn.Module, blocks: Sequence[Block]) -> None:
    """Puts what passes its input on in the place of each block."""
    for block in blocks:
        path, _, name = block.path.rpartition(".")
        holder = module.get_submodule(path)
        holder.register_module(name, pass_through(returns_tuple=block.returns_tuple))
