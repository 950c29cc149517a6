"""torch Datasets: items of every usual form, and every fault with its item."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeport.calibration.data import FunctionSamples, check_samples, wanted
from edgeport.contracts import TensorSpec
from edgeport.errors import SamplesError

pytest.importorskip("torch", reason="it has the datasets")

CODE = """
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

X = torch.arange(70 * 3, dtype=torch.float32).reshape(70, 3)

class Items(Dataset):
    def __init__(self, item, count=70):
        self.item, self.count = item, count
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        return self.item(index)

class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)

def tensors(): return Items(lambda i: X[i])
def arrays(): return Items(lambda i: X[i].numpy())
def pairs(): return Items(lambda i: (X[i], i % 4))
def own(): return TensorDataset(X, torch.arange(70) % 4)
def dicts(): return Items(lambda i: {"a": X[i], "label": i % 4})
def dict_pairs(): return Items(lambda i: ({"a": X[i]}, i % 4))
def several(): return Items(lambda i: {"a": X[i], "b": X[i, :2]})
def gradients(): return Items(lambda i: torch.nn.Parameter(X[i]))
def stream(): return Stream()
def ragged(): return Items(lambda i: torch.ones(2 + i // 35))
def raises(): return Items(lambda i: X[i] if i < 40 else 1 / 0)
def early(): return Items(lambda i: [][i])
def triples(): return Items(lambda i: (X[i], X[i], i))
def objects(): return Items(lambda i: object())
def nothing(): return Items(None, 0)
def shaky(): return Items(lambda i: torch.rand(3))
"""

ONE = wanted([TensorSpec(name="a", dtype="float32", shape=("batch", 3))], raw=True)


@pytest.fixture
def dataset(tmp_path: Path):
    (tmp_path / "own_dataset.py").write_text(CODE, encoding="utf-8")

    def opened(name, wants=ONE, **options):
        return FunctionSamples(f"own_dataset:{name}", search_path=tmp_path, wants=wants, **options)

    yield opened
    sys.modules.pop("own_dataset", None)


@pytest.mark.parametrize(
    ("name", "labelled"),
    [
        ("tensors", False),
        ("arrays", False),
        ("gradients", False),
        ("stream", False),
        ("pairs", True),
        ("own", True),
        ("dicts", True),
        ("dict_pairs", True),
    ],
)
def test_items_become_batches(dataset, name, labelled):
    samples = dataset(name, target="label")
    batches = list(samples)

    assert [len(batch) for batch in batches] == [32, 32, 6]
    assert len(samples) == 70
    values = np.concatenate([batch.feeds["a"] for batch in batches])
    assert np.array_equal(values, np.arange(210, dtype=np.float32).reshape(70, 3))
    targets = [batch.target for batch in batches if batch.target is not None]
    assert (np.concatenate(targets).tolist() == [i % 4 for i in range(70)]) if labelled else not targets


def test_dicts_feed_several_inputs(dataset):
    batch = next(iter(dataset("several", wants={})))

    assert {name: array.shape for name, array in batch.feeds.items()} == {"a": (32, 3), "b": (32, 2)}


def test_items_of_two_shapes_stand_in_batches_of_their_own(dataset):
    assert [batch.feeds["a"].shape for batch in dataset("ragged")] == [(32, 2), (3, 2), (32, 3), (3, 3)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("raises", "item 40 of the dataset Items; found that it raised ZeroDivisionError", id="raises"),
        pytest.param("early", "item 0 of the dataset Items; found that it raised IndexError", id="index error"),
        pytest.param("triples", "item 0 .*let an item be a tensor or array", id="a triple"),
        pytest.param("objects", "item 0 .*no array of numbers or text", id="an object"),
    ],
)
def test_an_item_that_is_wrong_is_named(dataset, name, says):
    with pytest.raises(SamplesError, match=says):
        list(dataset(name))


def test_an_empty_dataset_is_an_empty_set(dataset):
    with pytest.raises(SamplesError, match="an empty set"):
        check_samples(dataset("nothing"), (ONE["a"].spec,))


def test_items_without_a_name_need_one_input(dataset):
    with pytest.raises(SamplesError, match="no name of the model's input; declare the input"):
        list(dataset("tensors", wants={}))
    two = wanted([TensorSpec(name=name, dtype="float32", shape=("n", 3)) for name in "ab"], raw=True)
    with pytest.raises(SamplesError, match="a model with inputs 'a', 'b'; give arrays by name"):
        list(dataset("tensors", wants=two))
