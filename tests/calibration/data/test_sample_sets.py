"""Sample sets: the same samples, whatever they come from and however they are batched."""

from __future__ import annotations

import io
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.calibration.data import ArraySamples, FunctionSamples, NpzSamples, check_samples, rebatch, subset
from edgeport.contracts import Sample, TensorSpec
from edgeport.errors import SamplesError

IMAGES = np.arange(10 * 3, dtype=np.float32).reshape(10, 3)
LABELS = np.arange(10) % 4


@pytest.fixture
def module(tmp_path):
    """Writes a module with functions that yield samples; returns its name and folder."""
    (tmp_path / "my_samples_for_test.py").write_text(
        "import numpy as np\n"
        "images = np.arange(30, dtype=np.float32).reshape(10, 3)\n"
        "labels = np.arange(10) % 4\n"
        "calls = []\n"
        "def pairs():\n"
        "    for i in range(0, 10, 4):\n"
        "        yield {'x': images[i:i+4]}, labels[i:i+4]\n"
        "def feeds():\n"
        "    yield {'x': images}\n"
        "def shrinking():\n"
        "    calls.append(1)\n"
        "    yield {'x': images[len(calls):]}\n"
        "def arrays():\n"
        "    yield images\n"
        "def uneven():\n"
        "    yield {'x': images, 'y': images[:2]}\n"
        "def refilled():\n"
        "    x, y = images[:1].copy(), labels[:1].copy()\n"
        "    for i in range(10):\n"
        "        x[:], y[:] = images[i], labels[i]\n"
        "        yield {'x': x}, y\n"
        "def nothing():\n"
        "    return 3\n"
    )
    yield lambda name: FunctionSamples(f"my_samples_for_test:{name}", search_path=tmp_path)
    sys.modules.pop("my_samples_for_test", None)


@pytest.fixture(params=["arrays", "npz", "compressed npz", "function"])
def samples(request, tmp_path, module):
    if request.param == "arrays":
        return ArraySamples({"x": IMAGES}, LABELS, batch_size=4)
    if request.param == "function":
        return module("pairs")
    save = np.savez if request.param == "npz" else np.savez_compressed
    save(tmp_path / "s.npz", x=IMAGES, label=LABELS)
    return NpzSamples(tmp_path / "s.npz", "label", batch_size=4)


def test_every_kind_gives_the_same_samples_each_time(samples):
    for _ in range(2):
        batches = list(samples)
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert np.array_equal(np.concatenate([batch.feeds["x"] for batch in batches]), IMAGES)
        assert np.array_equal(np.concatenate([batch.target for batch in batches]), LABELS)
    assert len(samples) == 10


def test_every_kind_has_the_same_fingerprint_and_digests(samples):
    reference = ArraySamples({"x": IMAGES}, LABELS, batch_size=10)
    assert samples.fingerprint == reference.fingerprint
    assert samples.digests() == reference.digests()
    assert len(samples.digests()) == 10


@pytest.mark.parametrize(
    "other",
    [
        ArraySamples({"y": IMAGES}, LABELS),
        ArraySamples({"x": IMAGES + 1}, LABELS),
        ArraySamples({"x": IMAGES.astype(np.float64)}, LABELS),
        ArraySamples({"x": IMAGES[::-1]}, LABELS),
        ArraySamples({"x": IMAGES}, LABELS + 1),
        ArraySamples({"x": IMAGES}),
        ArraySamples({"x": IMAGES.reshape(10, 3, 1)}, LABELS),
    ],
    ids=["name", "value", "dtype", "order", "target", "no target", "shape"],
)
def test_a_difference_shows_in_the_fingerprint(other):
    assert other.fingerprint != ArraySamples({"x": IMAGES}, LABELS).fingerprint


def test_text_is_the_same_however_wide_its_array_is():
    narrow, wide = np.array(["a", "bc"]), np.array(["a", "bc", "much longer"])[:2]
    assert narrow.dtype != wide.dtype
    found = [ArraySamples({"x": x}, target=x) for x in (narrow, wide)]
    assert found[0].digests() == found[1].digests()
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].digests() != ArraySamples({"x": np.array(["a", "bd"])}).digests()


def test_targets_are_no_part_of_digests():
    assert ArraySamples({"x": IMAGES}, LABELS).digests() == ArraySamples({"x": IMAGES}).digests()


def test_a_function_may_yield_feeds_alone(module):
    assert [batch.target for batch in module("feeds")] == [None]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arrays", "a batch of type ndarray"),
        ("uneven", "lengths {'x': 10, 'y': 2}"),
        ("nothing", "int as its result"),
    ],
)
def test_a_function_that_yields_something_else_is_refused(module, name, message):
    with pytest.raises(SamplesError, match=message):
        list(module(name))


def test_a_function_may_fill_the_same_array_again(module):
    batches = list(rebatch(module("refilled"), 4))
    assert np.array_equal(np.concatenate([batch.feeds["x"] for batch in batches]), IMAGES)
    assert np.array_equal(np.concatenate([batch.target for batch in batches]), LABELS)


def test_a_function_that_gives_fewer_samples_the_next_time_is_caught(module):
    samples = module("shrinking")
    assert len(samples) == 9
    with pytest.raises(SamplesError, match="8 samples, and 9 the time before"):
        list(samples)


@pytest.mark.parametrize("name", ["no_colon", "no.such.module:f", "math:nothing", "math:pi"])
def test_a_function_that_is_not_there_is_refused(name):
    with pytest.raises(SamplesError, match="take samples from"):
        FunctionSamples(name)


def test_the_import_path_is_left_as_it_was(module):
    before = list(sys.path)
    module("feeds")
    assert sys.path == before


@given(st.data())
def test_a_subset_is_drawn_by_its_seed_in_the_old_order(data):
    n, seed = data.draw(st.integers(1, 10)), data.draw(st.integers(0, 100))
    whole = ArraySamples({"x": IMAGES}, LABELS, batch_size=3)
    part = subset(whole, n, seed)
    rows = np.concatenate([batch.feeds["x"] for batch in part])

    assert len(part) == len(rows) == n
    assert np.array_equal(rows, rows[np.argsort(rows[:, 0])])
    assert part.digests() < whole.digests() or n == 10
    assert part.fingerprint == subset(whole, n, seed).fingerprint
    assert all(len(batch) <= 3 for batch in part)


@pytest.mark.parametrize("n", [0, -1, 11])
def test_a_subset_that_is_not_there_is_refused(n):
    with pytest.raises(SamplesError, match="a set of 10"):
        subset(ArraySamples({"x": IMAGES}), n)


def test_other_batches_are_the_same_samples(samples):
    other = rebatch(samples, 3)
    assert [len(batch) for batch in other] == [3, 3, 3, 1]
    assert other.fingerprint == samples.fingerprint
    assert np.array_equal(np.concatenate([batch.target for batch in other]), LABELS)


def test_a_batch_that_is_not_full_is_filled_up_by_its_own_samples(samples):
    other = rebatch(samples, 4, fill_up=True)
    assert [len(batch) for batch in other] == [4, 4, 4]
    assert np.array_equal(np.concatenate([batch.feeds["x"] for batch in other]), IMAGES[[*range(10), 8, 9]])
    assert np.array_equal(np.concatenate([batch.target for batch in other]), LABELS[[*range(10), 8, 9]])
    assert len(other) == 10
    assert other.fingerprint == samples.fingerprint


def test_samples_of_different_shapes_share_no_batch(tmp_path):
    (tmp_path / "ragged_samples_for_test.py").write_text(
        "import numpy as np\n"
        "def f():\n"
        "    for length in (2, 2, 5, 5, 5):\n"
        "        yield {'x': np.zeros((1, length), np.float32)}\n"
    )
    samples = rebatch(FunctionSamples("ragged_samples_for_test:f", search_path=tmp_path), 4)
    assert [batch.feeds["x"].shape for batch in samples] == [(2, 2), (3, 5)]


@pytest.mark.parametrize("make", [lambda: ArraySamples({"x": IMAGES}, batch_size=0), lambda: rebatch(None, -1)])
def test_a_batch_size_below_one_is_refused(make):
    with pytest.raises(SamplesError, match="batch size of 1 or more"):
        make()


@pytest.mark.parametrize(
    ("feeds", "found"),
    [({}, "no arrays"), ({"x": IMAGES, "y": IMAGES[:3]}, "'y': 3"), ({"x": np.float32(1)}, "None")],
    ids=["none", "uneven", "scalar"],
)
def test_arrays_that_are_no_samples_are_refused(feeds, found):
    with pytest.raises(SamplesError, match=found):
        ArraySamples(feeds)


def write_npz(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x.npy": npy(np.array([object()]), allow_pickle=True)}, "Python objects"),
        ({"x.npy": npy(IMAGES)[:-5]}, "another size than its header says"),
        ({"x.npy": b"not an array"}, "ValueError"),
        ({"x.npy": npy(np.asfortranarray(IMAGES))}, "column order"),
        ({"x.npy": npy(IMAGES), "y.npy": npy(IMAGES[:3])}, "'y': 3"),
        ({"x.npy": npy(IMAGES[:0])}, "length 0"),
        ({"x.npy": npy(np.float32(3))}, "None"),
        ({}, "found no arrays"),
    ],
    ids=["objects", "truncated", "no npy", "fortran", "uneven", "empty", "scalar", "no arrays"],
)
def test_a_wrong_npz_is_refused(tmp_path, members, message):
    with pytest.raises(SamplesError, match=message):
        NpzSamples(write_npz(tmp_path / "s.npz", members))


def test_an_npz_whose_pickle_would_run_code_does_not_run_it(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    write_npz(tmp_path / "s.npz", {"x.npy": npy(np.array([Evil()] * 2), allow_pickle=True)})
    with pytest.raises(SamplesError, match="store numbers only"):
        NpzSamples(tmp_path / "s.npz")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_npz_is_refused(tmp_path):
    (tmp_path / "s.npz").write_bytes(b"PK nothing of the kind")
    with pytest.raises(SamplesError, match=r"found no \.npz file"):
        NpzSamples(tmp_path / "s.npz")
    with pytest.raises(SamplesError, match="found no such file"):
        NpzSamples(tmp_path / "none.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_an_npz_that_is_damaged_further_on_is_refused_while_it_is_read(tmp_path, compression):
    array = np.random.default_rng(0).standard_normal((5000, 3)).astype(np.float32)
    with zipfile.ZipFile(tmp_path / "s.npz", "w", compression) as archive:
        archive.writestr("x.npy", npy(array))
    data = bytearray((tmp_path / "s.npz").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"\xff" * 64
    (tmp_path / "s.npz").write_bytes(data)
    with pytest.raises(SamplesError, match="damaged array 'x'"):
        list(NpzSamples(tmp_path / "s.npz"))


def test_a_missing_target_is_named(tmp_path):
    np.savez(tmp_path / "s.npz", x=IMAGES)
    with pytest.raises(SamplesError, match="no array 'y' among"):
        NpzSamples(tmp_path / "s.npz", "y")


def test_an_npz_is_read_a_batch_at_a_time(tmp_path):
    images = np.zeros((2000, 1000), np.float32)  # 8 MB
    np.savez_compressed(tmp_path / "s.npz", x=images)
    samples = NpzSamples(tmp_path / "s.npz", batch_size=10)
    tracemalloc.start()
    try:
        assert sum(len(batch) for batch in samples) == 2000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_who_checks_a_set_walks_for_its_fingerprint_too():
    class Counted(ArraySamples):
        walks = 0

        def __iter__(self):
            self.walks += 1
            return super().__iter__()

    arrays = {"x": np.arange(40, dtype=np.float32).reshape(10, 4)}
    checked, alone = Counted(arrays, batch_size=3), Counted(arrays)
    check_samples(checked, (TensorSpec(name="x", dtype="float32", shape=("n", 4)),))
    assert (checked.fingerprint, checked.digests()) == (alone.fingerprint, alone.digests())
    assert (checked.walks, alone.walks) == (1, 1)


def test_steps_of_a_sequence_may_repeat_where_samples_may_not():
    class Given(list):
        fingerprint = "given"

    feeds, inputs = {"x": IMAGES[[0, 0, 1]]}, (TensorSpec(name="x", dtype="float32", shape=("n", 3)),)
    for first, codes in ((None, ["FEW_SAMPLES", "DUPLICATES"]), (np.array([True, False, False]), ["FEW_SAMPLES"])):
        assert [lint.code for lint in check_samples(Given([Sample(feeds=feeds, first=first)]), inputs)] == codes


@pytest.mark.parametrize("view", [lambda x: x, np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2]])
def test_how_an_array_lies_in_memory_does_not_show(view):
    found = ArraySamples({"x": view(IMAGES)}, view(IMAGES))
    expected = ArraySamples({"x": IMAGES}, IMAGES)
    assert (found.fingerprint, found.digests()) == (expected.fingerprint, expected.digests())
