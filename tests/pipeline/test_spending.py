"""A time limit over steps that a store keeps."""

from __future__ import annotations

import time

import pytest

from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.engine.time_budget import Inside, Spending
from edgeport.store import Store


@pytest.fixture
def now(monkeypatch):
    """The clock, as a list of one number."""
    at = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    return at


@pytest.fixture
def spending(tmp_path, now):
    """`spending(10)`: ten seconds, with the store of the test; what it tells is in `told`."""
    told = []

    def make(limit_s):
        return Spending(limit_s=limit_s, store=Store(tmp_path), about="search", clock=Clock(told.append)), told

    return make


def lasting(now, seconds, answer="done"):
    def work():
        now[0] += seconds
        return answer

    return work


def test_a_step_is_allowed_while_it_may_end_in_time(spending, now):
    limited, _ = spending(10.0)
    assert limited.allows("judge", guess_s=9.0)
    assert not limited.allows("judge", guess_s=11.0)
    assert limited.step("judge", 1, lasting(now, 4.0)) == "done"
    assert limited.allows("judge", guess_s=99.0), "4 s as before: what was measured is better than a guess"
    limited.step("judge", 2, lasting(now, 4.0))
    assert not limited.allows("judge"), "2 s are left"
    assert limited.allows("time", guess_s=1.0)


def test_the_time_of_a_step_is_that_of_its_units(spending, now):
    limited, _ = spending(10.0)
    limited.step("time", 1, lasting(now, 4.0), units=4)
    assert limited.allows("time", 6)
    assert not limited.allows("time", 7)


def test_what_a_step_took_first_is_what_it_takes(spending, now):
    first, _ = spending(10.0)
    first.step("judge", [1, 2], lasting(now, 6.0))
    again, _ = spending(10.0)
    again.step("judge", [1, 2], lasting(now, 0.1))
    assert again.spent_s == 6.0
    assert not again.allows("judge")
    assert spending(20.0)[0].allows("judge")


def test_the_time_left_is_told_within_a_step_too(spending, now):
    limited, told = spending(10.0)
    inside = Inside(spending=limited)
    limited.tell("begins")

    def work():
        now[0] += 3.0
        inside.step("compile", "a plan", done=1, total=2)
        now[0] += 1.0

    limited.step("judge", 1, work)
    limited.tell("next")
    assert [(event.stage, event.message, event.time_left_s) for event in told] == [
        ("tune", "begins", 10.0),
        ("tune", "compile: a plan", 7.0),
        ("tune", "next", 6.0),
    ]
