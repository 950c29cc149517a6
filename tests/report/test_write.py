from __future__ import annotations

import builtins
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeport.contracts import Outcome, RunResult, TensorSpec
from edgeport.errors import DependencyError, OutputError
from edgeport.report import write_report
from edgeport.report.write import render


class _Page(HTMLParser):
    """The page's words without scripts and styles, and every address that an element would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag in ("script", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def page(result: RunResult) -> _Page:
    return _Page(render(result))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("onnxruntime int8 ships", id="title"),
        pytest.param("It runs 1.71 times as fast as openvino bf16, the best float (95 % interval", id="speed"),
        pytest.param("It loses 0.11 points of top1 against PyTorch float32", id="accuracy"),
        pytest.param("901 samples", id="samples"),
        pytest.param("int8 8/9, fp32 1/9", id="placement"),
        pytest.param("the mean is taken in float", id="fallback-reason"),
        pytest.param("built, not run: there is no GPU here", id="unmeasured"),
        pytest.param("died by SIGSEGV", id="crashed"),
        pytest.param("no bf16 convolution", id="unsupported"),
        pytest.param("onnxruntime bf16 not available", id="unsupported-in-a-word"),
        pytest.param("openvino int8-dynamic crashed", id="crashed-in-a-word"),
        pytest.param("tensorrt int8 built, not run", id="unmeasured-in-a-word"),
        pytest.param("more than the budget of 0.01", id="too-inaccurate"),
        pytest.param("BACKEND_CRASH", id="code"),
        pytest.param("131.2 dB", id="verification"),
        pytest.param("avx512_vnni", id="device"),
        pytest.param("2026.4.1", id="versions"),
        pytest.param("at most 1.00 points", id="budget"),
        pytest.param("can't be run without an NVIDIA GPU", id="notes"),
        pytest.param("2 min 7 s; 3 steps were answered from the store", id="run"),
    ],
)
def test_says(page: _Page, words: str) -> None:
    assert words in page.text


def test_loads_nothing(page: _Page) -> None:
    assert page.loads == []
    assert "link" not in page.tags
    assert "iframe" not in page.tags


def test_is_small_with_many_calls(fake: ModuleType, tmp_path: Path) -> None:
    many = fake.make_result(tmp_path, calls=20_000, processes=10)
    assert len(render(many).encode()) < 3_000_000


def test_equal_results_give_equal_words(result: RunResult, page: _Page) -> None:
    assert _Page(render(result)).text == page.text


def test_when_float_ships_it_says_why(fake: ModuleType, result: RunResult) -> None:
    text = _Page(render(fake.without_winner(result))).text
    assert "openvino bf16 ships" in text
    assert "no quantized candidate was certainly faster" in text
    assert "no certain gain" in text
    assert "The winner, measured again" not in text


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome.FAIL, "no candidate keeps to the budget"),
        (Outcome.INCONCLUSIVE, "too thin"),
        (Outcome.INVALID, "must not be believed"),
        (Outcome.UNMEASURED, "nothing here can run"),
    ],
    ids=str,
)
def test_when_nothing_ships_it_says_why(fake: ModuleType, result: RunResult, outcome: Outcome, why: str) -> None:
    text = _Page(render(replace(fake.with_nothing(result), outcome=outcome))).text
    assert "Nothing ships" in text
    assert why in text


def test_a_metric_that_is_no_share_is_shown_as_it_is(result: RunResult) -> None:
    judged = [replace(c, accuracy=replace(c.accuracy, metric="sqnr")) if c.accuracy else c for c in result.candidates]
    text = _Page(render(replace(result, candidates=tuple(judged)))).text
    assert "0.9956" in text
    assert "of sqnr" in text


def test_hostile_names_are_text(fake: ModuleType, tmp_path: Path) -> None:
    evil = fake.hostile(fake.make_result(tmp_path, calls=60))
    text = render(evil)
    page = _Page(text)
    assert "<script>window.evil" not in text
    assert "<img" not in text
    assert "img" not in page.tags
    assert "window.evil=1" in page.text
    assert page.loads == []
    # Bokeh would take what stands between two $$ for TeX and fetch a renderer.
    assert "$$" not in text.rpartition("Bokeh.safely")[0].rpartition("<script")[2]


def test_a_link_is_not_followed(result: RunResult, tmp_path: Path) -> None:
    (tmp_path / "report.html").symlink_to(tmp_path / "target")
    with pytest.raises(OutputError, match="a link"):
        write_report(result, tmp_path / "report.html")
    assert not (tmp_path / "target").exists()


def test_an_older_report_is_replaced_and_nothing_else_left(result: RunResult, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(result, path)
    write_report(replace(result, name="newer"), path)
    assert "<title>newer: what ships</title>" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("module", ["bokeh", "jinja2"])
def test_a_missing_package_names_the_extra(
    result: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> ModuleType:
        if name.partition(".")[0] == module:
            raise ImportError(f"No module named {module!r}", name=module)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DependencyError, match=r'pip install "edgeport\[report\]"'):
        write_report(result, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_symbolic_and_fixed_shapes_are_shown(result: RunResult) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
    text = _Page(render(replace(result, model=replace(result.model, inputs=(spec,))))).text
    assert "x: float32 [batch, 3]" in text
