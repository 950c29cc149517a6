"""The report in a real browser; skipped by name where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from edgeport.contracts import RunResult
from edgeport.report import write_report

# Written into the document by a script that the test adds: what a person would see, counted.
PROBE = """
<script>
const unfold = () => document.querySelectorAll("details.more").forEach((one) => { one.open = true; });
window.addEventListener("load", () => setTimeout(unfold, 1000));
window.addEventListener("load", () => setTimeout(() => {
  const painted = (node) => {
    for (const child of node.querySelectorAll("*")) {
      if (child.shadowRoot && painted(child.shadowRoot)) return true;
      if (child.tagName !== "CANVAS" || child.width === 0) continue;
      const { data } = child.getContext("2d").getImageData(0, 0, child.width, child.height);
      if (data.some((value) => value > 0)) return true;
    }
    return false;
  };
  const drawn = [...document.querySelectorAll(".plot")].filter(painted);
  const asked = performance.getEntriesByType("resource").map((entry) => entry.name);
  document.body.setAttribute("data-drawn", drawn.length);
  document.body.setAttribute("data-asked", asked.filter((name) => !name.startsWith("data:")).length);
  document.body.setAttribute("data-evil", window.evil === undefined ? "no" : "yes");
}, 3000));
</script>
"""
ERRORS = """
<script>
window.addEventListener("error", (event) => document.documentElement.setAttribute("data-error", event.message));
</script>
"""


def _probed(page: Path) -> Path:
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<style>", ERRORS + "<style>", 1) + PROBE, encoding="utf-8")
    return page


def _plots(result: RunResult) -> int:
    """Seven of all candidates, and the calls over time of each that was timed or measured again."""
    return 7 + len(result.measurements) + len(result.confirmation)


def test_every_plot_is_drawn_and_nothing_is_fetched(
    result: RunResult, tmp_path: Path, browse: Callable[[Path], str]
) -> None:
    document = browse(_probed(write_report(result, tmp_path / "report.html")))
    assert f'data-drawn="{_plots(result)}"' in document
    assert 'data-asked="0"' in document
    assert "data-error=" not in document


def test_hostile_names_run_nothing(
    fake: ModuleType, variants: ModuleType, tmp_path: Path, browse: Callable[[Path], str]
) -> None:
    evil = variants.hostile(fake.make_result(tmp_path, calls=60))
    document = browse(_probed(write_report(evil, tmp_path / "report.html")))
    assert 'data-evil="no"' in document
    assert 'data-asked="0"' in document
    assert f'data-drawn="{_plots(evil)}"' in document


def test_a_result_without_numbers_is_a_page(
    variants: ModuleType, result: RunResult, tmp_path: Path, browse: Callable[[Path], str]
) -> None:
    bare = [replace(c, accuracy=None, latency=None, placement=None, against_float=None) for c in result.candidates]
    empty = replace(variants.with_nothing(result), candidates=tuple(bare), measurements={}, confirmation={})
    document = browse(_probed(write_report(replace(empty, verification=None), tmp_path / "report.html")))
    assert "Nothing ships" in document
    assert 'data-drawn="0"' in document
    assert "data-error=" not in document
