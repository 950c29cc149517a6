"""Results as pages: `python -m benchmarks.pages FOLDER/results.json ... --into docs/benchmarks`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_MOST_FIGURES = 200


def page(results: Mapping[str, Any], title: str) -> str:
    """A page in Markdown: the checks first, then where they were measured, then the figures that are single numbers.

    Args:
        results: Content of a `results.json`.
        title: Of the page, a sentence.

    """
    name = str(results["benchmark"])
    parts = results.get("parts", {"run": (), "not_run": ()})
    command = f"python -m benchmarks.{name} --out FOLDER{' --short' if results['short'] else ''}"
    command += "".join(f" --part {part}" for part in parts["run"] if parts["not_run"])
    machine, versions = results["machine"], results["versions"]
    held = sum(check["holds"] for check in results["checks"])
    lines = [f"# {name}", "", title, "", "```sh", command, "```", ""]
    if results["short"]:
        lines += ["**A short run: for a look, no evidence.**", ""]
    if parts["not_run"]:
        lines += [f"Not run, so that nothing is said of it here: {', '.join(parts['not_run'])}.", ""]
    lines += [
        f"{held} of {len(results['checks'])} checks hold.",
        "",
        "| check | found | bound | |",
        "|---|---|---|---|",
        *(
            f"| {check['name']} | {_number(check['value'])} | {_number(check['bound'])} "
            f"| {'holds' if check['holds'] else '**falls short**'} |"
            for check in results["checks"]
        ),
        "",
        f"Measured on {machine['cpu']}, {machine['cores']} processors, {machine['memory_bytes'] / 2**30:.0f} GiB; "
        + ", ".join(f"{package} {version}" for package, version in versions.items())
        + (f"; seed {results['seed']}." if results["seed"] is not None else "."),
    ]
    for table in results.get("tables", ()):
        lines += ["", f"## {table['title']}", "", _line(table["columns"]), "|" + "---|" * len(table["columns"])]
        lines += [_line(row) for row in table["rows"]]
    figures = list(_scalars(results["figures"]))
    if figures:
        lines += ["", "## Figures", "", "| figure | value |", "|---|---|"]
        lines += [f"| {where} | {_number(value)} |" for where, value in figures[:_MOST_FIGURES]]
    if len(figures) > _MOST_FIGURES:
        lines += ["", f"and {len(figures) - _MOST_FIGURES} more in `results.json`."]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"


def _scalars(figures: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Single values with the names of what they lie in; long lists stay in the file."""
    if isinstance(figures, Mapping):
        for name, value in figures.items():
            yield from _scalars(value, f"{where}: {name}" if where else str(name))
    elif isinstance(figures, Sequence) and not isinstance(figures, str):
        if figures and len(figures) <= 3 and not isinstance(figures[0], Mapping):
            yield where, " .. ".join(_number(value) for value in figures)
    elif figures is not None:
        yield where, figures


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Writes one page per file of results."""
    parser = argparse.ArgumentParser(description="Results as pages of the documentation")
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.json")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    given = parser.parse_args()
    for path in given.results:
        results = json.loads(path.read_text(encoding="utf-8"))
        module = __import__(f"benchmarks.{results['benchmark']}", fromlist=["__doc__"])
        title = str(module.__doc__).partition("\n\n")[0].replace("\n", " ")
        (given.into / f"{results['benchmark']}.md").write_text(page(results, title), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
