"""Measuring on until enough is known, on synthetic sessions whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from edgeport.contracts import Outcome
from edgeport.devices.experiment import Round
from edgeport.devices.latency.simulate import SyntheticSession, simulate
from edgeport.devices.sequential_stopping import Goal, QuantilePrecision, half_width

LEAST, MOST = 10, 60


def rounds_of(session, seed=0):
    traces = simulate(session, processes=MOST, calls=200, seed=seed).traces
    return [Round(index=index, seed=0, traces={"a": trace}) for index, trace in enumerate(traces)]


def ask(goal, session, *, seed=0, second_per_look=1.0):
    """How many rounds were measured, and the rule that stopped them."""
    seconds = count()
    enough = QuantilePrecision("a", goal, clock=lambda: second_per_look * next(seconds))
    rounds = rounds_of(session, seed)
    for number in range(LEAST, MOST + 1):
        if not enough(rounds[:number]):
            return number, enough
    return MOST, enough


def test_nothing_asked_nothing_more_measured():
    number, enough = ask(Goal(), SyntheticSession())
    assert number == LEAST
    assert enough.verdict is None


def test_a_narrow_interval_takes_more_rounds_where_processes_differ():
    alike, _ = ask(Goal(until=0.01), SyntheticSession(process_sd=0.002))
    unlike, enough = ask(Goal(until=0.01), SyntheticSession(process_sd=0.03))
    assert alike == LEAST
    assert LEAST < unlike < MOST
    assert "there was enough" in enough.reason


def test_time_is_kept_and_what_was_not_reached_is_told():
    number, enough = ask(Goal(until=0.001, time_s=5.0), SyntheticSession(process_sd=0.03))
    assert number < 20
    assert "the interval was +-" in enough.reason
    assert "not +-0.1%" in enough.reason


@pytest.mark.parametrize(
    ("limit_ns", "outcome"), [(1.1e6, Outcome.PASS), (0.9e6, Outcome.FAIL)], ids=["kept", "not kept"]
)
def test_a_clear_budget_is_decided_at_the_first_look(limit_ns, outcome):
    number, enough = ask(Goal(limit_ns=limit_ns), SyntheticSession())
    assert (number, enough.looks) == (LEAST, 1)
    assert enough.verdict.outcome is outcome


def test_a_close_budget_is_looked_at_again_and_more_strictly():
    number, enough = ask(Goal(limit_ns=1.0e6, time_s=20.0), SyntheticSession(process_sd=0.01))
    assert number > LEAST
    assert enough.verdict.alpha == pytest.approx(0.05 / (enough.looks * (enough.looks + 1)))
    assert "undecided" in enough.reason


def test_looking_often_makes_no_false_pass():
    """The truth is just over the limit: hardly any of 30 experiments may pass, however often they looked."""
    session = SyntheticSession(process_sd=0.005)
    goal = Goal(limit_ns=session.quantile_ns(0.5) * 0.9995, time_s=25.0)
    ended = [ask(goal, session, seed=seed)[1] for seed in range(30)]
    assert sum(one.verdict.outcome is Outcome.PASS for one in ended) <= 3
    assert max(one.looks for one in ended) > 5


def test_an_arm_that_failed_stops_it():
    enough = QuantilePrecision("a", Goal())
    assert not enough([Round(index=0, seed=0, traces={})])
    assert enough.reason == "it failed"


def test_half_a_width():
    interval = simulate_interval()
    assert half_width(interval) == pytest.approx((interval.high - interval.low) / 2 / interval.estimate)
    assert half_width(replace(interval, low=98.0, estimate=100.0, high=102.0)) == pytest.approx(0.02)


def simulate_interval():
    from edgeport.devices.latency.summary import summarise

    return summarise(simulate(SyntheticSession())).quantile(0.5).interval_ns
