"""How a term of an objective is spelled, and which there are; known without PyTorch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgeport.errors import DistillationError

__all__ = ["REGULARISERS", "TERMS", "Spelled", "check_terms", "parse_term"]

TERMS = (
    "cross-entropy",
    "squared-error",
    "soft-targets",
    "decoupled",
    "output-difference",
    "cosine",
    "hints",
    "attention",
    "relational",
    "adversarial",
    "variational",
)
"""What L may be made of; `edgeport.exporter.distill.spelling` makes them."""

REGULARISERS = ("confidence", "activity")
"""What R may be made of."""

_SPELLED = re.compile(r"(?:(?P<weight>[0-9.eE+-]+)\s+)?(?P<name>[^:\s]+)(?::(?P<setting>\S+))?")


@dataclass(frozen=True, kw_only=True)
class Spelled:
    """The parts of "WEIGHT NAME:SETTING".

    Attributes:
        weight: 1 where none is given.
        name: Of a term; of a user's module where `of_user`.
        setting: Behind the colon; empty for none.
        of_user: It is `pkg.mod:fn`.

    """

    weight: float
    name: str
    setting: str
    of_user: bool


def parse_term(text: str, known: Collection[str]) -> Spelled:
    """The parts of a term, whose name must be known, or be a function of the user.

    Args:
        text: As it is spelled.
        known: `TERMS` or `REGULARISERS`.

    Raises:
        DistillationError: No such term, or no number as its weight.

    """
    asked = f"learn by {text!r}"
    found = _SPELLED.fullmatch(text.strip())
    if found is None:
        raise DistillationError(
            asked=asked, found="no term", fix='write WEIGHT NAME:SETTING, as in "0.9 soft-targets:4"'
        )
    name, setting = found["name"], found["setting"] or ""
    try:
        weight = float(found["weight"] or 1)
    except ValueError as error:
        raise DistillationError(
            asked=asked, found=f"no number ({error})", fix='write WEIGHT NAME:SETTING, as in "0.9 soft-targets:4"'
        ) from error
    if name not in known and not setting:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        raise DistillationError(
            asked=asked,
            found=f"no term {name!r}",
            fix=f"did you mean {near[0]!r}?" if near else f"take one of {', '.join(known)}, or pkg.mod:fn",
        )
    return Spelled(weight=weight, name=name, setting=setting, of_user=name not in known)


def check_terms(of_l: Sequence[str], of_r: Sequence[str]) -> None:
    """Makes sure that each is a term, before anything is loaded.

    Raises:
        DistillationError: As `parse_term`.

    """
    for text in of_l:
        parse_term(text, TERMS)
    for text in of_r:
        parse_term(text, REGULARISERS)
