"""Inputs that a model feeds itself: which they are, what they look like, and which outputs they come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgeport.recipe_init.input_spec import Guess, Kind

if TYPE_CHECKING:
    import torch

__all__ = ["SEQUENCES", "alike_in_shape", "first_quarter", "is_state_name", "likely_links", "state_candidates"]

SEQUENCES = (
    *("sequence", "sequences", "sequence_id", "seq", "seq_id", "clip", "clip_id", "session", "session_id"),
    *("episode", "episode_id", "utterance", "utterance_id", "recording", "recording_id", "group", "group_id"),
    *("sound", "stream", "track", "video"),
)
"""Names of arrays that usually say which sequence a sample is a step of."""

_WORDS = frozenset(
    {
        "state",
        "states",
        "hidden",
        "cell",
        "h",
        "c",
        "h0",
        "c0",
        "hn",
        "cn",
        "hx",
        "cx",
        "hc",
        "memory",
        "carry",
        "cache",
    }
)
_AROUND = frozenset({"new", "next", "out", "output", "updated", "n", "in", "input", "prev", "previous", "last", "old"})


def is_state_name(name: str) -> bool:
    """It is called as states are: "state", "h0", "prev_hidden", "cell_in"."""
    return not _WORDS.isdisjoint(_parts(name))


def _parts(name: str) -> list[str]:
    """The words in a name: prev, hidden and state in `prev_hiddenState`."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d?|\d+", name)]


def _stem(name: str) -> tuple[str, ...]:
    """Without what tells an output from the input that it feeds: "next_h" and "h_in" are "h"."""
    return tuple(part for part in _parts(name) if part not in _AROUND)


def first_quarter(starts: Sequence[int], count: int) -> int:
    """Index of the sample at which the first quarter of the sequences ends, as the written module has it.

    Args:
        starts: Where sequences begin.
        count: Of samples.

    """
    return starts[max(1, len(starts) // 4)] if len(starts) > 1 else count // 4


def likely_links(
    inputs: Mapping[str, Sequence[int | str]], outputs: Mapping[str, Sequence[int | str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Output to the input that it feeds: where that is clear, and where it is but possible.

    It is clear where an input is called as states are and an output of its shape is there; those of alike names first,
    then in their order. It is possible where the names are alike but say nothing of a state.

    Args:
        inputs: Shapes by name.
        outputs: The same.

    """
    clear: dict[str, str] = {}
    possible: dict[str, str] = {}
    for name, shape in inputs.items():
        free = [one for one, of in outputs.items() if one not in clear and alike_in_shape(of, shape)]
        alike = [
            one
            for one in free
            if (_stem(name) and _stem(one) == _stem(name)) or name in (one.removesuffix("_out"), one.rstrip("N"))
        ]
        if is_state_name(name):
            # What is called as another input's state is that one's; and states come behind what is judged.
            others = [one for one in free if not any(_stem(one) == _stem(other) for other in inputs if other != name)]
            waiting = [
                other
                for other, of in inputs.items()
                if is_state_name(other) and other not in clear.values() and alike_in_shape(of, shape)
            ]
            clear |= dict.fromkeys((alike or others[max(0, len(others) - len(waiting)) :])[:1], name)
        elif alike and any(part in _AROUND for part in _parts(alike[0])):
            possible[alike[0]] = name
    if len(clear) == len(outputs):
        return {}, clear  # nothing would be left to judge
    return clear, possible


def alike_in_shape(one: Sequence[int | str], other: Sequence[int | str]) -> bool:
    """Equal, as far as sizes are known; the same number of axes."""
    return len(one) == len(other) and all(
        a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(one, other, strict=True)
    )


def state_candidates(module: torch.nn.Module, names: Sequence[str]) -> Iterator[tuple[Guess, ...]]:
    """What parameters that are called as states may be fed: the shapes of the module's recurrent layers."""
    from torch import nn

    sizes: list[tuple[tuple[int, ...], int, bool]] = []
    for layer in module.modules():
        if isinstance(layer, nn.RNNBase):
            hidden = layer.proj_size or layer.hidden_size
            layers = layer.num_layers * (2 if layer.bidirectional else 1)
            sizes.append(((layers, hidden), 1, isinstance(layer, nn.LSTM)))
        elif isinstance(layer, nn.RNNCellBase):
            sizes.append(((layer.hidden_size,), 0, isinstance(layer, nn.LSTMCell)))
    for shape, axis, is_lstm in dict.fromkeys(sizes):
        if is_lstm and len(names) == 1:
            yield tuple(_state(f"{names[0]}_{part}", shape, axis) for part in (0, 1))
        yield tuple(_state(name, shape, axis) for name in names)
    if len(sizes) == len(names) > 1:
        yield tuple(_state(name, shape, axis) for name, (shape, axis, _) in zip(names, sizes, strict=True))


def _state(name: str, shape: tuple[int, ...], axis: int) -> Guess:
    return Guess(name=name, shape=shape, kind=Kind.STATE, batch_axis=axis, why="a state, which begins with zeros")
