"""What a build server reads: JUnit XML, and a Markdown table for the page of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from edgeport.contracts import Outcome

__all__ = ["CheckRow", "junit_xml", "markdown_table"]

_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|])")


@dataclass(frozen=True, kw_only=True)
class CheckRow:
    """One check of a run.

    Attributes:
        name: What was checked ("model.onnx: p99 at most 20 ms").
        outcome: PASS, FAIL, INCONCLUSIVE, INVALID or UNMEASURED.
        found: In a few words, with the interval.
        reason: Where it is not PASS.
        seconds: That it took.
        figures: More, by name, for tools.

    """

    name: str
    outcome: Outcome
    found: str
    reason: str = ""
    seconds: float = 0.0
    figures: Mapping[str, float | str] = field(default_factory=dict)


def junit_xml(suite: str, rows: Sequence[CheckRow]) -> str:
    """One `testsuite`, in the form that Jenkins, GitLab and GitHub's actions read.

    FAIL is a failure. INCONCLUSIVE and INVALID are errors: the check could not be made, which must not look like a
    pass. UNMEASURED is skipped.
    """
    failures = sum(row.outcome is Outcome.FAIL for row in rows)
    errors = sum(row.outcome in (Outcome.INCONCLUSIVE, Outcome.INVALID) for row in rows)
    skipped = sum(row.outcome is Outcome.UNMEASURED for row in rows)
    root = ET.Element("testsuites")
    counts = {"tests": len(rows), "failures": failures, "errors": errors, "skipped": skipped}
    element = ET.SubElement(root, "testsuite", name=_text(suite))
    for key, count in counts.items():
        element.set(key, str(count))
    element.set("time", f"{sum(row.seconds for row in rows):.3f}")
    for row in rows:
        case = ET.SubElement(element, "testcase", classname=_text(suite), name=_text(row.name))
        case.set("time", f"{row.seconds:.3f}")
        if row.figures:
            properties = ET.SubElement(case, "properties")
            for name, value in row.figures.items():
                ET.SubElement(properties, "property", name=_text(name), value=_text(str(value)))
        kind = {Outcome.FAIL: "failure", Outcome.UNMEASURED: "skipped", Outcome.PASS: ""}.get(row.outcome, "error")
        if kind:
            told = ET.SubElement(case, kind, message=_text(f"{row.outcome}: {row.reason or row.found}"))
            if kind != "skipped":
                told.set("type", str(row.outcome))
                told.text = _text(f"{row.found}\n{row.reason}".strip())
        ET.SubElement(case, "system-out").text = _text(row.found)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def markdown_table(title: str, rows: Sequence[CheckRow]) -> str:
    """A heading and a table, as GitHub and GitLab draw it."""
    lines = [f"### {_escaped(title)}", "", "| check | verdict | found | why |", "|---|---|---|---|"]
    lines += [
        f"| {_escaped(row.name)} | **{str(row.outcome).upper()}** | {_escaped(row.found)} | {_escaped(row.reason)} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Without the characters that XML 1.0 has no form for."""
    return _NOT_XML.sub("?", value)


def _escaped(value: str) -> str:
    """In one line, so that names that users chose draw nothing."""
    return _MARKDOWN.sub(r"\\\1", " ".join(value.split()))
