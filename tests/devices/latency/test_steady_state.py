from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgeport.devices.latency.steady_state import Shape, change_points, find_steady_state, mser_cut, theil_sen_slope
from edgeport.devices.latency.timer import call_latency_ns
from edgeport.testing.synthetic import SyntheticSession, simulate


def _noise(seed, count, sigma=0.01):
    return sigma * np.random.default_rng(seed).standard_normal(count)


@dataclass(frozen=True, kw_only=True)
class Course:
    name: str
    log: np.ndarray
    shape: Shape
    start: tuple[int, int] = (0, 10_000)


N = 400
TIME = np.arange(N) / N
COURSES = (
    Course(name="flat", log=np.zeros(N), shape=Shape.STEADY, start=(0, 50)),
    Course(name="warm-up", log=0.3 * np.exp(-np.arange(N) / 15), shape=Shape.STEADY, start=(20, 120)),
    Course(name="throttle late", log=0.08 * (TIME >= 0.7), shape=Shape.SLOWDOWN),
    Course(name="throttle early", log=0.08 * (TIME >= 0.2), shape=Shape.SLOWDOWN),
    Course(name="drift up", log=0.05 * TIME, shape=Shape.SLOWDOWN),
    Course(name="faster at the end", log=-0.08 * (TIME >= 0.75), shape=Shape.UNSTEADY),
    Course(name="to and fro", log=0.08 * (np.arange(N) // 80 % 2), shape=Shape.CYCLIC),
    Course(name="one spike in fifty", log=1.0 * (np.arange(N) % 50 == 7), shape=Shape.STEADY, start=(0, 50)),
    Course(name="a step within 1 %", log=0.006 * (TIME >= 0.8), shape=Shape.STEADY, start=(0, 50)),
    Course(name="five calls", log=np.zeros(5), shape=Shape.SHORT),
)


@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.name)
@pytest.mark.parametrize("seed", range(3))
def test_the_shape_of_a_process_is_found(course, seed):
    state = find_steady_state(1e6 * np.exp(course.log + _noise(seed, len(course.log))))
    assert state.shape is course.shape
    assert course.start[0] <= state.start <= course.start[1]


def test_a_noiseless_process_is_steady():
    assert find_steady_state(np.full(300, 1e6)).shape is Shape.STEADY


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_noise_alone_is_steady(rho):
    measurement = simulate(SyntheticSession(rho=rho), processes=100, calls=300, seed=1)
    shapes = [find_steady_state(call_latency_ns(trace)).shape for trace in measurement.traces]
    assert shapes.count(Shape.STEADY) >= 95


def test_change_points_are_where_the_mean_changes():
    values = np.concatenate([np.zeros(40), np.ones(30), np.full(30, 0.5)]) + _noise(0, 100, 0.1)
    assert change_points(values, noise=0.1) == pytest.approx([40, 70], abs=1)
    assert change_points(_noise(0, 100, 0.1), noise=0.1) == []


def test_mser_cuts_the_warm_up_and_at_most_half():
    values = np.concatenate([np.full(12, 1.0), np.zeros(88)]) + _noise(0, 100, 0.01)
    assert mser_cut(values) == pytest.approx(12, abs=2)
    assert mser_cut(np.arange(100.0)) <= 50


def test_theil_sen_ignores_outliers():
    values = 0.5 * np.arange(50.0)
    values[::7] = 1000
    assert theil_sen_slope(values) == pytest.approx(0.5, rel=0.05)
    assert theil_sen_slope(np.array([1.0])) == 0.0
