"""Which nodes a search kept in float, and why."""

from __future__ import annotations

from dataclasses import replace

from edgeport.contracts import PlanSearch, Precision, RunResult, SearchedGroup
from edgeport.report.searches import search_tables
from edgeport.report.write import render

KEPT = SearchedGroup(
    name="<stem>",
    nodes=("<stem>", "relu"),
    noise=0.1,
    precision=Precision.FP32,
    reason="with it in int8 the accuracy budget did not hold",
)


def search(*others: SearchedGroup, candidate: str = "onnxruntime int8 tuned") -> PlanSearch:
    return PlanSearch(candidate=candidate, backend="onnxruntime", said="A search of 9 s.", groups=(*others, KEPT))


def integer(name: str, noise: float | None) -> SearchedGroup:
    return SearchedGroup(name=name, nodes=(name,), noise=noise, precision=Precision.INT8)


def test_floats_come_first_then_the_most_sensitive(result: RunResult) -> None:
    others = [integer(f"g{index}", noise) for index, noise in enumerate([None, 0.0, 1e-3, float("inf"), *[1e-4] * 10])]
    (table,) = search_tables(replace(result, searches=(search(*others),)))
    assert [row.name for row in table.rows[:4]] == ["<stem>", "g3", "g2", "g4"]
    assert [row.signal for row in table.rows[:4]] == ["10.0 dB", "broken", "30.0 dB", "40.0 dB"]
    assert (len(table.rows), table.hidden) == (13, 2)
    assert table.name == "onnxruntime int8 tuned"


def test_a_search_without_a_plan_goes_by_its_backend(result: RunResult) -> None:
    (table,) = search_tables(replace(result, searches=(search(candidate=""),)))
    assert table.name == "onnxruntime"


def test_the_page_says_why_and_escapes_names(result: RunResult) -> None:
    page = render(replace(result, searches=(search(integer("head", None)),)))
    assert 'href="#searches"' in page
    assert "with it in int8 the accuracy budget did not hold" in page
    assert "&lt;stem&gt;" in page
    assert "<stem>" not in page
    assert "Which nodes the search kept in float" not in render(result)
