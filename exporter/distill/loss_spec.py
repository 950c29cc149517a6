"""Terms of an objective in words, and which there are; known without PyTorch."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from edgeport.errors import DistillationError

__all__ = [
    "OF_LABELS",
    "OF_SAMPLES",
    "REGULARISERS",
    "TERMS",
    "ParsedTerm",
    "check_augment",
    "check_term",
    "parse_term",
]

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
"""What L may be made of; `edgeport.exporter.distill.loss_factory` makes them."""

OF_LABELS = ("cross-entropy", "squared-error", "decoupled")
"""Those of `TERMS` that can't do without labels."""

OF_SAMPLES = ("adversarial", "variational")
"""Those with a network of their own, which is scaled by samples before it learns."""

REGULARISERS = ("confidence", "activity")
"""What R may be made of."""

_OF_NUMBERS: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "cross-entropy": (lambda share: 0 <= share < 1, "a share of 0 to below 1"),
    "soft-targets": (lambda temperature: 0 < temperature < math.inf, "a temperature above 0"),
    "decoupled": (lambda temperature: 0 < temperature < math.inf, "a temperature above 0"),
}
"""Terms whose setting is a number, and which."""

_OF_MODULES = ("hints", "attention")
"""Those that can't do without modules."""

_SPELLED = re.compile(r"(?:(?P<weight>[0-9.eE+-]+)\s+)?(?P<name>[^:\s]+)(?::(?P<setting>\S+))?")
_FUNCTION = re.compile(r"[^\W\d]\w*(?:\.\w+)*:[^\W\d]\w*(?:\.\w+)*")


@dataclass(frozen=True, kw_only=True)
class ParsedTerm:
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


def parse_term(text: str, known: Collection[str]) -> ParsedTerm:
    """The parts of a term, whose name must be known, or be a function of the user.

    Args:
        text: "WEIGHT NAME:SETTING".
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
    if not 0 <= weight < math.inf:
        raise DistillationError(asked=asked, found=f"the weight {weight:g}", fix="give 0 or more")
    could_be_of_user = _FUNCTION.fullmatch(f"{name}:{setting}") and name not in (*TERMS, *REGULARISERS)
    if name not in known and not could_be_of_user:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        raise DistillationError(
            asked=asked,
            found=f"no term {name!r}",
            fix=f"did you mean {near[0]!r}?" if near else f"take one of {', '.join(known)}, or pkg.mod:fn",
        )
    return ParsedTerm(weight=weight, name=name, setting=setting, of_user=name not in known)


def check_term(text: str, known: Collection[str], *, labels: bool) -> None:
    """Makes sure that it is a term, and one of such samples, before anything is loaded.

    Args:
        text: "WEIGHT NAME:SETTING".
        known: As in `parse_term`.
        labels: Samples may have some; those that are made have none.

    Raises:
        DistillationError: As `parse_term`; or it needs labels, modules, another number, or samples before the
            training.

    """
    parsed = parse_term(text, known)
    _check_setting(text, parsed)
    if not labels and parsed.name in OF_SAMPLES:
        raise DistillationError(
            asked=f"learn by {text!r}",
            found=f"the term {parsed.name!r}, whose network is scaled by samples before any are made",
            fix="take terms such as soft-targets:20; or keep what is made, and distil with it as with any samples",
        )
    if not labels and parsed.name in OF_LABELS:
        raise DistillationError(
            asked=f"learn by {text!r}",
            found=f"the term {parsed.name!r}, which needs labels, and samples that are made have none",
            fix="take terms of the teacher alone, such as soft-targets:20",
        )


def _check_setting(text: str, parsed: ParsedTerm) -> None:
    if parsed.name in _OF_MODULES and not parsed.setting:
        raise DistillationError(
            asked=f"learn by {text!r}",
            found=f"no modules that {parsed.name} could look at",
            fix=f"name one of the student and one of the teacher: {parsed.name}:layers.2=layers.5",
        )
    if parsed.name not in _OF_NUMBERS or not parsed.setting:
        return
    fits, wanted = _OF_NUMBERS[parsed.name]
    try:
        if fits(float(parsed.setting)):
            return
    except ValueError:
        pass
    raise DistillationError(
        asked=f"learn by {text!r}",
        found=f"no number that suits {parsed.name}: {parsed.setting}",
        fix=f'give {wanted}, as in "0.9 soft-targets:4" or "cross-entropy:0.1"',
    )


def check_augment(text: str) -> None:
    """Makes sure that feeds can be changed so, before anything is loaded.

    Args:
        text: "crop-flip", "crop-flip:2" (pixels), `pkg.mod:fn`; empty for nothing.

    Raises:
        DistillationError: No such thing.

    """
    name, colon, setting = text.partition(":")
    fits = (not colon or setting.isdigit()) if name == "crop-flip" else bool(setting)
    if text and not fits:
        raise DistillationError(
            asked=f"augment by {text!r}",
            found="no such thing",
            fix="take crop-flip, crop-flip:4 (pixels) or pkg.mod:fn",
        )
