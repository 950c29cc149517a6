"""The experiments that are drawn from a long one."""

import numpy as np
import pytest

from benchmarks.latency_planted import EXPERIMENTS, changes
from benchmarks.work_session import Work
from edgeport.contracts import Change


@pytest.mark.parametrize(
    ("mean", "delta", "change"),
    [
        pytest.param(0.02, 0.03, Change.SLOWER, id="below delta"),
        pytest.param(0.06, 0.03, Change.REGRESSED, id="twice delta"),
        pytest.param(0.0, 0.03, Change.EQUIVALENT, id="equal"),
    ],
)
def test_what_is_planted_is_found(mean, delta, change):
    differences = np.random.default_rng(0).normal(mean, 0.01, 80)
    found, taken = changes(differences, delta, most=60)
    assert found[change] > 0.9 * EXPERIMENTS
    assert 10 <= taken <= 60


def test_one_look_takes_ten_rounds():
    differences = np.random.default_rng(0).normal(0.0, 0.1, 80)
    found, taken = changes(differences, 0.02, most=10)
    assert taken == 10
    assert found[Change.UNKNOWN] > 0.8 * EXPERIMENTS


def test_the_arrays_begin_at_a_cache_line():
    call = Work({"x": np.zeros(1, np.float32)}, 3)
    assert call._left.ctypes.data % 64 == call._result.ctypes.data % 64 == 0
    call.run()
    assert call._result.tolist() == (call._left @ call._left).tolist()
