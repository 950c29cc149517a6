"""Attention heads, in the layouts whose `forward` reads its number of heads from the module.

`torch.nn.MultiheadAttention` ties the number of heads to the width of its input, and so does torchvision's Swin: their
heads can't be removed without other code, and are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeport.exporter.structure.groups import Group, Kind, Slice

if TYPE_CHECKING:
    import torch

__all__ = ["find_heads"]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How a library writes attention.

    Attributes:
        giving: Linear layers whose outputs are queries, keys and values, each part divided into heads.
        parts: How many of the three one such layer holds.
        reading: The Linear that reads the heads; "../" is the module around.
        count: Attribute with the number of heads.
        sizes: Attributes with the width of all heads, where there are such.

    """

    giving: tuple[str, ...]
    reading: str
    count: str
    parts: int = 1
    sizes: tuple[str, ...] = ()


_LAYOUTS = (
    _Layout(giving=("qkv",), parts=3, reading="proj", count="num_heads", sizes=("attn_dim",)),
    _Layout(giving=("query", "key", "value"), reading="../output.dense", count="num_attention_heads",
            sizes=("all_head_size",)),
    _Layout(giving=("q_lin", "k_lin", "v_lin"), reading="out_lin", count="n_heads", sizes=("dim",)),
)  # fmt: skip
"""timm, BERT and its like of transformers, DistilBERT."""


def find_heads(module: torch.nn.Module, least: int = 2) -> Iterator[Group]:
    """The heads of each attention in a known layout that has so many; whether they can go is still to be tried."""
    layers = dict(module.named_modules())
    for path, layer in layers.items():
        for layout in _LAYOUTS:
            group = _heads(path, layer, layout, layers)
            if group is not None and group.units >= least:
                yield group
                break


def _heads(path: str, attention: torch.nn.Module, layout: _Layout, layers: Mapping[str, Any]) -> Group | None:
    import torch

    heads = getattr(attention, layout.count, None)
    giving = [_joined(path, name) for name in layout.giving]
    reading = _joined(path, layout.reading)
    linears = [layers.get(name) for name in (*giving, reading)]
    if not isinstance(heads, int) or heads < 1 or not all(isinstance(one, torch.nn.Linear) for one in linears):
        return None
    width = int(layers[reading].in_features)
    if width % heads or any(layers[name].out_features != layout.parts * width for name in giving):
        return None
    each = width // heads
    places = torch.arange(width)
    units = places // each
    slices = [Slice(module=reading, tensor="weight", axis=1, indices=places, units=units, incoming=True)]
    for name in giving:
        rows = torch.cat([places + part * width for part in range(layout.parts)])
        slices += [
            Slice(module=name, tensor=tensor, axis=0, indices=rows, units=units.repeat(layout.parts))
            for tensor in ("weight", "bias")
            if getattr(layers[name], tensor) is not None
        ]
    sizes = {(path, layout.count): 1}
    sizes |= {(path, name): each for name in layout.sizes if getattr(attention, name, None) == width}
    return Group(name=path, kind=Kind.HEADS, units=heads, width=each, slices=tuple(slices), sizes=sizes)


def _joined(path: str, name: str) -> str:
    if name.startswith("../"):
        path, name = path.rpartition(".")[0], name.removeprefix("../")
    return f"{path}.{name}" if path else name
