"""Whatever a forward pass returns, as tensors by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgeport.errors import ExportError

if TYPE_CHECKING:
    import torch

__all__ = ["constant_outputs", "name_outputs"]

_CONSTANT = (bool, int, float, str)


def name_outputs(result: object) -> dict[str, torch.Tensor]:
    """The tensors in whatever a forward pass returned, named by where they stand.

    A lone tensor is `output`, parts of a tuple are `output_0`, ..., of a dict or dataclass their keys; a list
    under a key is `key_0`, a dict under a key `key.inner`. None is left out, and so are Python's own numbers and texts
    (`constant_outputs`), for they are the same whatever is fed.

    Raises:
        ExportError: Something that is neither.

    """
    import torch

    named: dict[str, torch.Tensor] = {}
    for path, leaf in _leaves(result, ""):
        if leaf is None or isinstance(leaf, _CONSTANT):
            continue
        if not isinstance(leaf, torch.Tensor):
            raise ExportError(
                asked="export what the model returns",
                found=f"{leaf!r:.60} ({type(leaf).__name__}) as {path}, which is no tensor",
                fix="return tensors only: a tensor, or tuples, lists, dicts and dataclasses of tensors",
            )
        name = path
        while name in named:
            name += "_"
        named[name] = leaf
    if not named:
        raise ExportError(asked="export what the model returns", found="no tensor", fix="return at least one tensor")
    return named


def constant_outputs(result: object) -> dict[str, object]:
    """Python's own numbers and texts among what was returned, by name."""
    return {path: leaf for path, leaf in _leaves(result, "") if isinstance(leaf, _CONSTANT)}


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """In the order in which torch flattens them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, _joined(path, key))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name, inner in zip(value._fields, value, strict=True):
            yield from _leaves(inner, _joined(path, name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path or 'output'}_{index}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            yield from _leaves(getattr(value, each.name), _joined(path, each.name))
    elif _is_known(value):
        yield from _registered(value, path)
    else:
        yield path or "output", value


def _joined(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _is_known(value: object) -> bool:
    from torch.utils import _pytree as pytree

    return type(value) in pytree.SUPPORTED_NODES


def _registered(value: object, path: str) -> Iterator[tuple[str, object]]:
    """A class that somebody taught torch to flatten: by its own keys, or by index."""
    from torch.utils import _pytree as pytree

    node = pytree.SUPPORTED_NODES[type(value)]
    if node.flatten_with_keys_fn is not None:
        pairs, _ = node.flatten_with_keys_fn(value)
        for key, inner in pairs:
            part: Any = getattr(key, "idx", None)
            name = f"{path or 'output'}_{part}" if part is not None else _joined(path, _key(key))
            yield from _leaves(inner, name)
        return
    for index, inner in enumerate(node.flatten_fn(value)[0]):
        yield from _leaves(inner, f"{path or 'output'}_{index}")


def _key(key: object) -> object:
    return getattr(key, "key", getattr(key, "name", key))
