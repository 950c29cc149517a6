"""What the inputs of a module may look like, from its signature and its first layers; to be tried in turn."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeport.recipe_init.input_spec import Guess, Kind

if TYPE_CHECKING:
    import torch

__all__ = ["candidates", "required_parameters"]

_SIDES = (224, 32, 28, 64, 96, 128, 160, 256, 299, 384, 512, 16, 8)
"""Of images: that of ImageNet first, then what small data sets and detectors have."""

_LENGTHS = (16, 1024, 16000, 128, 64, 512, 100)
"""Of sequences and signals."""

_ENTRIES = 5
_FLOATS = ("float32", "float64", "float16")
_TOKENS = ("ids", "tokens", "token", "indices", "index", "idx", "words")


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What one layer takes."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    kind: Kind = Kind.VALUES
    high: float = 0.0
    free: tuple[int, ...] = ()


def required_parameters(module: torch.nn.Module) -> tuple[str, ...]:
    """Names of what `forward` must be given; one for `*args`."""
    found: list[str] = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL and not found:
            found.append("x")
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD and parameter.default is inspect.Parameter.empty:
            found.append(parameter.name)
    return tuple(found)


def candidates(module: torch.nn.Module, names: Sequence[str]) -> Iterator[tuple[Guess, ...]]:
    """Combinations of inputs of these names that the module may take, the likeliest first; finite, but many."""
    dtype = _float_of(module)
    entries = list(itertools.islice(_entries(module), _ENTRIES))
    if not names:
        return
    for chosen in _assignments(len(entries), len(names)):
        forms = [
            _forms_for(name, entries[which] if which >= 0 else []) for name, which in zip(names, chosen, strict=True)
        ]
        ranks = itertools.product(*(range(len(each)) for each in forms))
        # Equal sizes first: two images of one model have one size.
        for ranked in sorted(ranks, key=lambda rank: (len(set(rank)), sum(rank))):
            picked = [each[rank] for each, rank in zip(forms, ranked, strict=True)]
            yield tuple(_guess(name, form, dtype) for name, form in zip(names, picked, strict=True))


def _assignments(entries: int, names: int) -> Iterator[tuple[int, ...]]:
    """Which layer takes which input: in their order first, then in any; one layer may take them all."""
    if not entries:
        yield (-1,) * names
        return
    orders = list(itertools.product(range(entries), repeat=names)) if entries**names <= 4 * _ENTRIES**2 else []
    in_order = tuple(min(index, entries - 1) for index in range(names))
    yield in_order
    yield from sorted(
        (order for order in orders if order != in_order), key=lambda order: (-len(set(order)), sum(order), order)
    )


def _float_of(module: torch.nn.Module) -> str:
    for parameter in module.parameters():
        name = str(parameter.dtype).removeprefix("torch.")
        if name in _FLOATS:
            return name
    return "float32"


def _guess(name: str, form: _Form, dtype: str) -> Guess:
    axes = {axis: "time" if len(form.free) == 1 else f"axis{axis}" for axis in form.free}
    return Guess(
        name=name,
        dtype=dtype if form.kind is Kind.VALUES else form.dtype,
        shape=form.shape,
        kind=form.kind,
        high=form.high,
        axes=axes,
        why="guessed: the model runs with it",
    )


def _forms_for(name: str, of_layer: Sequence[_Form]) -> list[_Form]:
    lowered = name.lower()
    if "mask" in lowered:
        masks = [
            _Form(shape=(length,), dtype=dtype, kind=Kind.MASK, free=(1,))
            for length in _LENGTHS[:1]
            for dtype in ("bool", "int64", "float32")
        ]
        return [*masks, *of_layer]
    if lowered.split("_")[-1] in _TOKENS or lowered in _TOKENS:
        tokens = [form for form in of_layer if form.kind is Kind.INTEGERS]
        return tokens or [_Form(shape=(16,), dtype="int64", kind=Kind.INTEGERS, high=9, free=(1,))]
    return list(of_layer) or [_Form(shape=shape) for shape in ((16,), (3, 224, 224), (16, 16), ())]


def _entries(module: torch.nn.Module) -> Iterator[list[_Form]]:  # noqa: C901 (one branch per layer)
    """What each layer takes that may be an input's first, in the order of the module's attributes; each form once."""
    from torch import nn

    seen: list[list[_Form]] = []
    for layer in module.modules():
        forms: list[_Form] = []
        if isinstance(layer, nn.Conv2d):
            forms = [_Form(shape=(layer.in_channels, side, side)) for side in _SIDES]
        elif isinstance(layer, nn.Conv1d):
            forms = [_Form(shape=(layer.in_channels, length), free=(2,)) for length in (1024, 16000, 128, 64, 16)]
        elif isinstance(layer, nn.Conv3d):
            forms = [
                _Form(shape=(layer.in_channels, depth, side, side)) for depth, side in ((16, 112), (8, 32), (8, 64))
            ]
        elif isinstance(layer, nn.Linear):
            features = layer.in_features
            forms = [_Form(shape=(features,)), _Form(shape=(16, features), free=(1,))]
            side = round((features) ** 0.5)
            forms += [_Form(shape=(1, side, side))] if side * side == features else []
        elif isinstance(layer, nn.RNNBase) and layer.batch_first:
            forms = [_Form(shape=(length, layer.input_size), free=(1,)) for length in _LENGTHS]
            forms.append(_Form(shape=(layer.input_size,)))  # of one step, which forward makes a sequence of
        elif isinstance(layer, nn.RNNCellBase):
            forms = [_Form(shape=(layer.input_size,))]
        elif isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            high = layer.num_embeddings - 1
            forms = [
                replace(_Form(shape=(), dtype="int64", kind=Kind.INTEGERS, high=high), shape=shape, free=free)
                for shape, free in (((16,), (1,)), ((), ()), ((128,), (1,)), ((4,), (1,)))
            ]
        elif isinstance(layer, nn.TransformerEncoderLayer) and layer.self_attn.batch_first:
            forms = [_Form(shape=(16, layer.self_attn.embed_dim), free=(1,))]
        if forms and forms not in seen:
            seen.append(forms)
            yield forms
