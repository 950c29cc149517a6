"""Node tests as files, and how outputs are held against what is expected."""

import json

import numpy as np
import pytest

from benchmarks.adapters import _UNFED, LEAST_BUILT, Outcome, Row, _of_refusal, _report, differs
from benchmarks.harness import Arguments
from edgeport.errors import ModelFormatError


@pytest.fixture
def case(tmp_path):
    (tmp_path / "tolerance.json").write_text(json.dumps({"rtol": 1e-3, "atol": 1e-7}))
    return tmp_path


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param({"y": np.array([1.0, np.nan], np.float32)}, "", id="equal"),
        pytest.param({"y": np.array([1.0005, np.nan], np.float32)}, "", id="within the tolerance"),
        pytest.param({"y": np.array([1.1, np.nan], np.float32)}, "other numbers", id="other"),
        pytest.param({"y": np.array([1, 2])}, "instead of float32", id="dtype"),
        pytest.param({"z": np.array([1.0])}, "outputs ['z']", id="name"),
    ],
)
def test_outputs_are_held_against_the_reference(found, says, case):
    said = differs(found, {"y": np.array([1.0, np.nan], np.float32)}, case)
    assert says in said
    assert bool(said) is bool(says)


def test_text_and_integers_must_be_equal(case):
    wanted = {"t": np.array(["a", "b"]), "n": np.array([1, 2])}
    assert differs({"t": np.array(["a", "b"], object), "n": np.array([1, 2])}, wanted, case) == ""
    assert differs({"t": np.array(["a", "c"], object), "n": np.array([1, 2])}, wanted, case) == "t: other values"


@pytest.mark.parametrize(
    ("found", "alone", "outcome"),
    [
        pytest.param("input 'x' of type sequence_type", "", Outcome.LISTED, id="listed"),
        pytest.param("a cycle", "refuses: no kernel", Outcome.RUNTIME_REFUSES, id="the runtime too"),
        pytest.param("a cycle", "y: other numbers", Outcome.RUNTIME_DIFFERS, id="the runtime is wrong"),
        pytest.param("a cycle", _UNFED, Outcome.NOT_FED, id="nobody was asked"),
        pytest.param("a cycle", "", Outcome.UNLISTED, id="alone"),
    ],
)
def test_a_refusal_is_judged_by_what_the_runtime_does(found, alone, outcome):
    assert _of_refusal(ModelFormatError(asked="open", found=found, fix="no"), alone) is outcome


@pytest.mark.parametrize(("built", "status"), [(LEAST_BUILT, 0), (LEAST_BUILT - 1, 1)])
def test_a_parser_that_refuses_too_much_is_no_evidence(built, status, tmp_path):
    outcomes = [Outcome.BUILT] * built + [Outcome.RUNTIME_REFUSES] * 200
    rows = [Row(name=str(index), runtime="tensorrt", outcome=one) for index, one in enumerate(outcomes)]
    assert _report(Arguments(out=tmp_path, short=False), {"tensorrt": rows}) == status
