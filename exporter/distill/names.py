"""How a term of an objective is spelled, and which there are; known without PyTorch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass

from edgeport.errors import DistillationError

__all__ = ["OF_LABELS", "REGULARISERS", "TERMS", "Spelled", "check_term", "parse_term"]

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

OF_LABELS = ("cross-entropy", "squared-error", "decoupled")
"""Those of `TERMS` that can't do without labels."""

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


def check_term(text: str, known: Collection[str], *, labels: bool) -> None:
    """Makes sure that it is a term, and one of such samples, before anything is loaded.

    Args:
        text: As it is spelled.
        known: As in `parse_term`.
        labels: Samples may have some; those that are made have none.

    Raises:
        DistillationError: As `parse_term`; or it needs labels.

    """
    spelled = parse_term(text, known)
    if not labels and spelled.name in OF_LABELS:
        raise DistillationError(
            asked=f"learn by {text!r}",
            found=f"the term {spelled.name!r}, which needs labels, and samples that are made have none",
            fix="take terms of the teacher alone, such as soft-targets:20",
        )
