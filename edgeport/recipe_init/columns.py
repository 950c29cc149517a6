"""Which columns of a table feed which input, and which holds the labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeport.errors import SamplesError
from edgeport.recipe_init.assign import LABELS, LENGTHS, require_target
from edgeport.recipe_init.state_detection import SEQUENCES

__all__ = ["GAPS", "Columns", "ways_of_columns"]

GAPS = "gaps"
"""Kind of a column of numbers in which cells are empty: neither an input nor a class."""

_NUMBERS = ("whole", "number")
_SAID = {"whole": "whole numbers", "number": "numbers", "text": "text or empty cells", GAPS: "numbers and empty cells"}

_COUNTERS = ("", "id", "idx", "index", "no", "number", "row", "unnamed: 0")
"""Names of columns that number the rows."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """One way to read a table.

    Attributes:
        inputs: Input to its column, or to the columns that make a vector.
        target: Column of the labels; empty for none.
        lengths: There is a column that says how long each sample is.
        left: Columns that feed nothing.
        sequence: Column that says which sequence a row is a step of; empty where none does, or rows are no steps.

    """

    inputs: Mapping[str, str | tuple[str, ...]]
    target: str
    lengths: bool
    left: tuple[str, ...]
    sequence: str = ""


def ways_of_columns(
    kinds: Mapping[str, str], names: Sequence[str], target: str = "", *, steps: bool = False
) -> Iterator[Columns]:
    """Ways to feed a model from a table, the likeliest first.

    An input is fed by the column of its name, or by all that are called so with something behind (`facts_0`,
    `facts_1`); a lone input by all numbers that are no labels. Where rows are steps, the only column that is called as
    sequences are (`clip`, `session`, `sequence`) is neither: it says where they begin.

    Args:
        kinds: "whole", "number", "text" or "gaps", by column.
        names: Of the inputs.
        target: Column of the labels, where the user named it.
        steps: The model has a state, so that rows are the steps of sequences.

    Raises:
        SamplesError: No such column; or no way.

    """
    require_target(target, kinds, "a table with the columns")
    found = False
    sequence = _sequence_column(kinds, (*names, target)) if steps else ""
    others = {name: kind for name, kind in kinds.items() if name != sequence or not sequence}
    for labels in [target] if target else _label_columns(others, names):
        for columns in _fed(others, names, labels):
            taken = {one for each in columns.values() for one in ((each,) if isinstance(each, str) else each)}
            lengths = LENGTHS in kinds and LENGTHS not in (*taken, labels)
            left = tuple(one for one in others if one not in (*taken, labels, *([LENGTHS] if lengths else [])))
            found = True
            yield Columns(inputs=columns, target=labels, lengths=lengths, left=left, sequence=sequence)
    if not found:
        raise SamplesError(
            asked=f"feed {', '.join(names)} from a table",
            found=f"the columns {', '.join(f'{one} ({_SAID.get(kind, kind)})' for one, kind in kinds.items())}",
            fix=_fix_of_gaps(kinds) or _fix_of_names(kinds),
        )


def _fix_of_names(kinds: Mapping[str, str]) -> str:
    if len(kinds) == 1 and ";" in next(iter(kinds)):
        return "separate cells by commas (.csv) or tabs (.tsv)"
    return (
        "call columns of numbers as the inputs that they feed (age, or facts_0, facts_1 for a vector); or write a "
        "recipe with [data] columns, where a preprocessing function may take text"
    )


def _fix_of_gaps(kinds: Mapping[str, str]) -> str:
    gaps = [name for name, kind in kinds.items() if kind == GAPS]
    return f"fill the empty cells of {', '.join(gaps)} as in training, or leave their rows out" if gaps else ""


def _sequence_column(kinds: Mapping[str, str], taken: Sequence[str]) -> str:
    named = [name for name in kinds if name.strip().lower() in SEQUENCES and name not in taken]
    return named[0] if len(named) == 1 else ""


def _label_columns(kinds: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Columns that may hold labels: well-named ones, the only text, the last whole numbers; none at the end."""
    free = [name for name in kinds if name not in names]
    named = [name for name in free if name.strip().lower() in LABELS]
    if named:
        return named[:1]
    text = [name for name in free if kinds[name] == "text"]
    if len(text) == 1 and len(free) > 1:
        return text
    last = [name for name in free[-1:] if kinds[name] == "whole" and len(names) == 1]
    return ["", *last]


def _fed(kinds: Mapping[str, str], names: Sequence[str], labels: str) -> Iterator[dict[str, str | tuple[str, ...]]]:
    numbers = [name for name, kind in kinds.items() if kind in _NUMBERS and name != labels]
    by_name = {name: name if name in numbers else _vector(name, numbers) for name in names}
    if all(by_name.values()):
        yield by_name
    numbers = [name for name in numbers if name != LENGTHS or LENGTHS in names]
    gaps = any(kind == GAPS and name != labels for name, kind in kinds.items())  # another would stand in its place
    if len(names) == 1 and numbers and not gaps:
        rest = tuple(name for name in numbers if name.strip().lower() not in _COUNTERS)
        if rest:
            yield {names[0]: rest}
        if len(rest) < len(numbers):
            yield {names[0]: tuple(numbers)}


def _vector(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns `name_0`, `name.age`, `name7`."""
    return tuple(one for one in columns if re.fullmatch(rf"{re.escape(name)}([._\-\[ ].+|\d+)", one))
