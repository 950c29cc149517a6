"""What [model] states of the model itself: its licence, its author, where it is from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeport.contracts.recipe import Statement
from edgeport.recipe.errors import RecipeText, nearest

if TYPE_CHECKING:
    from edgeport.recipe.sections import RecipeFile

__all__ = ["read_statement"]

_LONGEST = 500
_COMMON = (
    "AFL-3.0",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC-BY-4.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "EUPL-1.2",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "ISC",
    "LGPL-2.1-only",
    "LGPL-3.0-only",
    "MIT",
    "MPL-2.0",
    "Unlicense",
    "Zlib",
)
"""Licences that models often have, for the nearest right spelling; any other SPDX name is taken as it is."""

# SPDX 2.3, annex D: names joined by AND, OR and WITH; parentheses may stand around parts.
_NAME = r"(?:DocumentRef-[A-Za-z0-9.-]+:)?[A-Za-z0-9][A-Za-z0-9.-]*\+?"
_EXPRESSION = re.compile(rf"{_NAME}(?: (?:AND|OR|WITH) {_NAME})*")


def read_statement(recipe: RecipeText, sections: RecipeFile) -> Statement:
    """The statement, checked for form only.

    Raises:
        RecipeError: The licence is no SPDX expression, or differs from a common one in its letters' case only; or a
            text is too long, or holds what does not print.

    """
    model = sections.model
    for name in ("author", "url", "version"):
        text = getattr(model, name)
        if len(text) > _LONGEST or not text.isprintable():
            raise recipe.wrong_value(
                ("model", name), "is no single line", f"give at most {_LONGEST} printable characters"
            )
    if model.licence:
        _check_licence(recipe, model.licence)
    return Statement(licence=model.licence, author=model.author, url=model.url, version=model.version)


def _check_licence(recipe: RecipeText, text: str) -> None:
    key = ("model", "licence")
    by_letters = {name.casefold(): name for name in _COMMON}
    plain = text.replace("(", "").replace(")", "")
    balanced = text.count("(") == text.count(")")
    if len(text) > _LONGEST or not balanced or not _EXPRESSION.fullmatch(plain):
        words = re.sub(r"[\s_]+", "-", text).strip("-").casefold()
        near = nearest(re.sub(r"^the-|-licen[cs]e\b", "", words), by_letters)
        fix = (
            _spelled_right(near, by_letters) or 'give its SPDX name, such as "Apache-2.0", or "LicenseRef-" and a name'
        )
        raise recipe.wrong_value(key, "is no SPDX expression", fix)
    for name in plain.split():
        right = by_letters.get(name.casefold(), name)
        if right != name:
            raise recipe.wrong_value(key, f"has {name} in it, which SPDX writes {right}", f'did you mean "{right}"?')


def _spelled_right(near: str, by_letters: dict[str, str]) -> str:
    """`did you mean "apache-2.0"?` with the letters' case of SPDX."""
    return next(
        (near.replace(f'"{folded}"', f'"{name}"') for folded, name in by_letters.items() if f'"{folded}"' in near), ""
    )
