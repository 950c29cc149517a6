"""The page that lists the targets of a run."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from edgeport.contracts import Lack, NearCandidate, Outcome, RunResult
from edgeport.report.write import render, write_report


class _Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def summed_up(board: RunResult, server: RunResult) -> RunResult:
    empty = {"candidates": (), "best_float": "", "chosen": "", "bundle": None, "measurements": {}, "confirmation": {}}
    return replace(board, targets=(board, server), outcome=Outcome.FAIL, target="", **empty)


@pytest.fixture
def several(result: RunResult, variants: ModuleType, tmp_path: Path) -> RunResult:
    board = replace(result, target="board", report=tmp_path / "board" / "report.html")
    server = replace(variants.with_nothing(result), target="server", report=tmp_path / "server" / "report.html")
    return summed_up(board, server)


def test_every_target_has_its_row_and_links_to_what_there_is(several: RunResult) -> None:
    page = _Links(render(several))
    assert page.links == ["board/report.html"] * 2 + ["board/bundle/"] + ["server/report.html"] * 2
    words = " ".join(page.words)
    assert "1 of 2 targets ship" in words
    assert "server: nothing ships, because no candidate keeps to the budget." in words
    assert "onnxruntime int8" in words


def test_each_device_has_the_runtimes_that_it_has(several: RunResult) -> None:
    board, server = several.targets
    pi5 = replace(board.device, name="pi5", runtimes={"onnxruntime": "1.22.0", "numpy": "2.2.1"})
    targets = (replace(board, device=pi5), replace(server, device=replace(server.device, name="bare", runtimes={})))
    words = " ".join(_Links(render(replace(several, targets=targets))).words)
    assert "runtimes numpy 2.2.1, onnxruntime 1.22.0" in words
    assert "runtimes none" in words
    assert "runtimes" not in " ".join(_Links(render(several)).words)  # one device: they stand with the versions


def test_it_runs_no_script_and_shows_no_place_of_this_machine(several: RunResult, tmp_path: Path) -> None:
    text = render(several)
    assert "script" not in _Links(text).tags
    assert str(tmp_path) not in text
    assert write_report(several, tmp_path / "report.html").stat().st_size < 40_000


def test_a_target_links_to_the_page_of_all_where_there_is_one(several: RunResult) -> None:
    assert "../report.html" in _Links(render(several.targets[0], summary="../report.html")).links
    assert "../report.html" not in _Links(render(several.targets[0])).links


def test_names_are_text(several: RunResult, variants: ModuleType) -> None:
    hostile = summed_up(*(replace(variants.hostile(one), target=one.target) for one in (several.targets[0],) * 2))
    page = _Links(render(hostile))
    assert "script" not in page.tags
    assert "img" not in page.tags


def test_a_targets_page_names_it_and_lists_what_comes_nearest(several: RunResult) -> None:
    lack = Lack(
        of="p50", found=2.0, limit=1.0, factor=2.0, text="p50 2 ns, budget 1 ns: 2 times too slow", change="a <b>"
    )
    near = NearCandidate(name="openvino int8", lacks=(lack,), kept=("size",))
    page = _Links(render(replace(several.targets[1], nearest=(near,))))
    words = " ".join(page.words)
    assert "server" in words
    assert "Nearest to shipping, and what each lacks" in words
    assert "budget 1 ns: 2 times too slow a <b> size" in words
