"""An objective as a command or a recipe spells it: "0.9 soft-targets:4", "hints:layers.1=layers.3"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgeport.errors import DistillationError
from edgeport.exporter.distill.learned_losses.adversarial import Adversarial
from edgeport.exporter.distill.learned_losses.variational import Variational
from edgeport.exporter.distill.loss_spec import check_augment, parse_term
from edgeport.exporter.distill.losses.feature import Attention, Hints, Relational
from edgeport.exporter.distill.losses.regularizers import ActivityPenalty, ConfidencePenalty
from edgeport.exporter.distill.losses.response import CosineDistance, Decoupled, OutputDifference, SoftTargets
from edgeport.exporter.distill.losses.task import Callback, CrossEntropy, SquaredError
from edgeport.exporter.distill.objective import Objective, Tap, Term
from edgeport.exporter.distill.task import Augment
from edgeport.exporter.train.augment import CropAndFlip
from edgeport.exporter.train.losses import users_function

__all__ = ["DEFAULTS", "REGULARISERS", "TERMS", "make_augment", "make_objective", "make_term"]

_SEES = "it gets BatchOutputs, and gives a loss []"

Make = Callable[[str, float], Term]
"""Of what stands behind the colon (empty for nothing) and the weight."""


def _taps(text: str) -> tuple[Tap, ...]:
    """Of "student=teacher,student=teacher"; one name stands for both."""
    pairs = [each.partition("=") for each in text.split(",") if each]
    return tuple(Tap(student=own.strip(), teacher=(other or own).strip()) for own, _, other in pairs)


TERMS: Mapping[str, Make] = {
    "cross-entropy": lambda text, weight: CrossEntropy(weight=weight, smoothing=float(text or 0)),
    "squared-error": lambda text, weight: SquaredError(weight=weight, output=text),
    "soft-targets": lambda text, weight: SoftTargets(weight=weight, temperature=float(text or 4)),
    "decoupled": lambda text, weight: Decoupled(weight=weight, temperature=float(text or 4)),
    "output-difference": lambda text, weight: OutputDifference(weight=weight, output=text),
    "cosine": lambda text, weight: CosineDistance(weight=weight, output=text),
    "hints": lambda text, weight: Hints(weight=weight, taps=_taps(text)),
    "attention": lambda text, weight: Attention(weight=weight, taps=_taps(text)),
    "relational": lambda text, weight: Relational(weight=weight, taps=_taps(text)),
    "adversarial": lambda text, weight: Adversarial(weight=weight, taps=_taps(text)),
    "variational": lambda text, weight: Variational(weight=weight, taps=_taps(text)),
}
"""What L may be made of."""

REGULARISERS: Mapping[str, Make] = {
    "confidence": lambda text, weight: ConfidencePenalty(weight=weight, output=text),
    "activity": lambda text, weight: ActivityPenalty(
        weight=weight, modules=tuple(one.strip() for one in text.split(",") if one)
    ),
}
"""What R may be made of."""

DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "cross-entropy": ("0.1 cross-entropy", "0.9 soft-targets:4"),
    "mse": ("0.5 squared-error", "0.5 output-difference"),
    "teacher": ("1 output-difference",),
}
"""L where nobody says otherwise, by what labels are good for (`edgeport.exporter.train.losses.suggested_loss`)."""


def make_term(text: str, known: Mapping[str, Make], search_path: Path | None = None) -> Term:
    """The term "WEIGHT NAME:SETTING", where weight and setting may be left out, or "WEIGHT pkg.mod:fn".

    Args:
        text: "WEIGHT NAME:SETTING".
        known: `TERMS` or `REGULARISERS`.
        search_path: Folder that a function of the user is imported from.

    Raises:
        DistillationError: No such term, or no such setting of it.
        SourceError: The user's function can't be imported.

    """
    parsed = parse_term(text, known)
    if parsed.of_user:
        function = users_function(f"{parsed.name}:{parsed.setting}", search_path, _SEES)
        return Callback(function=function, weight=parsed.weight)
    try:
        return known[parsed.name](parsed.setting, parsed.weight)
    except ValueError as error:
        raise DistillationError(
            asked=f"learn by {text!r}",
            found=f"no number ({error})",
            fix='write WEIGHT NAME:SETTING, as in "0.9 soft-targets:4"',
        ) from error


def make_objective(
    of_l: Sequence[str], of_r: Sequence[str], lambda_: float, search_path: Path | None = None
) -> Objective:
    """The objective of these terms.

    Raises:
        DistillationError, SourceError: See `make_term`.

    """
    return Objective(
        L=tuple(make_term(text, TERMS, search_path) for text in of_l),
        R=tuple(make_term(text, REGULARISERS, search_path) for text in of_r),
        lambda_=lambda_,
    )


def make_augment(text: str, search_path: Path | None = None) -> Augment | None:
    """What changes feeds at random: "crop-flip", "crop-flip:2" (pixels), `pkg.mod:fn`; None for no text.

    Raises:
        DistillationError: No such thing.
        SourceError: The user's function can't be imported.

    """
    check_augment(text)
    if not text:
        return None
    name, colon, setting = text.partition(":")
    if name == "crop-flip":
        return CropAndFlip(padding=int(setting)) if colon else CropAndFlip()
    return users_function(text, search_path, "it gets the feeds by name, and gives them back changed")
