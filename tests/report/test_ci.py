"""What build servers read, read back."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from edgeport.contracts import Outcome
from edgeport.report.ci import CheckRow, junit_xml, markdown_table

ROWS = [
    CheckRow(name="p99 at most 20 ms", outcome=Outcome.PASS, found="12.1 ms (12.0 to 12.3)", figures={"p99_ms": 12.1}),
    CheckRow(name="p50", outcome=Outcome.FAIL, found="30 ms", reason="over <20 ms>", seconds=1.5),
    CheckRow(name="memory", outcome=Outcome.INCONCLUSIVE, found="unknown", reason="a rival"),
    CheckRow(name="energy", outcome=Outcome.INVALID, found="throttled"),
    CheckRow(name="size", outcome=Outcome.UNMEASURED, found="not run"),
]


@pytest.fixture
def suite():
    return ET.fromstring(junit_xml("edgeport bench", ROWS)).find("testsuite")


def test_only_a_pass_looks_like_one(suite):
    found = {
        case.get("name"): [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        for case in suite
    }
    assert found == {
        "p99 at most 20 ms": [],
        "p50": ["failure"],
        "memory": ["error"],
        "energy": ["error"],
        "size": ["skipped"],
    }
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "5",
        "failures": "1",
        "errors": "2",
        "skipped": "1",
        "time": "1.500",
    }


def test_reasons_and_figures_are_kept(suite):
    failure = suite.find("testcase[@name='p50']/failure")
    assert failure.get("message") == "fail: over <20 ms>"
    assert suite.find("testcase/properties/property").attrib == {"name": "p99_ms", "value": "12.1"}


def test_characters_that_xml_has_not_become_question_marks():
    row = CheckRow(name="a\x00b\x1b[31m", outcome=Outcome.PASS, found="\ud800")
    case = ET.fromstring(junit_xml("s", [row])).find("testsuite/testcase")
    assert case.get("name") == "a?b?[31m"


def test_markdown_stays_a_table_whatever_names_hold():
    rows = [CheckRow(name="a|b\n# c <img>", outcome=Outcome.FAIL, found="`x`", reason="*y*")]
    *_, row = markdown_table("t", rows).splitlines()
    assert row == r"| a\|b # c \<img\> | **FAIL** | \`x\` | \*y\* |"
