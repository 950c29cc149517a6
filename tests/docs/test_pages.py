"""Every page that a stranger reads does what it says: its commands run, and print what it shows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgeport

ROOT = Path(edgeport.__file__).parent.parent
EXECUTED = [
    path
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("tutorial/*.md")),
        *sorted((ROOT / "docs").glob("how-to/*.md")),
        *sorted((ROOT / "examples").glob("*/README.md")),
    )
    if path != ROOT / "docs" / "how-to" / "index.md"  # a list of links
]

pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="not a checkout")


_made = shutil.ignore_patterns(
    *("*.npz", "*.csv", "*.onnx", "*.pt", "*.safetensors", "classes.txt"),
    *("*-out", "calibration", "evaluation", "__pycache__"),
)
"""What runs have left in an example's folder."""


def _parameter(path: Path) -> Any:
    slow = re.search(r"^<!-- slow: .+ -->$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else None
    return pytest.param(path, id=path.relative_to(ROOT).as_posix(), marks=[pytest.mark.slow] if slow else [])


@pytest.fixture(scope="module")
def followed(pages: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Follows a page, once, and returns the folder that it left, and how many blocks ran."""
    folders: dict[Path, Path] = {}

    def follow(path: Path) -> Path:
        if path not in folders:
            page = pages.read_page(path)
            if page.missing():
                pytest.skip(f"not here: {', '.join(page.missing())}")
            folder = tmp_path_factory.mktemp(path.stem) / "work"
            if page.goes_on_from:
                shutil.copytree(follow(ROOT / page.goes_on_from), folder)
            elif path.is_relative_to(ROOT / "examples"):
                shutil.copytree(path.parent, folder, ignore=_made)
            else:
                folder.mkdir()
            ran = pages.execute(page, folder)
            assert ran, f"{path.name} has nothing that runs"
            folders[path] = folder
        return folders[path]

    return follow


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", [_parameter(path) for path in EXECUTED])
def test_the_page_does_what_it_says(path: Path, followed: Callable[[Path], Path]) -> None:
    assert followed(path).is_dir()


def test_the_readmes_files_are_the_example(pages: Any) -> None:
    written = {block.file: block.text for block in pages.read_page(ROOT / "README.md").blocks if block.file}
    for name in ("stripes.py", "edgeport.toml"):
        example = (ROOT / "examples" / "stripes" / name).read_text(encoding="utf-8")
        assert written[name] == f"# {name}\n{example}"


def test_the_tutorials_model_is_the_example(pages: Any) -> None:
    page = pages.read_page(ROOT / "docs" / "tutorial" / "index.md")
    written = {block.file: block.text for block in page.blocks if block.file}
    for name in ("stripes.py", "edgeport.toml"):
        example = (ROOT / "examples" / "stripes" / name).read_text(encoding="utf-8")
        assert written[name].startswith(f"# {name}\n{example}")
