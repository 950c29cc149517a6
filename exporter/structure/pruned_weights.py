"""A pruned network on disk: one safetensors file, which says in its header what the module must become to hold it.

The user's own code builds the module as ever; then what is smaller in the file is made smaller in the module. Nothing
of the user's code is changed, and nothing in the file is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.errors import SourceError
from edgeport.exporter.checkpoint import write_weights
from edgeport.exporter.structure.heads import find_heads
from edgeport.exporter.structure.layers import is_depthwise, refresh
from edgeport.exporter.structure.passed_blocks import pass_through, passed_through

if TYPE_CHECKING:
    import torch

__all__ = ["KEY", "Record", "fit", "is_pruned", "read_record", "save_like", "save_pruned"]

KEY = "edgeport.pruning"
"""In the header of the file."""
_VERSION = 1
_ATTRIBUTE = re.compile(r"(?!_)\w+")
_MOST_ENTRIES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the shapes of the tensors do not tell.

    Attributes:
        sizes: Path and attribute ("layer.attention.num_heads") to the number that `forward` reads there. The `groups`
            of a depthwise convolution are among them: it may have had a multiplier, which tells them from no shape.
        blocks: Path of a block that is gone to whether it returned a tuple.

    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    blocks: Mapping[str, bool] = field(default_factory=dict)


def save_pruned(module: torch.nn.Module, path: Path) -> None:
    """Writes the weights with the record, as safetensors."""
    sizes: dict[str, int] = {}
    for group in find_heads(module, least=1):
        for holder, attribute in group.sizes:
            sizes[f"{holder}.{attribute}" if holder else attribute] = int(
                getattr(module.get_submodule(holder), attribute)
            )
    sizes |= {f"{layer}.groups": one.groups for layer, one in module.named_modules() if layer and is_depthwise(one)}
    record = {"schema_version": _VERSION, "sizes": sizes, "blocks": passed_through(module)}
    write_weights(module, path, {KEY: json.dumps(record, sort_keys=True)})


def save_like(given: str | None, module: torch.nn.Module, path: Path) -> None:
    """Writes the weights of a module in the form of those that it began with: what was pruned stays so.

    Args:
        given: Path of the weights that it began with, if there are any.
        module: As it is now.
        path: Of the safetensors.

    """
    if given and is_pruned(Path(given)):
        save_pruned(module, path)
    else:
        write_weights(module, path)


def is_pruned(path: Path) -> bool:
    """Whether a file is one of `save_pruned`; only its header is read."""
    return path.suffix == ".safetensors" and path.is_file() and read_record(path) is not None


def read_record(path: Path) -> Record | None:
    """The record in a safetensors file; None where there is none.

    Raises:
        SourceError: It can't be read.

    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError, ValueError):
        return None  # whoever reads the tensors says what is wrong
    if text is None:
        return None
    try:
        values = json.loads(text)
        if values["schema_version"] != _VERSION:
            raise _refused(path, f"a record of version {values['schema_version']}")
        sizes, blocks = values["sizes"], values["blocks"]
        whole = all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in sizes.values())
        plain = all(isinstance(one, bool) for one in blocks.values())
        if not whole or not plain or len(sizes) + len(blocks) > _MOST_ENTRIES:
            raise _refused(path, "a damaged record")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(path, "a damaged record") from error
    return Record(sizes=sizes, blocks=blocks)


def fit(module: torch.nn.Module, weights: Mapping[str, torch.Tensor], record: Record, path: Path) -> None:
    """Makes the module as small as the weights are, in place; their values are not loaded.

    Args:
        module: As its own code builds it.
        weights: By name.
        record: What came with them.
        path: Of the file, for messages.

    Raises:
        SourceError: The weights are of another network: a tensor that is larger, or has other axes, or a size or block
            that the module does not have.

    """
    layers = dict(module.named_modules())
    for name, returns_tuple in record.blocks.items():
        holder, _, child = name.rpartition(".")
        if not name or name not in layers:
            raise _refused(path, f"that a block {name!r} is gone, which {type(module).__name__} never had")
        layers[holder].register_module(child, pass_through(returns_tuple=returns_tuple))
    touched: dict[str, None] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        given = weights.get(name)
        if given is None or given.shape == tensor.shape:
            continue
        if given.ndim != tensor.ndim or any(new > old for new, old in zip(given.shape, tensor.shape, strict=True)):
            raise _refused(
                path,
                f"{name} of {list(given.shape)}, which is no part of {list(tensor.shape)} in {type(module).__name__}",
            )
        holder, _, attribute = name.rpartition(".")
        _replace(module.get_submodule(holder), attribute, given)
        touched[holder] = None
    for name, size in record.sizes.items():
        _resize(module, name, size, path)
    for holder in touched:
        refresh(module.get_submodule(holder))


def _replace(layer: torch.nn.Module, name: str, given: torch.Tensor) -> None:
    import torch

    old = getattr(layer, name)
    empty = torch.empty(given.shape, dtype=old.dtype, device=old.device)
    if isinstance(old, torch.nn.Parameter):
        setattr(layer, name, torch.nn.Parameter(empty, requires_grad=old.requires_grad))
    else:
        setattr(layer, name, empty)


def _resize(module: torch.nn.Module, name: str, size: int, path: Path) -> None:
    holder, _, attribute = name.rpartition(".")
    layers = dict(module.named_modules())
    old: Any = layers[holder].__dict__.get(attribute) if holder in layers and _ATTRIBUTE.fullmatch(attribute) else None
    if not isinstance(old, int) or isinstance(old, bool) or size > old:
        raise _refused(path, f"{name} = {size}, where {type(module).__name__} has {old}")
    setattr(layers[holder], attribute, size)


def _refused(path: Path, found: str) -> SourceError:
    return SourceError(
        asked=f"load the pruned weights {path.name}",
        found=found,
        fix="build the model with the arguments that it was pruned with, or prune it again",
    )
