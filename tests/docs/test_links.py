"""Links lead somewhere, down to the heading, and the site's navigation has every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edgeport

ROOT = Path(edgeport.__file__).parent.parent
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="not a checkout")

PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    *sorted((ROOT / "examples").rglob("README.md")),
    *sorted(DOCS.rglob("*.md")),
]


def _prose(path: Path) -> str:
    """Without fenced blocks, where brackets and parentheses are code."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), target
        assert not anchor or anchor in _anchors(there), target


def test_the_site_stays_within_its_folder() -> None:
    outside = [
        f"{page.name}: {target}"
        for page in DOCS.rglob("*.md")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", _prose(page))
        if "://" not in target and not (page.parent / target).resolve().is_relative_to(DOCS)
    ]
    assert outside == []


def test_the_navigation_has_every_page_once() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    named = re.findall(r"[\w/-]+\.md", nav)
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - {"README.md"}
    assert sorted(named) == sorted(pages)


def test_every_page_of_a_section_is_linked_from_its_index() -> None:
    for section in ("how-to", "explanation"):
        index = (DOCS / section / "index.md").read_text(encoding="utf-8")
        names = {page.name for page in (DOCS / section).glob("*.md")} - {"index.md"}
        assert [name for name in sorted(names) if f"({name})" not in index] == []
