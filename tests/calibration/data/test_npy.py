"""One array in a `.npy`, read in parts; nothing in it is unpickled."""

import numpy as np
import pytest

from edgeport.calibration.data import NpySamples, NpzSamples
from edgeport.errors import SamplesError


def test_an_array_is_the_only_input(tmp_path):
    array = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array)

    samples = NpySamples(tmp_path / "a.npy", "x", batch_size=3)

    assert [len(batch) for batch in samples] == [3, 3, 1]
    assert np.array_equal(np.concatenate([batch.feeds["x"] for batch in samples]), array)
    assert samples.fingerprint == NpzSamples(tmp_path / "a.npz").fingerprint


def cut(path):
    np.save(path, np.ones((4, 4)))
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("write", "says"),
    [
        pytest.param(lambda path: np.save(path, np.array([{}], object)), "Python objects", id="pickle"),
        pytest.param(lambda path: np.save(path, np.ones((0, 3))), "one sample or more", id="empty"),
        pytest.param(lambda path: np.save(path, np.float32(3)), "one sample or more", id="a number"),
        pytest.param(lambda path: np.save(path, np.ones((3, 4)).T), "column order", id="column order"),
        pytest.param(lambda path: path.write_bytes(b"hello"), "no .npy file", id="another file"),
        pytest.param(lambda path: path.write_bytes(b""), "no .npy file", id="empty file"),
        pytest.param(lambda path: None, "No such file", id="missing"),
        pytest.param(cut, "another size than its header says", id="truncated"),
    ],
)  # fmt: skip
def test_what_is_no_such_array_is_refused(tmp_path, write, says):
    write(tmp_path / "a.npy")

    with pytest.raises(SamplesError, match=says):
        NpySamples(tmp_path / "a.npy", "x")
