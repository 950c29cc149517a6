"""Names with a path ("batch.tokens", "states_0") into the dicts, tuples and dataclasses that `forward` takes."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Nested", "argument_paths", "nest", "register_dataclasses"]

_PARTS = re.compile(r"\.([^.]+)|_(\d+)(?=$|[._])")

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Nested:
    """One argument that holds several feeds.

    Attributes:
        kind: dict, list, tuple, or a dataclass.
        children: Key, index or field to a feed's name, or to what is nested there.

    """

    kind: type
    children: Mapping[str | int, str | Nested]

    def build(self, value_of: Callable[[str], Any], *, mirrored: bool = False) -> Any:
        """The argument, with `value_of(feed)` in each place.

        Args:
            value_of: Of a feed.
            mirrored: As `dynamic_shapes` of torch.export wants it: a list of the fields for a dataclass.

        """
        values = {
            key: child.build(value_of, mirrored=mirrored) if isinstance(child, Nested) else value_of(child)
            for key, child in self.children.items()
        }
        if self.kind is dict:
            return values
        if dataclasses.is_dataclass(self.kind):
            if mirrored:
                return list(values.values())
            return self.kind(**{str(name): value for name, value in values.items()})
        return self.kind(values.values())

    def feeds(self) -> list[str]:
        """Names of the feeds, in the order in which torch flattens them."""
        found: list[str] = []
        for child in self.children.values():
            found += child.feeds() if isinstance(child, Nested) else [child]
        return found


def argument_paths(feeds: Collection[str], parameters: Collection[str]) -> dict[str, dict[Path, str]]:
    """Parameter to the paths in it and the feeds that go there; feeds that are named as a parameter are left out."""
    found: dict[str, dict[Path, str]] = {}
    free = sorted((name for name in parameters if name not in feeds), key=len, reverse=True)
    for feed in feeds:
        if feed in parameters:
            continue
        for parameter in free:
            path = _path(feed[len(parameter) :]) if feed.startswith(parameter) else ()
            if path:
                found.setdefault(parameter, {})[path] = feed
                break
    return {name: paths for name, paths in found.items() if _is_nest(paths)}


def _is_nest(paths: Collection[Path]) -> bool:
    """Keys, or indices without a gap: a lone "input_1" is but a name."""
    indices = sorted({path[0] for path in paths if isinstance(path[0], int)})
    return not indices or (
        len(indices) == len({path[0] for path in paths}) > 1 and indices == list(range(len(indices)))
    )


def _path(text: str) -> Path:
    parts: list[str | int] = []
    position = 0
    while position < len(text):
        match = _PARTS.match(text, position)
        if match is None:
            return ()
        parts.append(match[1] if match[1] is not None else int(match[2]))
        position = match.end()
    return tuple(parts)


def nest(paths: Mapping[Path, str], annotation: Any = inspect.Parameter.empty) -> Nested:
    """What one parameter is handed: of the class that its annotation names, else lists for indices, dicts for keys."""
    groups: dict[str | int, dict[Path, str]] = {}
    for path, feed in paths.items():
        groups.setdefault(path[0], {})[path[1:]] = feed
    kind = _kind(annotation, indices=all(isinstance(key, int) for key in groups))
    keys = sorted(groups) if kind in (list, tuple) else list(groups)
    hints: Mapping[str, Any] = {}
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        order = [each.name for each in dataclasses.fields(kind)]
        keys = sorted(groups, key=lambda key: order.index(key) if key in order else len(order))
    children: dict[str | int, str | Nested] = {}
    for key in keys:
        inner = groups[key]
        children[key] = inner[()] if () in inner else nest(inner, hints.get(str(key), inspect.Parameter.empty))
    return Nested(kind=kind, children=children)


def _kind(annotation: Any, *, indices: bool) -> type:
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return annotation
    if indices:
        return list if typing.get_origin(annotation) is list or annotation is list else tuple
    return dict


def _hints(kind: type) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # an annotation of the user's that can't be resolved says nothing
        return {}


def register_dataclasses(value: object) -> None:
    """Lets torch flatten the dataclasses in a value; those that it knows stay as they are."""
    import torch
    from torch.utils import _pytree as pytree

    if isinstance(value, Mapping):
        for inner in value.values():
            register_dataclasses(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            register_dataclasses(inner)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        if type(value) not in pytree.SUPPORTED_NODES:
            torch.export.register_dataclass(type(value))
        for each in dataclasses.fields(value):
            register_dataclasses(getattr(value, each.name))
