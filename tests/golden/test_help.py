"""The help of every command, and the JSON Schema of recipes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.mark.usefixtures("fresh")
def test_every_help_is_as_it_was(edgeport: Callable[[str], Any], golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    texts = dict(_help_texts(edgeport, ""))

    for command, text in texts.items():
        golden.check_text(f"help/{command.strip().replace(' ', '-') or 'root'}.txt", text)
    assert len(texts) > 25
    assert len(list((golden.folder / "help").iterdir())) == len(texts)


def _help_texts(edgeport: Callable[[str], Any], command: str) -> Iterator[tuple[str, str]]:
    """Of a command and of those below it, which its help lists."""
    text = edgeport(f"{command} --help").out
    yield command, text
    for name in re.findall(r"^  ([a-z-]+) ", text.partition("\nCommands:\n")[2], re.MULTILINE):
        yield from _help_texts(edgeport, f"{command} {name}")


@pytest.mark.usefixtures("fresh")
def test_the_schema_of_recipes_is_as_it_was(edgeport: Callable[[str], Any], golden: Any) -> None:
    schema = json.loads(edgeport("run --schema").out)

    golden.check_text("recipe.schema.json", json.dumps(schema, indent=1) + "\n")
