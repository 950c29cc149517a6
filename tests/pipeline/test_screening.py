"""One candidate beside the floats, by the rule of a run: the confirmation of `edgeport qat` and `edgeport tune`."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeport.contracts import Artifact, Budget, Candidate, NodePlacement, Outcome, Placement, Precision
from edgeport.pipeline.benchmarking import screening
from edgeport.pipeline.benchmarking.experiment import Timed
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.evaluation.evaluate import Validated
from edgeport.pipeline.selection.select import decide
from edgeport.testing.synthetic import SyntheticSession, simulate

INT8 = "ort int8 trained"


def validated(name, precision):
    nodes = (NodePlacement(name="n", operator="Conv", device="CPU", precision=str(precision)),)
    artifact = Artifact(
        backend="ort", folder=Path("a"), entry="m", session="s", precision=precision, size_bytes=1000, digest=name
    )
    candidate = Candidate(
        name=name,
        backend="ort",
        precision=precision,
        artifact=artifact,
        placement=Placement(nodes=nodes, source="test"),
    )
    return Validated(candidate=candidate, outputs=Path("outputs.npz"))


@pytest.fixture
def decided(make_recipe, monkeypatch):
    """What ships of a plan and two floats, by the milliseconds that they take; `flags` by name."""

    def decide_by(flags=None, budget=None, **taken):
        names = {"fp32": "ort fp32", "bf16": "ort bf16", "int8": INT8}
        rows = [validated(names[short], Precision(short)) for short in taken]
        measurements = {
            names[short]: with_flags(
                simulate(SyntheticSession(median_ns=ms * 1e6), seed=index), (flags or {}).get(short, ())
            )
            for index, (short, ms) in enumerate(taken.items())
        }
        given = {}

        def time_arms(_context, arms, *_, **options):
            given.update(options, arms=[arm.name for arm in arms])
            return Timed(measurements=measurements, errors={})

        monkeypatch.setattr(screening, "time_arms", time_arms)
        recipe = replace(make_recipe("base"), budget=budget or Budget())
        context = SimpleNamespace(recipe=recipe, clock=Clock(lambda _: None))
        samples = SimpleNamespace(timed_row=0, single=Path("single.npz"))
        found, against, confirmation = screening.confirm_beside_floats(context, rows, samples, INT8)
        return decide(found, confirmation.against, confirmation.unusable), against, confirmation, given

    return decide_by


def with_flags(measurement, flags):
    return replace(measurement, traces=tuple(replace(one, flags=tuple(flags)) for one in measurement.traces))


def refusal_of(decision, name):
    return next(one for one in decision.candidates if one.name == name).refusal


def test_a_gain_over_the_fastest_float_ships(decided):
    decision, against, confirmation, given = decided(fp32=2.0, bf16=1.0, int8=0.9)
    assert (decision.chosen, decision.best_float, decision.outcome) == (INT8, "ort bf16", Outcome.PASS)
    assert set(against) == {"ort fp32", "ort bf16"}
    assert set(confirmation.against[INT8]) == {"ort bf16"}, "a float that is twice as slow need not be beaten"
    assert {one.speedup.confidence for one in against.values()} == {0.96}, "a run's first confirmation has as much"
    assert given["rounds"] >= given["least"] == 6


def test_a_gain_over_the_slower_float_alone_does_not_ship(decided):
    decision, *_ = decided(fp32=2.0, bf16=1.0, int8=1.0)
    assert decision.chosen == "ort bf16"
    assert refusal_of(decision, INT8).code in ("NO_GAIN", "SLOWER")


def test_a_confirmation_that_must_not_be_used_says_why(decided):
    decision, *_ = decided(fp32=2.0, int8=1.0, flags={"fp32": ("throttled",)})
    refusal = refusal_of(decision, INT8)
    assert refusal.code == "CONFIRMATION_INVALID"
    assert "throttled (ort fp32)" in refusal.reason


def test_a_slower_float_in_doubt_forbids_nothing(decided):
    decision, *_ = decided(fp32=9.0, bf16=2.0, int8=1.0, flags={"fp32": ("throttled",)})
    assert decision.chosen == INT8


def test_a_plan_without_a_float_is_not_confirmed(decided):
    decision, against, confirmation, _ = decided(int8=1.0)
    assert (decision.chosen, against, confirmation.against) == ("", {}, {})
    assert refusal_of(decision, INT8).code == "NO_GAIN"


def test_where_all_surely_miss_the_budget_more_evidence_would_not_help(decided):
    decision, *_ = decided(fp32=2.0, int8=1.0, budget=Budget(size_bytes=10))
    assert (decision.chosen, decision.outcome) == ("", Outcome.FAIL)
