"""Prints what is long, as a question: is it one subject? Nothing fails because of it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 60


def _files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],  # noqa: S607 (git as PATH has it)
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.splitlines()
    if listed.returncode or not names:  # no checkout
        names = [str(path) for path in Path().rglob("*.py") if not path.parts[0].startswith(".")]
    return [path for path in map(Path, names) if path.is_file()]


def main() -> None:
    """Prints long files and long functions."""
    found = []
    for path in _files():
        text = path.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        if lines > FILE_LINES:
            found.append(f"  {path}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found.append(f"  {path}:{node.lineno}: {node.name} has {length} lines")
    sys.stdout.write("\n".join(["Is each of these one subject?", *found]) if found else "Nothing is long.")
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
