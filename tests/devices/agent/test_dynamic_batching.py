"""Single samples become calls of several; each gets its own row, and nobody waits longer than was said."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgeport.devices.agent.dynamic_batching import BatchingSession
from edgeport.devices.agent.failure import JobError

ONE = {"x": np.zeros((1, 2), np.float32)}


class Doubling:
    """A session that doubles its input and notes the size of every call."""

    def __init__(self, *, broken=False, rows=True):
        self.sizes, self.closed, self.broken, self.rows = [], False, broken, rows
        self.slow_s = 0.0

    def bind(self, feeds):
        return _Call(self, feeds["x"])

    def close(self):
        self.closed = True


class _Call:
    def __init__(self, session, x):
        self.session, self.x = session, x

    def run(self):
        if self.session.broken and len(self.x) > 2:
            raise ValueError("too many")
        self.session.sizes.append(len(self.x))
        time.sleep(self.session.slow_s)

    def outputs(self):
        return {"y": 2 * self.x} if self.session.rows else {"y": self.x.sum()}


def at_once(opened, count):
    """So many samples at the same time, each in a thread; the outputs of each."""
    calls = [opened.bind({"x": np.full((1, 2), index, np.float32)}) for index in range(count)]
    start = threading.Barrier(count)

    def run(call):
        start.wait()
        call.run()
        return call.outputs()["y"]

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, calls))


def test_all_sizes_run_before_and_each_sample_gets_its_own_row():
    session = Doubling()
    opened = BatchingSession(session, 6, 200_000_000, 1, ONE)
    assert session.sizes == [1, 2, 4, 6]
    found = at_once(opened, 6)
    np.testing.assert_array_equal(found, [np.full((1, 2), 2 * index) for index in range(6)])
    assert session.sizes[4:] == [6]
    opened.close()
    assert session.closed


def test_a_call_that_is_not_full_is_filled_up_to_the_next_size():
    session = Doubling()
    opened = BatchingSession(session, 8, 50_000_000, 1, ONE)
    assert [int(one[0, 0]) for one in at_once(opened, 3)] == [0, 2, 4]
    assert session.sizes[4:] == [4]
    opened.close()


def test_a_lone_sample_waits_as_long_as_was_said_and_no_longer():
    opened = BatchingSession(Doubling(), 4, 30_000_000, 2, ONE)
    before = time.perf_counter()
    opened.bind(ONE).run()
    assert 0.03 <= time.perf_counter() - before < 1.0
    opened.close()


def test_what_a_call_raises_is_raised_for_each_of_its_samples():
    session = Doubling()
    opened = BatchingSession(session, 4, 100_000_000, 1, ONE)
    session.broken = True
    with pytest.raises(ValueError, match="too many"):
        at_once(opened, 4)
    session.broken = False
    assert len(at_once(opened, 4)) == 4
    opened.close()


def test_outputs_without_rows_are_refused():
    with pytest.raises(JobError, match="without a row for each"):
        BatchingSession(Doubling(rows=False), 2, 0, 1, ONE)


def test_nothing_is_read_before_it_was_run():
    opened = BatchingSession(Doubling(), 2, 0, 1, ONE)
    with pytest.raises(RuntimeError, match="nothing was run"):
        opened.bind(ONE).outputs()
    opened.close()


def test_what_comes_after_the_end_is_refused_and_not_waited_for():
    session = Doubling()
    opened = BatchingSession(session, 2, 0, 2, ONE)
    call = opened.bind(ONE)
    opened.close()
    opened.close()
    assert session.closed
    with pytest.raises(RuntimeError, match="closed; open it again"):
        call.run()


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        pytest.param({"z": ONE["x"]}, r"found inputs \['x'\]", id="name"),
        pytest.param({"x": ONE["x"].astype(np.float64)}, "as float64", id="dtype"),
        pytest.param({"x": ONE["x"][0]}, r"float32 \[2\]", id="axes"),
        pytest.param({"x": np.zeros((2, 2), np.float32)}, "takes one sample", id="several"),
    ],
)
def test_what_would_break_the_calls_of_others_is_refused(feeds, says):
    opened = BatchingSession(Doubling(), 2, 0, 1, ONE)
    with pytest.raises(ValueError, match=says):
        opened.bind(feeds)
    opened.close()
