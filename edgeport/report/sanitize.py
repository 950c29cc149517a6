"""Text from outside without the characters that draw nothing and change how their neighbours are drawn."""

from __future__ import annotations

from typing import Any

__all__ = ["visible"]

_CONTROLS = (*range(9), 11, 12, *range(14, 32), *range(127, 160))
"""C0 and C1 but for tab and line ends: HTML has no form for most of them (WHATWG HTML, 13.2.3.5)."""
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Marks, embeddings, overrides and isolates (Unicode UAX 9): a name could be read backwards, or turn what follows."""
_NOTHING = dict.fromkeys((*_CONTROLS, *_DIRECTIONS))


def visible(value: Any) -> Any:
    """A text without them; whatever is no plain text, such as markup of our own, is left as it is."""
    return value.translate(_NOTHING) if type(value) is str else value
