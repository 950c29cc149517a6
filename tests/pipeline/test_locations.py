"""Every kind of sample set on the way of a run: the files that later steps read, the key in the store, the warnings."""

from __future__ import annotations

import wave
from dataclasses import replace

import numpy as np
import pytest

from edgeport.contracts import DeviceFacts, Limits, ModelSource, TensorSpec, to_jsonable
from edgeport.contracts.recipe import SamplesFile, SamplesFolder, SamplesFunction, SamplesTable
from edgeport.errors import SamplesError
from edgeport.pipeline.datasets.prepare import prepare_samples
from edgeport.pipeline.datasets.sources import location_named, location_state, open_samples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.store import Store

Image = pytest.importorskip("PIL.Image", reason="it decodes images")

FACTS = DeviceFacts(name="local", machine="x86_64", cpu="A CPU", cores=2, memory_bytes=1 << 30)
PIXELS = TensorSpec(name="x", dtype="float32", shape=("batch", 4, 4, 3))
VECTOR = TensorSpec(name="x", dtype="float32", shape=("batch", 4))


@pytest.fixture
def prepared(make_recipe, tmp_path):
    """Prepares the samples of these locations, for a model that is never loaded."""

    def make(evaluation, inputs, calibration=None, **data):
        recipe = make_recipe("base")
        given = {"target": "", "metric": "agreement", **data}
        recipe = replace(
            recipe,
            source=ModelSource(location="net_that_is_never_loaded:create"),
            data=replace(recipe.data, evaluation=evaluation, calibration=calibration, **given),
            inputs=inputs,
        )
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        context = RunContext(
            recipe=recipe, store=Store(tmp_path / "store"), device=None, facts=FACTS, clock=Clock(lambda _: None),
            scratch=scratch, limits=Limits(time_s=120, memory_bytes=4 << 30),
        )  # fmt: skip
        return prepare_samples(context)

    return make


def pictures(folder, names, first_seed=0):
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        pixels = np.random.default_rng(first_seed + seed).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)


def test_class_folders_become_feeds_and_targets(prepared, tmp_path):
    pictures(tmp_path / "images", ["dog/1.png", "cat/1.png", "cat/2.png"])
    pictures(tmp_path / "others", ["1.png", "2.png"], 10)
    where = SamplesFolder(path=tmp_path / "images", labelled=True)

    found = prepared(where, (PIXELS,), SamplesFolder(path=tmp_path / "others"), metric="top1")

    assert np.load(found.target).tolist() == [0, 0, 1]
    with np.load(found.feeds) as file:
        assert (file["x"].shape, file["x"].dtype) == ((3, 4, 4, 3), np.float32)
    assert (found.count, found.calibration_count) == (3, 2)
    assert prepared(where, (PIXELS,), SamplesFolder(path=tmp_path / "others"), metric="top1").feeds == found.feeds
    pictures(tmp_path / "images", ["dog/2.png"], 20)
    assert prepared(where, (PIXELS,), SamplesFolder(path=tmp_path / "others"), metric="top1").count == 4


def test_a_picture_in_both_folders_is_an_overlap_whatever_its_name(prepared, tmp_path):
    pictures(tmp_path / "one", ["a.png", "b.png"])
    pictures(tmp_path / "two", ["z.bmp"])

    with pytest.raises(SamplesError, match="1 of 1 evaluation samples in the calibration set too"):
        prepared(SamplesFolder(path=tmp_path / "two"), (PIXELS,), SamplesFolder(path=tmp_path / "one"))


def test_sets_of_two_kinds_overlap_too(prepared, tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "a.npy", rows)
    (tmp_path / "b.csv").write_text("a,b,c,d\n100,2,3,4\n8,9,10,11\n", encoding="utf-8")
    table = SamplesTable(path=tmp_path / "b.csv", columns={"x": ("a", "b", "c", "d")})

    with pytest.raises(SamplesError, match="1 of 3 evaluation samples in the calibration set too"):
        prepared(SamplesFile(path=tmp_path / "a.npy"), (VECTOR,), table)


def test_a_table_feeds_and_judges(prepared, tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c,d,y\n1,2,3,4,no\n5,6,7,8,yes\n", encoding="utf-8")
    table = SamplesTable(path=tmp_path / "t.csv", columns={"x": ("a", "b", "c", "d")})

    found = prepared(table, (VECTOR,), target="y", metric="top1")

    assert np.load(found.target).tolist() == [0, 1]
    with np.load(found.feeds) as file:
        assert file["x"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_labels_that_are_no_column_are_an_error(prepared, tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n1,2\n", encoding="utf-8")
    table = SamplesTable(path=tmp_path / "t.csv", columns={"x": ("a",)})

    with pytest.raises(Exception, match=r"t\.csv with the columns 'a', 'label'; did you mean 'label'"):
        prepared(table, (), target="labels")


def test_a_dataset_is_read_in_a_child(prepared, tmp_path):
    pytest.importorskip("torch", reason="it has the dataset")
    (tmp_path / "own_set.py").write_text(
        "import torch\n"
        "def create():\n"
        "    x = torch.arange(160.0).reshape(40, 4)\n"
        "    return torch.utils.data.TensorDataset(x, torch.arange(40) % 2)\n",
        encoding="utf-8",
    )

    found = prepared(SamplesFunction(function="own_set:create", search_path=tmp_path), (VECTOR,), metric="top1")

    assert np.load(found.target).tolist() == [0, 1] * 20
    with np.load(found.feeds) as file:
        assert file["x"].sum() == np.arange(160).sum()


def test_calibration_samples_that_are_unlike_are_said(prepared, tmp_path):
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", rows[:100])
    np.save(tmp_path / "b.npy", rows[100:] * 255)
    np.save(tmp_path / "c.npy", rows[100:])
    one, scaled, other = (SamplesFile(path=tmp_path / f"{name}.npy") for name in "abc")

    said = " ".join(prepared(one, (VECTOR,), scaled).warnings)

    assert "Calibration: input 'x' is unlike the evaluation samples'" in said
    assert prepared(one, (VECTOR,), other).warnings == ()


def test_labels_that_miss_a_class_are_said(prepared, tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=rows, y=np.arange(40) % 3)

    found = prepared(
        SamplesFile(path=tmp_path / "a.npz"), (VECTOR,), target="y", metric="top1", labels=("cat", "dog", "emu", "fox")
    )

    assert found.warnings == ("Evaluation: no sample of 1 of 4 classes ('fox')",)


def test_class_folders_that_only_the_calibration_has_would_shift_the_indices(prepared, tmp_path):
    pictures(tmp_path / "one", ["ant/a.png", "cat/b.png"])
    pictures(tmp_path / "two", ["cat/c.png", "dog/d.png"], 9)
    both = [SamplesFolder(path=tmp_path / name, labelled=True) for name in ("two", "one")]
    named = [replace(one, classes=("ant", "cat", "dog")) for one in both]

    with pytest.raises(SamplesError, match="'ant' among the calibration samples' only; name all classes"):
        prepared(both[0], (PIXELS,), both[1], metric="top1")
    assert np.load(prepared(named[0], (PIXELS,), named[1], metric="top1").target).tolist() == [1, 2]


def test_sounds_of_two_rates_are_an_error(prepared, tmp_path):
    for seed, (name, rate) in enumerate([("one", 16000), ("two", 8000)]):
        (tmp_path / name).mkdir()
        with wave.open(str(tmp_path / name / "a.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(np.random.default_rng(seed).integers(-9, 9, 4).astype(np.int16).tobytes())

    with pytest.raises(SamplesError, match="8000 Hz and 16000 Hz"):
        prepared(SamplesFolder(path=tmp_path / "one"), (VECTOR,), SamplesFolder(path=tmp_path / "two"))


def test_a_folder_needs_to_know_its_input(prepared, tmp_path):
    pictures(tmp_path / "images", ["a.png"])

    with pytest.raises(SamplesError, match=r"the folder 'images', whose items have no names.*declare the input"):
        prepared(SamplesFolder(path=tmp_path / "images"), ())


def test_the_state_of_a_location_is_its_content(tmp_path):
    pictures(tmp_path / "images", ["a.png"])
    where = SamplesFolder(path=tmp_path / "images")
    first = location_state(where)
    (tmp_path / "images").rename(tmp_path / "moved")

    assert location_state(SamplesFolder(path=tmp_path / "moved")) == first
    assert location_state(SamplesFolder(path=tmp_path / "moved", sample_rate=1)) != first
    assert location_state(SamplesFunction(function="a:b")) is None


def test_commands_take_folders_and_arrays(tmp_path):
    pictures(tmp_path / "images", ["cat/a.png"])
    np.save(tmp_path / "a.npy", np.zeros((3, 4), np.float32))
    (tmp_path / "t.csv").write_text("a\n1\n", encoding="utf-8")

    folder = location_named(tmp_path / "images")

    assert folder == SamplesFolder(path=tmp_path / "images", labelled=True)
    assert len(open_samples(folder, "", inputs=(PIXELS,))) == 1
    assert len(open_samples(location_named(tmp_path / "a.npy"), "", inputs=(VECTOR,))) == 3
    for wrong, says in (("t.csv", "whose columns must be named"), ("no.npz", "no such file")):
        with pytest.raises(SamplesError, match=says):
            location_named(tmp_path / wrong)


def test_lengths_of_a_table_are_integers_and_sequences_have_any_names(tmp_path):
    (tmp_path / "data.csv").write_text("a,b,n,clip\n1,2,2,one\n3,0,1,one\n4,0,1,two\n")
    tokens = TensorSpec(name="t", dtype="int64", shape=("batch", "time"))
    columns = {"t": ("a", "b"), "n": "n", "clip": "clip"}
    how = {"lengths": {"time": "n"}, "sequence": "clip", "inputs": [to_jsonable(tokens)]}

    samples = open_samples(
        SamplesTable(path=tmp_path / "data.csv", columns=columns), "", inputs=(tokens,), arrangement=how
    )

    batches = list(samples)
    assert [batch.feeds["t"].tolist() for batch in batches] == [[[1, 2]], [[3], [4]]]
    assert {batch.feeds["t"].dtype.name for batch in batches} == {"int64"}
    assert np.concatenate([batch.first for batch in batches]).tolist() == [True, False, True]
