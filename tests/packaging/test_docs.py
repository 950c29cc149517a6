from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import edgeport
from edgeport import errors

DOCS = Path(edgeport.__file__).parent.parent / "docs"

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="not a checkout")


def test_the_errors_page_lists_every_error():
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| (.+) \|$", (DOCS / "reference" / "errors.md").read_text(), re.MULTILINE
    )
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and value is not errors.EdgeportError]
    ours = [cls for cls in classes if issubclass(cls, errors.EdgeportError)]
    assert sorted(rows) == sorted((cls.code, cls.__name__, " ".join(inspect.getdoc(cls).split())) for cls in ours)


def test_every_reference_page_is_linked_from_the_index():
    index = (DOCS / "reference" / "index.md").read_text()
    missing = [page.name for page in (DOCS / "reference").glob("*.md") if f"({page.name})" not in index]
    assert [name for name in missing if name != "index.md"] == []


def test_links_between_pages_lead_somewhere():
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
