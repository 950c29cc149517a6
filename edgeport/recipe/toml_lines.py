"""In which line of a TOML text a key stands; tomllib does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["line_of", "lines_of_keys"]

KeyPath = tuple[str | int, ...]


def line_of(text: str, path: KeyPath) -> int:
    """The line (from 1) of the key at `path`, or of the nearest table around it; 1 where there is neither."""
    lines = lines_of_keys(text)
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


@lru_cache(maxsize=4)  # a recipe with many mistakes asks for the line of each
def lines_of_keys(text: str) -> Mapping[KeyPath, int]:
    """The line (from 1) where each key is first named.

    The text must be valid TOML. It is cut into statements, which tomllib reads one by one.
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    for number, values in _statements(text):
        header = _header(values)
        if header is not None:
            names, is_array = header
            table = _placed(names, counts)
            if is_array:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], number)
            continue
        for path in _paths(values):
            found.setdefault((*table, *path), number)
    return found


_HEADER = "\0header"

_TOKEN = re.compile(
    r"""
    \"{3} (?: \\. | [^\\] )*? \"{3,5}     # strings over several lines may end in two quotes of their own
    | '{3} .*? '{3,5}
    | " (?: \\. | [^"\\\n] )* " | ' [^'\n]* '
    | \# [^\n]*
    | [\[\]{}\n]
    """,
    re.VERBOSE | re.DOTALL,
)
"""All of TOML 1.0 in which a line may end without its statement, or a bracket stand for nothing."""


def _statements(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Keys and values of each statement, and its line: it ends with the first line that leaves no bracket open."""
    start, line, depth, begins = 1, 1, 0, 0
    text += "\n"
    for token in _TOKEN.finditer(text):
        depth += (token[0] in "[{") - (token[0] in "]}")
        line += token[0].count("\n")
        if token[0] != "\n" or depth:
            continue
        piece = text[begins : token.end()]
        try:
            values = tomllib.loads(piece)
        except tomllib.TOMLDecodeError:
            continue  # a later TOML, which ends its statements elsewhere: no line is better than no message
        if values:
            yield start, {_HEADER: values} if piece.lstrip().startswith("[") else values
        start, begins = line, token.end()


def _header(values: Mapping[str, Any]) -> tuple[tuple[str, ...], bool] | None:
    """Names of a `[table]` or `[[array]]` line, and whether it is an array's."""
    if _HEADER not in values:
        return None
    names: list[str] = []
    inner: Any = values[_HEADER]
    while isinstance(inner, dict) and inner:
        name = next(iter(inner))
        names.append(name)
        inner = inner[name]
    return tuple(names), isinstance(inner, list)


def _placed(names: tuple[str, ...], counts: Mapping[KeyPath, int]) -> KeyPath:
    """The path of a header: inside an array of tables it means the array's last element."""
    path: KeyPath = ()
    for index, name in enumerate(names):
        path = (*path, name)
        if path in counts and index < len(names) - 1:
            path = (*path, counts[path])
    return path


def _paths(values: Any) -> Iterator[KeyPath]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield (key,)
        for rest in _paths(value):
            yield (key, *rest)
