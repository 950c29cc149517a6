"""Arrays in files, by any name."""

import numpy as np
import pytest

from edgeport.npz import GrowingArray, save_npy, save_npz

ARRAYS = {
    "file": np.arange(6, dtype=np.float32).reshape(2, 3),
    "allow_pickle": np.bool_([True, False]),
    "a/b": np.int64(7),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "words": np.array(["a", "bc"]),
}


def test_every_name_comes_back_in_its_order(tmp_path):
    save_npz(tmp_path / "a.npz", ARRAYS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file.files == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(file[name], array)
    save_npz(tmp_path / "b.npz", ARRAYS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        save_npz(tmp_path / "a.npz", {"x": np.array([{}], object)})


@pytest.fixture
def growing(tmp_path):
    array = GrowingArray(tmp_path)
    yield array
    array.close()


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "uint8", "U3"])
def test_a_growing_array_is_what_was_added(tmp_path, growing, dtype):
    whole = np.arange(30).reshape(10, 3).astype(dtype)
    for start in range(0, 10, 4):
        growing.add(whole[start : start + 4])
    assert len(growing) == 10
    with (tmp_path / "a.npy").open("wb") as file:
        save_npy(file, growing)
    found = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert found.dtype == whole.dtype
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("free", [frozenset(), frozenset({1})], ids=["one shape", "free axis"])
def test_text_may_get_wider_from_batch_to_batch(tmp_path, free):
    parts = [np.array([["ab", "c"]]), np.array([["", ""]]), np.array([["cdefg", "h"], ["i", "jk"]])]
    array = GrowingArray(tmp_path, free)
    for part in parts:
        array.add(part)
    with (tmp_path / "a.npy").open("wb") as file:
        save_npy(file, array)
    array.close()
    assert np.load(tmp_path / "a.npy", allow_pickle=False).tolist() == np.concatenate(parts).tolist()


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        pytest.param(np.zeros((2, 4), np.float32), ValueError, r"^shape \[4\] after \[3\]$", id="shape"),
        pytest.param(np.zeros((2, 3)), TypeError, "^dtype float64 after float32$", id="dtype"),
        pytest.param(np.array([[{}] * 3]), TypeError, "Python objects", id="objects"),
    ],
)
def test_rows_of_another_kind_are_refused(growing, rows, error, says):
    growing.add(np.zeros((2, 3), np.float32))
    with pytest.raises(error, match=says):
        growing.add(rows)


def test_nothing_is_no_array(tmp_path, growing):
    with (tmp_path / "a.npy").open("wb") as file, pytest.raises(ValueError, match="no rows"):
        save_npy(file, growing)
