from __future__ import annotations

import gc
from array import array

import numpy as np
import pytest

from edgeport.devices.agent import clock
from edgeport.devices.agent.arrays import (
    batch_of,
    has_nan,
    has_new_infinity,
    largest_difference,
    load_arrays,
    save_arrays,
)
from edgeport.devices.agent.failure import JobError
from edgeport.devices.agent.sessions import ImportClock, packed_name
from edgeport.devices.agent.telemetry import Telemetry
from edgeport.devices.agent.timing import choose_calls_per_reading, single_stream, timed_block


def _nothing():
    pass


def test_the_harness_adds_under_two_microseconds_to_a_call():
    readings = array("q", bytes(8 * 20_000))
    timed_block(_nothing, readings, 0, 20_000, clock.now_ns() + 10**10)
    assert np.median(readings) < 2_000


def test_fast_calls_are_timed_in_batches():
    timer = {"resolution_ns": 50, "overhead_ns": 60}
    assert choose_calls_per_reading(_nothing, timer, [60] * 100) > 50
    assert choose_calls_per_reading(_nothing, timer, [60_000] * 100) == 1
    assert choose_calls_per_reading(_nothing, {"resolution_ns": 50, "overhead_ns": 2_000}, [60_000] * 100) > 50


def test_the_collector_is_off_while_calls_are_timed_and_on_again_after():
    seen = []
    job = {"maximum_calls": 5, "minimum_calls": 5, "duration_s": 0.0}
    readings = single_stream(lambda: seen.append(gc.isenabled()), job, 1, Telemetry()).latency_ns
    assert seen == [False] * 5
    assert len(readings) == 5
    assert gc.isenabled()


def test_the_collector_is_on_again_after_a_failure():
    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        single_stream(fail, {"maximum_calls": 5, "minimum_calls": 5, "duration_s": 0.0}, 1, Telemetry())
    assert gc.isenabled()


def test_imports_are_timed_and_the_plain_import_comes_back():
    plain = __builtins__["__import__"]
    with ImportClock() as imports:
        import json.tool  # noqa: F401
    assert imports.import_ns > 0
    assert __builtins__["__import__"] is plain


def test_packed_names_stay_apart():
    assert packed_name("a_b.c") != packed_name("a.b_c")
    assert packed_name("a.b").isidentifier()


def test_arrays_of_any_name_survive(tmp_path):
    arrays = {"file": np.arange(3), "a/b:0": np.float16([[1.5]]), "s": np.array(["x", "yy"])}
    save_arrays(tmp_path / "a.npz", arrays)
    back = load_arrays(str(tmp_path / "a.npz"))
    assert back.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(back[name], values)


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(JobError) as caught:
        load_arrays(str(tmp_path / "a.npz"))
    assert caught.value.record["code"] == "DEVICE_FAILED"


def test_the_last_batch_is_filled_with_its_last_sample():
    batch = batch_of({"x": np.arange(5)}, 4, 3)
    np.testing.assert_array_equal(batch["x"], [4, 4, 4])


def test_feeds_of_unequal_length_are_refused():
    with pytest.raises(JobError, match="lengths"):
        batch_of({"x": np.zeros(3), "y": np.zeros(4)}, 0, 1)


@pytest.mark.parametrize(
    ("got", "wanted", "difference"),
    [
        ([1.0, -2.0], [1.0, -2.0], 0.0),
        ([1.0, -2.0], [1.0, -2.5], 0.2),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.nan], [1.0, 2.0], np.finfo(np.float64).max),
        ([0.0], [1.0, 5.0], 1.0),  # only the first row of the reference counts
        ([], [], 0.0),
    ],
    ids=["equal", "relative to the largest", "nan in both", "nan in one", "longer reference", "empty"],
)
def test_differences_are_relative_to_the_largest_reference(got, wanted, difference):
    found, faults = largest_difference({"y": np.array(got)}, {"y": np.array(wanted)})
    assert faults == []
    assert found == pytest.approx(difference)


def test_missing_outputs_and_other_shapes_are_told():
    difference, faults = largest_difference({"y": np.zeros((2, 2))}, {"y": np.zeros((2, 3)), "z": np.zeros(1)})
    assert difference is None
    assert faults == ["output y is float64 (2, 2), not float64 (2, 3)", "output z is missing"]


def test_an_infinity_that_belongs_to_the_model_is_no_fault():
    masked = {"scores": np.array([1.0, -np.inf])}
    assert not has_new_infinity(masked, masked)
    assert has_new_infinity(masked, {"scores": np.array([1.0, 2.0])})
    assert not has_nan(masked)
    assert has_nan({"scores": np.array([np.nan])})
    assert largest_difference(masked, masked) == (0.0, [])
    difference, _ = largest_difference({"scores": np.array([1.0, np.inf])}, masked)
    assert difference > 1e300
