"""A pruning as it is spelled."""

from __future__ import annotations

from typing import Any

import pytest

from edgeport.contracts import PruneStep, dump_json, load_json
from edgeport.errors import ContractError, EdgeportError, PruningError, UsageError
from edgeport.exporter.prune.config import Blocks, Gradual, Iterative, OneShot, Pattern, Units, Unstructured
from edgeport.exporter.prune.importance.criteria import Magnitude
from edgeport.exporter.prune.steps import check_step, criterion_of, schedule_named, structure_of
from edgeport.exporter.structure.groups import Kind
from edgeport.recipe.goals import median_ns


@pytest.mark.parametrize(
    ("step", "structure"),
    [
        (PruneStep(amount=0.5), Units(macs=0.5)),
        (PruneStep(what="heads", amount=0.3, round_to=1), Units(macs=0.3, kinds=(Kind.HEADS,), round_to=1)),
        (PruneStep(what="weights", amount=0.9), Unstructured(amount=0.9)),
        (PruneStep(what="4:8"), Pattern(keep=4, of=8)),
        (PruneStep(what="blocks", amount=2), Blocks(count=2)),
    ],
    ids=lambda one: getattr(one, "what", ""),
)
def test_a_step_is_a_structure(step: PruneStep, structure: Any) -> None:
    check_step(step)
    assert structure_of(step) == structure
    assert criterion_of(step) == Magnitude(2)
    assert load_json(PruneStep, dump_json(step)) == step


def test_schedules_have_names() -> None:
    assert [schedule_named(text) for text in ("one-shot", "iterative:3", "gradual")] == [
        OneShot(),
        Iterative(steps=3),
        Gradual(),
    ]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "no goal"),
        ({"amount": 0.5, "speedup": 2.0}, "2 goals"),
        ({"what": "filters", "amount": 0.5}, "no such thing"),
        ({"what": "2:4", "amount": 0.5}, "says itself"),
        ({"what": "weights", "speedup": 2.0}, "whole units"),
        ({"speedup": 0.5}, "above 1"),
        ({"speedup": 2.0, "scope": "layer"}, "all layers compete"),
        ({"speedup": float("inf")}, "a goal of inf"),
        ({"what": "blocks", "amount": float("inf")}, "a goal of inf"),
        ({"amount": 0.5, "samples": 1}, "2 or more"),
    ],
    ids=str,
)
def test_steps_that_say_nothing_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        PruneStep(**values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"amount": 0.5, "by": "tailor"}, "did you mean 'taylor'"),
        ({"amount": 1.5}, "between 0 and 1"),
        ({"amount": 0.5, "schedule": "weekly"}, "one-shot, iterative"),
        ({"amount": 0.5, "scope": "universe"}, "global or layer"),
        ({"amount": 0.5, "what": "weights", "by": "entropy"}, "of channels"),
        ({"amount": 1.5, "what": "blocks"}, "whole number"),
        ({"speedup": 2.0, "least": 1.5}, "leave a share"),
        ({"latency_ns": 1e6, "round_to": 0}, "round to 1"),
    ],
    ids=str,
)
def test_unknown_names_are_refused_before_anything_is_loaded(values: dict[str, Any], says: str) -> None:
    with pytest.raises(PruningError, match=says):
        check_step(PruneStep(**values))


def test_a_latency_is_a_median() -> None:
    assert median_ns("5 ms") == median_ns("p50 <= 5 ms") == 5e6
    for text in ("p90 <= 5 ms", "fast"):
        with pytest.raises((UsageError, EdgeportError), match="latency"):
            median_ns(text)
