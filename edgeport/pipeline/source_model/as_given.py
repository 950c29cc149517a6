"""A model that came quantized: every runtime gets the file as it is, and nothing is quantized twice."""

from __future__ import annotations

from dataclasses import replace

from edgeport.contracts import AS_GIVEN, Candidate, Precision
from edgeport.pipeline.engine.context import RunContext

__all__ = ["as_given", "named_as_given"]


def as_given(context: RunContext) -> RunContext:
    """The run with one candidate per target, for which nothing is planned: float32 leaves a file unchanged."""
    targets = tuple(replace(target, precisions=(Precision.FP32,)) for target in context.recipe.targets)
    return replace(context, recipe=replace(context.recipe, targets=targets))


def named_as_given(candidate: Candidate) -> Candidate:
    """The candidate under a name that does not say float32; its placement tells what it ran in."""
    return replace(candidate, name=candidate.name.replace(f" {Precision.FP32}", f" {AS_GIVEN}", 1), variant=AS_GIVEN)
