"""Raw feeds to a model's feeds."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgeport.contracts import Preprocessing, PreprocessingFunction, TensorSpec
from edgeport.errors import SamplesError
from edgeport.preprocessing import Preprocessor, apply, inside_of, outside_of

DECLARED = Preprocessing(resize=(6, 8), scale=1 / 255, mean=(0.5,), std=(0.25,), color="BGR", fold="NHWC")
IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 3, 6, 8), preprocessing=DECLARED)

TOKENS = """
import numpy as np
calls = []
def encode(texts):
    calls.append(len(texts))
    ids = np.zeros((len(texts), 4), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = [ord(c) for c in text[:4]]
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}
def only_ids(texts):
    return encode(texts)["input_ids"]
def ragged(texts):
    return [list(range(len(text))) for text in texts]
def one_row(texts):
    return np.zeros((1, 4), np.int64)
def broken(texts):
    return texts[99]
number = 3
"""


@pytest.fixture
def tokens(tmp_path):
    (tmp_path / "my_tokens.py").write_text(TOKENS)
    yield tmp_path
    sys.modules.pop("my_tokens", None)


def ids(function: str = "encode", name: str = "input_ids") -> TensorSpec:
    declared = PreprocessingFunction(function=f"my_tokens:{function}", raw="text")
    return TensorSpec(name=name, dtype="int64", shape=("batch", 4), preprocessing=declared)


def raw_images(count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 9, 13, 3), dtype=np.uint8)


def test_images_of_any_size_become_the_input():
    images = np.empty(2, object)
    images[:] = [raw_images()[0], raw_images()[1][:7]]
    other = np.arange(2)
    feeds = Preprocessor([IMAGE, TensorSpec(name="other", dtype="int64", shape=("batch",))])(
        {"image": images, "other": other}
    )
    assert feeds.keys() == {"image", "other"}
    assert feeds["image"].shape == (2, 3, 6, 8)
    np.testing.assert_array_equal(feeds["image"], apply(DECLARED, list(images)))
    assert feeds["other"] is other


def test_the_parts_outside_and_inside_make_the_whole():
    outside = outside_of(IMAGE)
    assert (outside.dtype, outside.shape, outside.value_range) == ("uint8", ("batch", 6, 8, 3), (0.0, 255.0))
    fed = Preprocessor([outside])({"image": raw_images()})["image"]
    assert fed.dtype == np.uint8
    np.testing.assert_array_equal(apply(inside_of(DECLARED), fed), apply(DECLARED, raw_images()))


def test_where_nothing_is_folded_devices_feed_the_input_itself():
    plain = TensorSpec(name="image", dtype="float32", shape=("batch", 3, 6, 8), preprocessing=Preprocessing())
    assert outside_of(plain) is plain


@pytest.mark.parametrize("both", [False, True], ids=["declared-once", "declared-by-both"])
def test_one_call_fills_several_inputs(tokens, both):
    specs = [ids(), ids(name="attention_mask")] if both else [ids()]
    feeds = Preprocessor(specs, tokens)({"text": np.array(["ab", "abcd"])})
    np.testing.assert_array_equal(feeds["input_ids"], [[97, 98, 0, 0], [97, 98, 99, 100]])
    np.testing.assert_array_equal(feeds["attention_mask"], [[1, 1, 0, 0], [1, 1, 1, 1]])
    assert feeds.keys() == {"input_ids", "attention_mask"}
    assert sys.modules["my_tokens"].calls == [2]
    assert str(tokens) not in sys.path


def test_one_array_is_the_input_that_names_the_function(tokens):
    feeds = Preprocessor([ids("only_ids")], tokens)({"text": np.array(["ab"]), "length": np.array([2])})
    assert feeds.keys() == {"input_ids", "length"}


@pytest.mark.parametrize(
    ("specs", "says"),
    [
        ([ids("ragged")], "pad or cut the items"),
        ([ids("one_row")], r"shape \[1, 4\] for 'input_ids' from 2 items"),
        ([ids("broken")], r"raised IndexError.*\(line 17 of my_tokens.py\)"),
        ([ids("number")], "found a int"),
        ([ids("missing")], "AttributeError"),
        ([ids("only_ids"), ids("only_ids", "attention_mask")], "nothing for 'attention_mask'"),
    ],
    ids=["ragged", "rows", "raises", "no-function", "not-there", "not-filled"],
)
def test_functions_that_do_not_do_are_named(tokens, specs, says):
    with pytest.raises(SamplesError, match=f"(?s){says}") as caught:
        Preprocessor(specs, tokens)({"text": np.array(["ab", "abcd"])})
    assert caught.value.details["problem"] == "preprocess"


def test_samples_that_went_through_it_already_are_recognised_but_not_fed():
    already = apply(DECLARED, raw_images())
    narrow = TensorSpec(
        name="image", dtype="float32", shape=("batch", 3, 6, 8), preprocessing=Preprocessing(mean=(0.1, 0.2, 0.3))
    )
    with pytest.raises(SamplesError, match=r"input's own shape \[2, 3, 6, 8\]") as caught:
        Preprocessor([narrow])({"image": already})
    assert "preprocessed = true" in caught.value.fix


def test_a_missing_raw_array_is_named():
    with pytest.raises(SamplesError, match="no array 'image' among 'pictures'") as caught:
        Preprocessor([IMAGE])({"pictures": raw_images()})
    assert 'raw = "pictures" in [inputs.image.preprocess]' in caught.value.fix
