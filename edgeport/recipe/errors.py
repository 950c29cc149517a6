"""A recipe's text, and errors that point at a line of it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.errors import RecipeError
from edgeport.recipe.toml_lines import line_of

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["RecipeText", "nearest"]

KeyPath = tuple[str | int, ...]

_SHOWN = 60
_ARRAYS = ("target", "compress")


@dataclass(frozen=True, kw_only=True)
class RecipeText:
    """What the file says.

    Attributes:
        path: The file.
        text: All of it.
        values: As tomllib read it.

    """

    path: Path
    text: str
    values: dict[str, Any]

    def error(self, key: KeyPath, found: str, fix: str) -> RecipeError:
        """An error about the key at this path."""
        line = line_of(self.text, key)
        where = f"line {line}, " if key[:1] and key[0] in self.values else ""
        return RecipeError(
            asked=f"read the recipe {self.path.name}",
            found=f"{where}{self._spelled(key)}: {found}",
            fix=fix,
            details={"file": str(self.path), "line": line, "key": ".".join(str(part) for part in key)},
        )

    def _spelled(self, key: KeyPath) -> str:
        alone = len(key) > 1 and key[0] in _ARRAYS and len(self.values.get(str(key[0]), ())) == 1
        return spelled((key[0], *key[2:]) if alone else key)

    def wrong_value(self, key: KeyPath, found: str, fix: str) -> RecipeError:
        """An error about the value of the key at this path."""
        return self.error(key, f"{_shown(self._value(key))} {found}", fix)

    def first_mistake(self, errors: ValidationError) -> RecipeError:
        """The mistake that stands first in the file, what is missing last; the others are in its details."""
        # A mistyped key is missing too: then the unknown one says more.
        found: list[dict[str, Any]] = [dict(error) for error in errors.errors(include_url=False)]
        found.sort(key=lambda error: (error["type"] == "missing", line_of(self.text, self._known_part(error["loc"]))))
        mistakes = [self._translated(error) for error in found]
        first = mistakes[0]
        if len(mistakes) > 1:
            first.details["others"] = [mistake.found for mistake in mistakes[1:]]
        return first

    def _translated(self, error: dict[str, Any]) -> RecipeError:
        key = self._known_part(error["loc"])
        kind, context = str(error["type"]), error.get("ctx", {})
        if kind == "extra_forbidden":
            return self._unknown_key(key)
        if kind == "missing":
            missing = (*key, str(error["loc"][-1]))
            return self.error(missing, "is missing", f"give it, such as {_EXAMPLES.get(missing[-1], 'a value')}")
        if kind.startswith("union_tag"):
            return self._unknown_method(key, str(context.get("discriminator", "'method'")).strip("'"))
        if kind == "literal_error":
            allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            near = nearest(str(self._value(key)), allowed)
            return self.wrong_value(key, f"is none of {', '.join(allowed)}", near or "use one of them")
        should = str(error["msg"]).replace("Input should be", "should be").replace(" dictionary", " table")
        should = should.partition(" or instance of ")[0]  # names of our own classes
        return self.wrong_value(key, should[0].lower() + should[1:], self._type_fix(key))

    def _unknown_method(self, key: KeyPath, name: str) -> RecipeError:
        from edgeport.recipe.sections import COMPRESS

        given = self._value(key)
        if name not in given:
            return self.error((*key, name), "is missing", f"give it, such as {_EXAMPLES[name]}")
        near = nearest(str(given[name]), COMPRESS)
        return self.wrong_value((*key, name), f"is none of {', '.join(COMPRESS)}", near or "use one of them")

    def _type_fix(self, key: KeyPath) -> str:
        if key[0] in _ARRAYS and len(key) == 1:
            return f"write [[{key[0]}]] in two brackets: there may be several"
        if len(key) == 1 and key[0] in ("model", "data", "export", "budget", "search", "state"):
            return f"write a section [{key[0]}]"
        return "give such a value; docs/reference/recipe.md lists every key"

    def _unknown_key(self, key: KeyPath) -> RecipeError:
        from edgeport.recipe.sections import PREPROCESS, RecipeFile

        fields = RecipeFile.fields_by_section()
        section = PREPROCESS if _preprocesses(key) else str(key[0]) if len(key) > 1 else ""
        if section == "target" and "budget" in key[2:-1]:
            section = "target.budget"
        if section == "compress":
            section = f"compress.{self._value(key[:2])['method']}"
        name = str(key[-1])
        if section.startswith("compress.") and "target" in fields[section] and name in _OPTIONS:
            return self.error(key, "no such key", f"write {_OPTIONS[name]}")
        methods = [other for other in fields if other.partition(".")[0] == section.partition(".")[0] == "compress"]
        near = nearest(name, fields.get(section, ())) if not any(name in fields[other] for other in methods) else ""
        if near:
            return self.error(key, "no such key", near)
        for other, names in fields.items():
            if other and other != section and name in names:
                array, _, method = other.partition(".")
                where = f'[[compress]] with method = "{method}"' if array == "compress" else spelled((other,))
                return self.error(key, "no such key", f"{name} belongs into {where}")
        known = ", ".join(fields.get(section, ()))
        return self.error(key, "no such key", f"remove it; there are {known}")

    def _known_part(self, location: Sequence[str | int]) -> KeyPath:
        """Pydantic's location without its names for the members of unions, which no file holds."""
        key: list[str | int] = []
        value: Any = self.values
        for part in location:
            held = isinstance(value, dict) and part in value
            if not held and key[:1] == ["compress"] and len(key) == 2 and part == value.get("method"):
                continue
            if not held and not (isinstance(value, list) and isinstance(part, int) and part < len(value)):
                break
            value = value[part]
            key.append(part)
        return tuple(key)

    def _value(self, key: KeyPath) -> Any:
        value: Any = self.values
        for part in key:
            value = value[part]
        return value


_EXAMPLES: dict[str | int, str] = {
    "model": 'a section [model] with source = "net:create"',
    "data": 'a section [data] with evaluation = "evaluation.npz"',
    "source": 'source = "net:create" (module and function beside the recipe) or "model.onnx"',
    "evaluation": 'evaluation = "evaluation.npz" (one array per input, axis 0 counts samples)',
    "backend": 'backend = "onnxruntime"',
    "method": 'method = "prune"',
    "range": "range = [1, 512]",
    "shape": 'shape = ["batch", 3, 224, 224]',
}

_OPTIONS = {"speedup": 'target = "2x"', "latency": 'target = "p50 <= 5 ms"'}
"""Options of commands that a [[compress]] block has under another name."""


def nearest(name: str, known: Iterable[str]) -> str:
    """'did you mean "..."?', or nothing where nothing is near."""
    spelled_as = {other.lower(): other for other in known}
    begins = [other for other in spelled_as if len(name) > 2 and other.startswith(name.lower())]
    found = begins or difflib.get_close_matches(name.lower(), spelled_as, n=1, cutoff=0.6)
    return f'did you mean "{spelled_as[found[0]]}"?' if found else ""


def _preprocesses(key: KeyPath) -> bool:
    return len(key) > 3 and key[0] == "inputs" and key[2] == "preprocess"


def spelled(key: KeyPath) -> str:
    """A key as people write it: "[data] metric", "[[target]] 2, backend"."""
    names = [part for part in key if isinstance(part, str)]
    if not names:
        return "the file"
    if names[0] == "inputs" and _preprocesses(key):
        return " ".join([f"[inputs.{names[1]}.preprocess]", *names[3:]])
    if names[0] in ("inputs", "axes") and len(names) > 1:
        return " ".join([f"[{names[0]}.{names[1]}]", *names[2:]])
    if names[0] in _ARRAYS:
        number = f" number {key[1] + 1}" if len(key) > 1 and isinstance(key[1], int) else ""
        return " ".join([f"[[{names[0]}]]{number}", *names[1:]])
    return " ".join([f"[{names[0]}]", *names[1:]])


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
