"""Calibration samples that are wrong: each is refused by name, or has a result that is pinned here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from edgeport.backends.session_errors import feed_error
from edgeport.calibration.data import ArraySamples, FunctionSamples, check_disjoint, check_samples
from edgeport.contracts import Array, TensorSpec
from edgeport.devices.agent.failure import three_parts
from edgeport.errors import SamplesError

IMAGES = TensorSpec(name="images", dtype="float32", shape=("batch", 3, 8, 8), value_range=(-6.0, 6.0))
IDS = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "seq"))
MASK = TensorSpec(name="mask", dtype="int64", shape=("batch", "seq"))


def images(n=40, shape=(3, 8, 8), dtype=np.float32):
    return np.random.default_rng(0).standard_normal((n, *shape)).astype(dtype)


def with_value(value):
    array = images()
    array[7, 0, 0, 0] = value
    return array


@dataclass(frozen=True, kw_only=True)
class Fault:
    id: str
    feeds: dict[str, Array]
    problem: str
    says: str
    specs: tuple[TensorSpec, ...] = field(default=(IMAGES,))


FAULTS = [
    Fault(id="wrong name", feeds={"image": images()}, problem="name", says="did you mean 'images'?"),
    Fault(id="foreign name", feeds={"q": images()}, problem="name", says="name the arrays as the model"),
    Fault(
        id="labels among the inputs",
        feeds={"images": images(), "label": np.zeros(40, np.int64)},
        problem="name",
        says=r"all of which are there; if these are the labels, name them as the target \(--target label\)",
    ),
    Fault(
        id="missing input",
        feeds={"input_ids": np.ones((4, 5), np.int64)},
        problem="name",
        says="no array for input 'mask'",
        specs=(IDS, MASK),
    ),
    Fault(
        id="shape",
        feeds={"images": images(shape=(3, 9, 9))},
        problem="shape",
        says=r"of shape \[batch, 3, 8, 8\]; found shape \[32, 3, 9, 9\] in samples 0..31; preprocess",
    ),
    Fault(
        id="channels last", feeds={"images": images(shape=(8, 8, 3))}, problem="shape", says=r"transpose\(0, 3, 1, 2\)"
    ),
    Fault(id="no batch axis", feeds={"images": images()[0]}, problem="shape", says=r"add it with array\[None\]"),
    Fault(
        id="axes that should agree",
        feeds={"input_ids": np.ones((4, 5), np.int64), "mask": np.ones((4, 6), np.int64)},
        problem="shape",
        says="axis 'seq' is 5 in 'input_ids'",
        specs=(IDS, MASK),
    ),
    Fault(id="dtype", feeds={"images": images(dtype=np.float64)}, problem="dtype", says=r"array.astype\('float32'\)"),
    Fault(id="NaN", feeds={"images": with_value(np.nan)}, problem="nonfinite", says="NaN in sample 7 "),
    Fault(id="Inf", feeds={"images": with_value(-np.inf)}, problem="nonfinite", says="Inf in sample 7 "),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_wrong_samples_are_refused_by_name(fault):
    with pytest.raises(SamplesError, match=fault.says) as caught:
        check_samples(ArraySamples(fault.feeds), fault.specs)
    assert caught.value.details["problem"] == fault.problem
    assert caught.value.code == "SAMPLES_INVALID"


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(SamplesError, match="at least one sample") as caught:
        ArraySamples({"images": images(0)})
    assert caught.value.details["problem"] == "empty"
    (tmp_path / "empty_samples_for_test.py").write_text("def f():\n    return []\n")
    samples = FunctionSamples("empty_samples_for_test:f", search_path=tmp_path)
    with pytest.raises(SamplesError, match="an empty set"):
        check_samples(samples, (IMAGES,))


def test_a_nan_in_a_later_batch_is_found_at_its_sample():
    array = images()
    array[35] = np.nan
    with pytest.raises(SamplesError, match="NaN in sample 35"):
        check_samples(ArraySamples({"images": array}, batch_size=8), (IMAGES,))


@dataclass(frozen=True, kw_only=True)
class Odd:
    id: str
    images: Array
    codes: list[str]
    says: str = ""


ODD = [
    Odd(id="nothing odd", images=images(), codes=[]),
    Odd(id="constant", images=np.linspace(0.5, 0.5, 40 * 192, dtype=np.float32).reshape(40, 3, 8, 8),
        codes=["DUPLICATES", "CONSTANT_TENSOR"], says="is 0.5 everywhere"),
    Odd(id="one sample", images=images(1), codes=["ONE_SAMPLE"], says="one sample"),
    Odd(id="few samples", images=images(31), codes=["FEW_SAMPLES"], says="31 samples"),
    Odd(id="duplicates", images=np.concatenate([images(), images()[:3]]), codes=["DUPLICATES"], says="3 of 43"),
    Odd(id="out of range", images=images() * 255, codes=["OUT_OF_RANGE"], says="declared is -6 .. 6"),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.id)
def test_odd_samples_are_used_and_the_oddness_is_said(odd):
    lints = check_samples(ArraySamples({"images": odd.images}), (IMAGES,))
    assert [lint.code for lint in lints] == odd.codes
    assert odd.says in " ".join(lint.message for lint in lints)


def test_samples_in_both_sets_are_refused():
    array = images()
    with pytest.raises(SamplesError, match="5 of 15 evaluation samples in the calibration set too") as caught:
        check_disjoint(ArraySamples({"images": array[:30]}), ArraySamples({"images": array[25:]}))
    assert caught.value.details == {"problem": "overlap", "shared": 5}


def test_sets_that_share_nothing_pass():
    array = images()
    check_disjoint(ArraySamples({"images": array[:30]}), ArraySamples({"images": array[30:]}))


def test_a_fixed_batch_is_no_fault_since_samples_are_grouped_into_it():
    fixed = TensorSpec(name="images", dtype="float32", shape=(4, 3, 8, 8))
    assert check_samples(ArraySamples({"images": images()}), (fixed,)) == []
    with pytest.raises(SamplesError, match="preprocess"):
        check_samples(ArraySamples({"images": images(shape=(3, 9, 9))}), (fixed,))


def test_what_a_session_says_of_feeds_is_told_once():
    told = feed_error("feed onnxruntime", ValueError("asked to feed 'x' as int8; found that it takes float32; convert"))
    assert (told.asked, told.found, told.fix) == ("feed 'x' as int8", "that it takes float32", "convert")
    other = feed_error("feed onnxruntime", ValueError("no room"))
    assert (other.asked, other.found) == ("feed onnxruntime", "no room")
    assert "names, dtypes and shapes" in other.fix


def test_what_a_session_says_on_the_device_is_told_once():
    assert three_parts("asked to feed 'x'; found that it takes y", "run", "look") == (
        "feed 'x'",
        "that it takes y",
        "look",
    )
    assert three_parts("asked for a GPU; found no driver; get one", "run", "look") == (
        "for a GPU",
        "no driver",
        "get one",
    )
    assert three_parts("no room", "run", "look") == ("run", "no room", "look")
