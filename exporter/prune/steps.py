"""A pruning as a recipe or a command spells it, as the settings that do it."""

from __future__ import annotations

from dataclasses import replace

from edgeport.contracts import PruneStep
from edgeport.errors import PruningError
from edgeport.exporter.prune.allocation import Scope
from edgeport.exporter.prune.config import (
    Blocks,
    Gradual,
    Iterative,
    OneShot,
    Pattern,
    Schedule,
    Structure,
    Units,
    Unstructured,
)
from edgeport.exporter.prune.importance.criteria import CRITERIA, Criterion, criterion_named
from edgeport.exporter.structure.groups import Kind

__all__ = ["check_step", "criterion_of", "kinds_of", "schedule_named", "scope_named", "structure_of", "trainings_of"]

_KINDS = {"channels": (Kind.CHANNELS,), "neurons": (Kind.NEURONS,), "heads": (Kind.HEADS,), "units": tuple(Kind)}


def check_step(step: PruneStep) -> None:
    """Makes sure that everything in the step is known, before anything is loaded.

    Raises:
        PruningError: An unknown name, or a criterion that is not one of what is pruned.

    """
    criterion_of(step)
    schedule_named(step.schedule)
    scope_named(step.scope)
    structure_of(replace(step, amount=0.5, latency_ns=None, speedup=None) if step.measured else step)


def criterion_of(step: PruneStep) -> Criterion:
    """The criterion, which must suit what is pruned."""
    criterion = criterion_named(step.by)
    row = CRITERIA[step.by.partition(":")[0]]
    if not row.of_weights and step.what in ("weights", "2:4", "4:8"):
        raise PruningError(
            asked=f"prune {step.what} by {step.by}",
            found="a criterion of channels",
            fix=f"take one of {', '.join(name for name, one in CRITERIA.items() if one.of_weights)}",
        )
    return criterion


def kinds_of(step: PruneStep) -> tuple[Kind, ...]:
    """The units that may go."""
    return _KINDS[step.what]


def structure_of(step: PruneStep) -> Structure:
    """What is pruned, and how much of it."""
    if step.what in ("2:4", "4:8"):
        keep, _, of = step.what.partition(":")
        return Pattern(keep=int(keep), of=int(of))
    amount = step.amount or 0.0
    if step.what == "blocks":
        if amount != int(amount):
            raise PruningError(asked=f"remove {amount:g} blocks", found="no whole number", fix="give how many go")
        return Blocks(count=int(amount))
    if step.what == "weights":
        return Unstructured(amount=amount, scope=scope_named(step.scope))
    return Units(
        macs=amount,
        kinds=kinds_of(step),
        scope=scope_named(step.scope),
        round_to=step.round_to,
        least=step.least,
    )


def schedule_named(text: str) -> Schedule:
    """The schedule "one-shot", "iterative:5" or "gradual:10".

    Raises:
        PruningError: Anything else.

    """
    name, _, steps = text.partition(":")
    try:
        if name == "one-shot" and not steps:
            return OneShot()
        if name == "iterative":
            return Iterative(steps=int(steps)) if steps else Iterative()
        if name == "gradual":
            return Gradual(steps=int(steps)) if steps else Gradual()
    except ValueError:
        pass
    raise PruningError(
        asked=f"prune by the schedule {text!r}", found="no such one", fix="give one-shot, iterative:5 or gradual:10"
    )


def scope_named(text: str) -> Scope:
    """The scope "global" or "layer".

    Raises:
        PruningError: Anything else.

    """
    try:
        return Scope(text)
    except ValueError as error:
        raise PruningError(
            asked=f"let the {text!r} compete", found="no such scope", fix="give global or layer"
        ) from error


def trainings_of(step: PruneStep) -> tuple[int, ...]:
    """Epochs of the training after each of the step's removals."""
    if step.training is None:
        return ()
    removals = int(step.amount or 1) if step.what == "blocks" else len(schedule_named(step.schedule).shares())
    return (step.epochs_between,) * (removals - 1) + (step.training.epochs,)
