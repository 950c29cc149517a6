"""Text from outside, made safe for a terminal."""

from __future__ import annotations

import unicodedata

__all__ = ["clean"]

# Control characters, and the formatting ones that reorder or hide what stands beside them. Lone surrogates can't
# be written at all.
_DROPPED = frozenset({"Cc", "Cf", "Cs"})
_SPACES = frozenset("\t\n\r\v\f")


def clean(text: object) -> str:
    """The text on one line, without control characters, terminal escapes and invisible formatting."""
    return "".join(
        " " if letter in _SPACES else letter
        for letter in str(text)
        if letter in _SPACES or unicodedata.category(letter) not in _DROPPED
    )
