"""What can be asked of a unit or a weight before it goes: the criteria, and their names in recipes and commands.

How each is computed is in the files beside this one; `scorers.py` has the table.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeport.errors import PruningError

__all__ = [
    "CRITERIA",
    "BatchNormScale",
    "Criterion",
    "Entropy",
    "Fisher",
    "HessianDiagonal",
    "Magnitude",
    "NearZero",
    "Random",
    "Row",
    "Taylor",
    "ZeroActivations",
    "criterion_named",
    "describe",
]


@dataclass(frozen=True)
class Magnitude:
    """Small weights go first: Han et al., "Learning both Weights and Connections" (2015); L1 norms of filters:
    Li et al., "Pruning Filters for Efficient ConvNets" (2017).

    A unit's score is the mean over its layers, those that read it too.

    Attributes:
        norm: 1 or 2.

    """

    norm: int = 2

    def __post_init__(self) -> None:
        if self.norm not in (1, 2):
            raise PruningError(asked=f"score by the L{self.norm} norm", found="no such norm here", fix="give 1 or 2")


@dataclass(frozen=True)
class NearZero:
    """The share of weights that are not nearly zero; of a single weight, whether it is.

    Attributes:
        threshold: Of the layer's root mean square; weights below it count as zero.

    """

    threshold: float = 0.1

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise PruningError(
                asked="count weights near zero", found=f"a threshold of {self.threshold}", fix="give one above 0"
            )


@dataclass(frozen=True)
class BatchNormScale:
    """The factor that BatchNorm gives a channel: Liu et al., "Learning Efficient Convolutional Networks through Network
    Slimming" (2017). It says most where the network was trained with `batchnorm_penalty`.
    """


@dataclass(frozen=True)
class ZeroActivations:
    """The share of a unit's activations that are not zero, as its readers see them: Hu et al., "Network Trimming"
    (2016).

    For networks with Relu, whose zeros are exact.
    """


@dataclass(frozen=True)
class Entropy:
    """The entropy of a unit's mean activation over the samples: Luo and Wu, "An Entropy-based Method for Network
    Pruning" (2017).

    A channel that says nearly the same of every sample tells its readers little, and a constant could stand for it; so
    the lowest go first, as in the paper. The other direction is for networks whose busiest channels are noise.

    Bits of different layers say little of each other: the paper takes the same share of every layer, as the scope of
    layers does.

    Attributes:
        first: What goes first: "lowest" or "highest".
        bins: Of the histogram. They are those of the whole layer, from its smallest to its largest mean: with bins of
            its own, a channel that hardly moves would look as informed as any.

    """

    first: str = "lowest"
    bins: int = 64

    def __post_init__(self) -> None:
        if self.first not in ("lowest", "highest") or self.bins < 2:
            raise PruningError(
                asked=f"score by entropy, {self.first} first in {self.bins} bins",
                found="no such direction, or too few bins",
                fix='give "lowest" or "highest", and 2 bins or more',
            )


@dataclass(frozen=True)
class Taylor:
    """What the loss changes by, to first order: Molchanov et al., "Pruning Convolutional Neural Networks for Resource
    Efficient Inference" (2017), the mean over samples of the absolute value of gradient times value.
    """


@dataclass(frozen=True)
class Fisher:
    """What the loss changes by, to second order around a minimum, with the Fisher information for the curvature:
    Theis et al., "Faster gaze prediction with dense networks and Fisher pruning" (2018). Half the mean square over
    samples of gradient times value; of a unit, summed over all of its weights first (Liu et al., "Group Fisher Pruning"
    (2021)).
    """


@dataclass(frozen=True)
class HessianDiagonal:
    """What the loss changes by, to second order, with the diagonal of the Hessian: LeCun et al., "Optimal Brain Damage"
    (1989). The diagonal is estimated by random signs (Hutchinson 1989; Bekas et al. 2007), of a unit in the direction
    that shrinks it.

    Attributes:
        draws: Of signs, per batch of samples.
        seed: Of the signs.

    """

    draws: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise PruningError(asked="estimate the Hessian", found=f"{self.draws} draws", fix="give 1 or more")


@dataclass(frozen=True)
class Random:
    """Nothing is asked: what every other criterion must beat.

    Attributes:
        seed: Of the scores.

    """

    seed: int = 0


Criterion = (
    Magnitude | NearZero | BatchNormScale | ZeroActivations | Entropy | Taylor | Fisher | HessianDiagonal | Random
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One criterion of the table.

    Attributes:
        make: From the texts behind the name.
        form: An example of it as text.
        of_weights: It is defined for single weights.
        of_units: It is defined for channels, neurons and heads.
        needs_samples: It looks at samples.

    """

    make: Callable[..., Criterion]
    fixed: Mapping[str, object]
    argument: str = ""
    kind: type = float
    form: str
    of_weights: bool = True
    of_units: bool = True
    needs_samples: bool = False


CRITERIA: Mapping[str, Row] = {
    "l1": Row(make=Magnitude, fixed={"norm": 1}, form="l1"),
    "l2": Row(make=Magnitude, fixed={"norm": 2}, form="l2"),
    "near-zero": Row(make=NearZero, fixed={}, argument="threshold", form="near-zero:0.1"),
    "batchnorm-scale": Row(make=BatchNormScale, fixed={}, form="batchnorm-scale", of_weights=False),
    "zero-activations": Row(
        make=ZeroActivations, fixed={}, form="zero-activations", of_weights=False, needs_samples=True
    ),
    "entropy": Row(
        make=Entropy, fixed={}, argument="first", kind=str, form="entropy:lowest", of_weights=False, needs_samples=True
    ),
    "taylor": Row(make=Taylor, fixed={}, form="taylor", needs_samples=True),
    "fisher": Row(make=Fisher, fixed={}, form="fisher", needs_samples=True),
    "hessian": Row(make=HessianDiagonal, fixed={}, argument="draws", kind=int, form="hessian:8", needs_samples=True),
    "random": Row(make=Random, fixed={}, argument="seed", kind=int, form="random:0"),
}
"""Name to what it stands for."""


def criterion_named(text: str) -> Criterion:
    """The criterion of a recipe or a command.

    Raises:
        PruningError: No such criterion, or a value that it does not take.

    """
    name, colon, value = text.partition(":")
    row = CRITERIA.get(name)
    try:
        if row is None:
            raise ValueError("no such criterion")
        if colon and not row.argument:
            raise ValueError(f"a value behind {name!r}, which takes none")
        return row.make(**row.fixed, **({row.argument: row.kind(value)} if colon else {}))
    except ValueError as error:
        near = difflib.get_close_matches(name, CRITERIA, n=1)
        hint = f"did you mean {near[0]!r}? " if near and near[0] != name else ""
        raise PruningError(
            asked=f"prune by {text!r}",
            found=str(error),
            fix=f"{hint}give one of {', '.join(row.form for row in CRITERIA.values())}",
        ) from error


def describe(criterion: Criterion) -> str:
    """The criterion as a recipe names it, with what may stand behind its name."""
    for name, row in CRITERIA.items():
        if type(criterion) is row.make and all(getattr(criterion, key) == value for key, value in row.fixed.items()):
            return f"{name}:{getattr(criterion, row.argument)}" if row.argument else name
    return type(criterion).__name__
