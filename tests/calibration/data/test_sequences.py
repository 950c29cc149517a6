"""Sequences and lengths, said by arrays beside the inputs."""

import numpy as np
import pytest

from edgeport.calibration.data import (
    ArraySamples,
    CachedSamples,
    Preprocessed,
    SequenceLayout,
    SequenceSamples,
    check_disjoint,
    check_samples,
    rebatch,
)
from edgeport.contracts import AxisRange, TensorSpec
from edgeport.errors import SamplesError

TOKENS = TensorSpec(name="tokens", dtype="int64", shape=("batch", "length"))


def padded(lengths, seed=0):
    random = np.random.default_rng(seed)
    tokens = random.integers(1, 9, (len(lengths), 6))
    return {"tokens": tokens, "lengths": np.asarray(lengths)}


def sequences(clips, batch_size=3):
    arrays = {"x": np.arange(len(clips), dtype=np.float32)[:, None], "clip": np.asarray(clips)}
    return ArraySamples(arrays, batch_size=batch_size)


def first_of(samples):
    return np.concatenate([sample.first for sample in samples]).tolist()


def test_a_sequence_begins_where_the_key_changes_also_between_batches():
    samples = SequenceSamples(sequences(["a", "a", "b", "c", "c", "c", "a"]), SequenceLayout(sequence="clip"))

    assert first_of(samples) == [True, False, True, True, False, False, True]
    assert all(list(sample.feeds) == ["x"] for sample in samples)
    assert first_of(rebatch(samples, 5)) == first_of(samples)


def test_a_sequence_begins_after_so_many_samples():
    plain = ArraySamples({"x": np.zeros((5, 1), np.float32)}, batch_size=3)

    assert first_of(SequenceSamples(plain, SequenceLayout(sequence=2))) == [True, False, True, False, True]


def test_sequences_overlap_as_a_whole_not_step_by_step():
    """Silence is in every recording."""

    def recording(*values):
        arrays = {"x": np.array(values, np.float32)[:, None], "clip": np.zeros(len(values))}
        return SequenceSamples(ArraySamples(arrays), SequenceLayout(sequence="clip"))

    check_disjoint(recording(0, 0, 1), recording(0, 0, 2))
    with pytest.raises(SamplesError, match="1 of 1"):
        check_disjoint(recording(0, 0, 1), recording(0, 0, 1))


def test_samples_are_cut_to_their_length_and_labels_of_steps_with_them():
    arrays = padded([2, 2, 5])
    samples = ArraySamples(arrays, target=arrays["tokens"] * 10)
    how = SequenceLayout(lengths={"length": "lengths"}, inputs=(TOKENS,))

    found = list(SequenceSamples(samples, how))

    assert [sample.feeds["tokens"].shape for sample in found] == [(2, 2), (1, 5)]
    assert [sample.target.shape for sample in found] == [(2, 2), (1, 5)]
    np.testing.assert_array_equal(found[1].feeds["tokens"], arrays["tokens"][2:, :5])


@pytest.mark.parametrize(
    ("arrays", "how", "says"),
    [
        (padded([2, 7]), {"lengths": {"length": "lengths"}}, "shape"),
        (padded([0, 2]), {"lengths": {"length": "lengths"}}, "from 0"),
        (padded([1.5, 2.0]), {"lengths": {"length": "lengths"}}, "float64"),
        (padded([2, 3]), {"lengths": {"length": "length"}}, "did you mean 'lengths'"),
        (padded([2, 3]), {"sequence": "clips"}, "'tokens', 'lengths'"),
    ],
    ids=["longer-than-padded", "zero", "no-integers", "mistyped", "no-such-key"],
)
def test_what_can_not_be_read_is_named(arrays, how, says):
    samples = SequenceSamples(ArraySamples(arrays), SequenceLayout(**how, inputs=(TOKENS,)))

    with pytest.raises(SamplesError) as caught:
        list(samples)

    assert says in f"{caught.value.found} {caught.value.fix}"


@pytest.mark.parametrize(
    ("label", "size", "says"),
    [("length", 9, "2 to 8"), ("length", 1, "2 to 8"), ("4*length", 10, "multiple of 4"), ("4*length", 8, "")],
    ids=["longer", "shorter", "no-multiple", "fits"],
)
def test_samples_keep_to_the_declared_range(label, size, says):
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", label))
    samples = ArraySamples({"x": np.random.default_rng(0).standard_normal((40, size)).astype(np.float32)})
    axes = {"length": AxisRange(minimum=2, maximum=8)}

    if not says:
        assert check_samples(samples, (spec,), axes) == []
        return
    with pytest.raises(SamplesError) as caught:
        check_samples(samples, (spec,), axes)

    assert says in caught.value.asked
    assert str(size) in caught.value.found


def test_preprocessing_keeps_where_sequences_begin_and_a_spool_keeps_all(tmp_path):
    walks = []

    class Counted(ArraySamples):
        def __iter__(self):
            walks.append(1)
            return super().__iter__()

    plain = {"x/y": np.arange(7, dtype=np.float32)[:, None], "clip": np.array([0, 0, 1, 1, 1, 2, 2])}
    raw = SequenceSamples(Counted(plain, target=np.arange(7), batch_size=3), SequenceLayout(sequence="clip"))
    doubled = Preprocessed(raw, lambda feeds: {"x/y": 2 * feeds["x/y"]})

    kept = CachedSamples(doubled, tmp_path / "spool")

    assert (len(kept), len(walks)) == (7, 1)
    assert [len(batch) for batch in kept] == [3, 3, 1]
    assert np.concatenate([batch.feeds["x/y"] for batch in kept])[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert np.concatenate([batch.target for batch in kept]).tolist() == list(range(7))
    assert first_of(kept) == [True, False, True, False, False, True, False]
    assert (kept.fingerprint, kept.digests()) == (doubled.fingerprint, doubled.digests())
