"""How a walk's end is judged, and that there are as many architectures as is claimed."""

import pytest

from benchmarks.architecture_names import _CONFIGURATIONS, ARCHITECTURES
from benchmarks.architectures import LEAST_COUNT, Row, table, told

RAN = {"name": "timm:x", "step": "run", "others": {}, "seconds": 1.0}


@pytest.mark.parametrize(
    ("row", "succeeded", "refused", "words"),
    [
        pytest.param(Row(**RAN, exit_code=0, ships="onnxruntime int8"), True, False, "int8 ships", id="ships"),
        pytest.param(
            Row(**RAN, exit_code=1, code="EXPORT_FAILED", found="a loop", fix="unroll it"),
            False,
            True,
            "refuses: EXPORT_FAILED: a loop",
            id="refused by name",
        ),
        pytest.param(Row(**RAN, exit_code=1, code="INTERNAL", fix="report it"), False, False, "INTERNAL", id="a fault"),
        pytest.param(Row(**RAN, exit_code=1, code="EXPORT_FAILED"), False, False, "EXPORT_FAILED", id="no next step"),
        pytest.param(Row(**RAN, exit_code=None), False, False, "limit of time", id="hangs"),
        pytest.param(Row(**RAN, exit_code=4), False, False, "inconclusive", id="no answer"),
    ],
)
def test_a_walk_ends_with_a_bundle_a_refusal_or_a_fault(row, succeeded, refused, words):
    assert (row.succeeded, row.refused) == (succeeded, refused)
    assert words in told(row)


def test_there_are_as_many_as_is_claimed():
    assert len({architecture.name for architecture in ARCHITECTURES}) == len(ARCHITECTURES) >= LEAST_COUNT[0]
    assert len(_CONFIGURATIONS) >= LEAST_COUNT[1]


def test_the_table_says_why_the_others_do_not_ship():
    row = Row(**RAN | {"others": {"onnxruntime fp32": "BASELINE"}}, exit_code=0, ships="onnxruntime int8")
    assert table([row]).rows == (("timm:x", "onnxruntime int8 ships", "onnxruntime fp32 BASELINE"),)
