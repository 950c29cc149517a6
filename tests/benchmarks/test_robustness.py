"""What counts as wrong in the robustness benchmark, and which refusals are on its list."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.robustness.outcomes import Outcome, Row, compared, share_refused, sudden
from benchmarks.robustness.refusals import REFUSALS, listed
from benchmarks.robustness.walk import _require_computed

WANTED = {"y": np.array([1.0, -2.0, 3.0], np.float32), "n": np.array([1, 2])}


def test_equal_outputs_have_no_noise() -> None:
    assert compared(WANTED, WANTED) == ({"y": 150.0}, [])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"y": np.array([1.0, np.nan, 3.0], np.float32)}, "not finite"),
        ({"y": WANTED["y"][:2]}, "instead of float32"),
        ({"n": np.array([1, 3])}, "n: 1 of 2 values differ"),
        ({"m": WANTED["n"]}, "outputs ['m', 'n', 'y'] instead of ['n', 'y']"),
    ],
)
def test_what_is_wrong_is_said(changed: dict[str, np.ndarray], says: str) -> None:
    (said,) = compared({**WANTED, **changed}, WANTED)[1]
    assert says in said


def test_what_is_not_finite_in_the_float_file_may_be_so() -> None:
    infinite = {"y": np.array([np.inf, 1.0, -np.inf], np.float32)}
    assert compared(infinite, infinite)[1] == []


def test_noise_is_told_in_decibels() -> None:
    ratios, wrong = compared({**WANTED, "y": WANTED["y"] * 1.01}, WANTED)
    assert (round(ratios["y"]), wrong) == (40, [])


@pytest.mark.parametrize(
    ("ratios", "wrong"),
    [
        ((35, 28, 20, 12, 5, 0, -2), False),
        ((35, 28, 3, 2), True),
        ((12, 10), True),
        ((30, 5, -9), True),
        ((30, 20, 12, 5, -4), False),
        ((), True),
    ],
)
def test_a_layer_that_ends_what_came_to_it_is_told_from_noise_that_grows(
    ratios: tuple[float, ...], wrong: bool
) -> None:
    assert sudden(ratios) == wrong


def test_the_list_holds_what_it_names_and_nothing_else() -> None:
    assert listed(REFUSALS, "MODEL_FORMAT", "input 'x' of type sequence_type")
    assert not listed(REFUSALS, "MODEL_FORMAT", "a cycle")
    assert not listed(REFUSALS, "INTERNAL", "input 'x' of type sequence_type")
    assert all(each.why for each in REFUSALS)


def test_what_is_no_float_file_dilutes_no_share() -> None:
    outcomes = [Outcome.REFUSED, *[Outcome.FLOAT] * 3, *[Outcome.LOW] * 50, *[Outcome.RUNTIME] * 50]
    rows = [Row(name=str(index), runtime="openvino", outcome=one) for index, one in enumerate(outcomes)]

    assert share_refused(rows) == 0.25
    assert share_refused([]) == 0


@pytest.mark.parametrize(
    ("rows", "shape", "raises"),
    [
        pytest.param(0, (), True, id="empty, another shape"),
        pytest.param(0, (0, 3), False, id="empty, as declared"),
        pytest.param(2, (), False, id="nothing empty"),
    ],
)
def test_what_is_of_chance_was_not_computed(rows: int, shape: tuple[int, ...], raises: bool, tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> net (float[n, 3] x) => (float[n, 3] y) { y = Abs(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    feeds, outputs = {"x": np.zeros((rows, 3), np.float32)}, {"y": np.zeros(shape, np.float32)}
    with pytest.raises(RuntimeError, match="an array is empty") if raises else nullcontext():
        _require_computed(str(tmp_path / "model.onnx"), feeds, outputs)
