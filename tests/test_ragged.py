"""Samples of several shapes in plain arrays, and state that is fed back."""

import numpy as np
import pytest

from edgeport.errors import SamplesError
from edgeport.npz import GrowingArray, save_npz
from edgeport.ragged import SHAPE, OutputAccumulator, RaggedBatch, resized, run_rows


def written(folder, *parts):
    array = GrowingArray(folder, free=frozenset({1}))
    for part in parts:
        array.add(part)
    shapes = array.shapes
    save_npz(folder / "a.npz", {"x": array} | ({} if shapes is None else {f"x{SHAPE}": shapes}))
    array.close()
    with np.load(folder / "a.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_what_is_padded_in_a_file_comes_out_without_padding(tmp_path):
    parts = [np.ones((2, 3)), np.full((1, 5), 2.0), np.full((1, 3), 3.0)]

    rows = RaggedBatch.of(written(tmp_path, *parts))

    assert [(start, stop) for start, stop in rows.runs(8)] == [(0, 2), (2, 3), (3, 4)]
    for (start, stop), part in zip(rows.runs(8), parts, strict=True):
        np.testing.assert_array_equal(rows.cut(start, stop)["x"], part)


def test_samples_of_one_shape_are_one_plain_array(tmp_path):
    assert list(written(tmp_path, np.ones((2, 3)), np.ones((1, 3)))) == ["x"]


def test_an_axis_that_is_not_free_keeps_its_size(tmp_path):
    array = GrowingArray(tmp_path, free=frozenset({1}))
    array.add(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="after"):
        array.add(np.ones((2, 3, 5)))
    array.close()


def test_calls_are_no_larger_than_asked():
    rows = RaggedBatch.of({"x": np.zeros((5, 2))})

    assert list(rows.runs(2)) == [(0, 2), (2, 4), (4, 5)]


def test_outputs_of_several_shapes_are_gathered_and_come_back():
    gathered = OutputAccumulator()
    gathered.add({"y": np.ones((1, 2))})
    gathered.add({"y": np.full((2, 4), 3.0)})

    rows = RaggedBatch.of(gathered.arrays())

    np.testing.assert_array_equal(rows.cut(0, 1)["y"], np.ones((1, 2)))
    np.testing.assert_array_equal(rows.cut(1, 3)["y"], np.full((2, 4), 3.0))


def test_another_number_of_axes_is_refused():
    gathered = OutputAccumulator()
    gathered.add({"y": np.ones((1, 2))})
    gathered.add({"y": np.ones((1, 2, 2))})

    with pytest.raises(SamplesError, match="axes"):
        gathered.arrays()


def running_sum(feeds):
    total = feeds["held"] + feeds["x"].sum(axis=1)
    return {"y": total.reshape(1, 1), "next": total}


def test_a_state_is_fed_back_and_begins_anew_with_each_sequence():
    rows = RaggedBatch.of({"x": np.ones((5, 2)), "held": np.full(1, 10.0)}, ("held",))

    found = run_rows(running_sum, rows, batch=4, state={"next": "held"}, starts=(0, 3))

    assert list(found) == ["y"]
    assert found["y"][:, 0].tolist() == [12, 14, 16, 12, 14]


def test_a_single_number_is_the_output_of_a_call_of_one_sample():
    rows = RaggedBatch.of({"x": np.arange(6.0).reshape(3, 2)})
    run = lambda feeds: {"y": feeds["x"].sum()}  # noqa: E731 (a model in a line)

    assert run_rows(run, rows, batch=1, state={}, starts=())["y"].tolist() == [1, 5, 9]
    with pytest.raises(SamplesError, match="axis 0 of every output"):
        run_rows(run, rows, batch=2, state={}, starts=())


@pytest.mark.parametrize(("size", "wanted"), [(2, [1, 2]), (3, [1, 2, 3]), (5, [1, 2, 3, 1, 2])])
def test_another_size_is_made_of_values_that_were_there(size, wanted):
    assert resized(np.array([[1, 2, 3]]), 1, size).tolist() == [wanted]
