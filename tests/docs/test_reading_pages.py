"""The reader of pages can fail: wrong exit codes, missing output and unknown blocks are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FENCE = "```"


def _page(pages: Any, folder: Path, text: str) -> Any:
    path = folder / "page.md"
    path.write_text(text.replace("~~~", FENCE), encoding="utf-8")
    return pages.read_page(path)


def test_files_are_written_and_commands_run_in_order(pages: Any, tmp_path: Path) -> None:
    page = _page(
        pages,
        tmp_path,
        "~~~python\n# sub/two.py\nprint(2)\n~~~\n\n~~~sh\npython sub/two.py > out.txt\ncat out.txt\n~~~\n\n"
        "~~~text\n2\n~~~\n\n~~~python\nprint(open('out.txt').read())\n~~~\n\n~~~text\n2\n~~~\n",
    )

    assert pages.execute(page, tmp_path) == 2
    assert (tmp_path / "sub" / "two.py").read_text() == "# sub/two.py\nprint(2)\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("~~~sh\nfalse\ntrue\n~~~\n", "page.md:2: ended with 1", id="a-command-fails"),
        pytest.param("~~~sh\nfalse | true\n~~~\n", "ended with 1", id="the-start-of-a-pipe-fails"),
        pytest.param("~~~python\nraise SystemExit(3)\n~~~\n", "ended with 3", id="a-program-fails"),
        pytest.param("~~~sh\necho one\n~~~\n~~~text\none\ntwo\n~~~\n", "not printed: ['two']", id="a-line-is-missing"),
        pytest.param(
            "~~~sh\necho one\n~~~\n<!-- differs: x -->\n~~~text\ntwo\n~~~\n", "not printed: ['two']", id="a-first-word"
        ),
        pytest.param("~~~toml\na = 1\n~~~\n", "neither a file nor run", id="no-name"),
        pytest.param("~~~\nwhat\n~~~\n", "no language", id="no-language"),
        pytest.param("~~~sh\nmake demo\necho one\n~~~\n", "give it its own block", id="setup-among-others"),
    ],
)
def test_a_page_that_does_not_hold_is_told(pages: Any, tmp_path: Path, text: str, told: str) -> None:
    page = _page(pages, tmp_path, text)

    with pytest.raises(pages.PageError) as found:
        pages.execute(page, tmp_path)

    assert told in str(found.value)


def test_setting_up_is_left_out(pages: Any, tmp_path: Path) -> None:
    page = _page(pages, tmp_path, "~~~sh\nmake demo  # all of it\npip install edgeport\n~~~\n~~~text\nnever\n~~~\n")

    assert pages.execute(page, tmp_path) == 0


@pytest.mark.parametrize(
    ("shown", "printed", "differs", "missing"),
    [
        pytest.param("took 3 s", "  took   12 s\n", False, [], id="numbers-and-spaces"),
        pytest.param("p50 0.1 ms", "p50 88 us", False, [], id="units"),
        pytest.param("in 3 steps", "in 3 stages", False, ["in # steps"], id="a-word"),
        pytest.param("digest 0123456789abcdef", "digest ffff0000ffff0000", False, [], id="digests"),
        pytest.param("found a, ...", "found a, b and c", False, [], id="goes-on"),
        pytest.param("found b, ...", "found a, b and c", False, ["found b, ..."], id="goes-on-from-elsewhere"),
        pytest.param("openvino 3 ms ships", "openvino 2 ms refused", True, [], id="differs"),
        pytest.param("openvino 3 ms ships", "onnxruntime 2 ms", True, ["openvino # _ ships"], id="differs-in-the-name"),
        pytest.param("a 1\nb 2\nnote: x", "a 1\nb 2", True, [], id="differs-in-a-note"),
        pytest.param("a 1\nnote: x\nnote: y", "a 1\nb 2", True, ["note: x", "note: y"], id="differs-in-most"),
    ],
)
def test_what_counts_as_printed(pages: Any, shown: str, printed: str, differs: bool, missing: list[str]) -> None:
    block = pages.Block(language="text", text=shown + "\n", line=1, differs=differs)

    assert pages.not_printed(block, printed) == missing


def test_marks_at_the_top_are_read(pages: Any, tmp_path: Path) -> None:
    page = _page(pages, tmp_path, "# T\n\n<!-- goes on from: README.md -->\n<!-- slow: long -->\n\n~~~sh\ntrue\n~~~\n")

    assert (page.goes_on_from, page.slow) == ("README.md", "long")


def test_what_a_page_needs_and_is_not_here(pages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGES_FOLDER", "here")
    page = _page(
        pages, tmp_path, "<!-- needs: json, no_such_module, $PAGES_FOLDER, $PAGES_OTHER -->\n\n~~~sh\ntrue\n~~~\n"
    )

    assert page.missing() == ["no_such_module", "$PAGES_OTHER"]


def test_lines_of_another_file_are_not_run(pages: Any, tmp_path: Path) -> None:
    mark = "<!-- part of: examples/stripes/stripes.py -->\n"
    page = _page(pages, tmp_path, f"{mark}~~~python\nclass Net(nn.Module):\n~~~\n")

    assert pages.execute(page, tmp_path) == 0


def test_lines_that_the_other_file_has_not_are_found(pages: Any, tmp_path: Path) -> None:
    mark = "<!-- part of: examples/stripes/stripes.py -->\n"
    page = _page(pages, tmp_path, f"{mark}~~~python\nclass Nets(nn.Module):\n~~~\n")

    with pytest.raises(pages.PageError, match=r"page\.md:3: these lines do not stand in examples/stripes/stripes\.py"):
        pages.execute(page, tmp_path)
