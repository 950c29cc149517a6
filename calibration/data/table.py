"""Samples from a table in text: CSV."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgeport.calibration.data.array_roles import ArrayRole
from edgeport.calibration.data.digests import DigestedSet
from edgeport.calibration.data.rebatch import batched, check_batch_size
from edgeport.contracts import Array, PreprocessingFunction, Sample
from edgeport.errors import SamplesError

__all__ = ["TableSamples", "columns_of"]

_SHOWN = 40


class TableSamples(DigestedSet):
    """The rows of a `.csv` (or `.tsv`, with tabs) whose first line names the columns; read a batch at a time.

    A column becomes numbers [N] in the dtype of the input that it feeds, float32 where that is not known; a list of
    columns becomes a vector [N, columns]. An input of strings gets text, and so does a preprocessing function.

    Args:
        path: The file, UTF-8.
        columns: Array name to its column, or to the columns of a vector.
        wants: What the arrays are for, as far as it is known.
        target: Column of the labels, or empty. Whole numbers are class indices, other numbers are values; text is a
            class name.
        classes: Class names by index, for labels in text; else the names are counted in their order.
        batch_size: Samples in a batch.

    Raises:
        SamplesError: Not such a file, a column that is not there; while it is walked, a row or a number.

    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str | tuple[str, ...]],
        *,
        wants: Mapping[str, ArrayRole] | None = None,
        target: str = "",
        classes: tuple[str, ...] = (),
        batch_size: int = 32,
    ) -> None:
        self._path = path
        self._wants = dict(wants or {})
        self._batch_size = check_batch_size(batch_size)
        self._header = columns_of(path)
        self._columns = {
            name: self._positions((of,) if isinstance(of, str) else of, f"input {name!r}")
            for name, of in columns.items()
        }
        self._vectors = {name for name, of in columns.items() if not isinstance(of, str)}
        self._target = self._positions((target,), "the labels")[0] if target else None
        self._count, self._classes = self._first_walk(classes)

    def __iter__(self) -> Iterator[Sample]:
        return batched((self._sample(line, row) for line, row in self._rows()), self._batch_size)

    def __len__(self) -> int:
        return self._count

    def _sample(self, line: int, row: list[str]) -> Sample:
        feeds = {name: self._array(line, row, name)[None] for name in self._columns}
        return Sample(feeds=feeds, target=None if self._target is None else self._label(line, row[self._target])[None])

    def _array(self, line: int, row: list[str], name: str) -> Array:
        positions, want = self._columns[name], self._wants.get(name)
        dtype = want.spec.dtype if want is not None and want.preprocessing is None else "float32"
        by_function = want is not None and isinstance(want.preprocessing, PreprocessingFunction)
        if dtype == "string" or by_function:
            texts = [row[position] for position in positions]
            return np.array(texts if name in self._vectors else texts[0], np.str_)
        values = [self._number(line, row[position], position, dtype) for position in positions]
        return np.array(values if name in self._vectors else values[0]).astype(dtype)

    def _number(self, line: int, text: str, position: int, dtype: str) -> float | int:
        whole = "int" in dtype or dtype == "bool"
        try:
            if "_" in text:  # Python's own spelling, nobody else's
                raise ValueError(text)
            value = int(text) if whole else float(text)
            least, most = _range(dtype)
            if whole and not least <= value <= most:
                raise ValueError(text)
        except ValueError as error:
            raise self._wrong(
                f"{_shown(text)} in column {self._header[position]!r} on line {line}, which is no {dtype}",
                "correct the line; text goes to an input through a function: [inputs.NAME.preprocess] "
                'function = "pkg.mod:fn"',
                problem="number",
            ) from error
        return value

    def _label(self, line: int, text: str) -> Array:
        if self._classes is not None:
            return np.array(self._classes[text], np.int64)
        value = _parsed(text)
        if value is None:
            raise self._wrong(f"{_shown(text)} as the label on line {line}", "read the file again: it has changed")
        return np.array(value, np.int64 if self._whole else np.float64)

    def _first_walk(self, classes: tuple[str, ...]) -> tuple[int, dict[str, int] | None]:
        """Number of rows, and index of each class where the labels are text."""
        count, names, numbers, whole = 0, set[str](), True, True
        for _, row in self._rows():
            count += 1
            if self._target is not None:
                text = row[self._target]
                value = _parsed(text)
                numbers, whole = numbers and value is not None, whole and isinstance(value, int)
                names.add(text)
        if not count:
            raise self._wrong("no row but the first, which names the columns", "add rows", problem="empty")
        self._whole = whole
        if self._target is None or numbers:
            return count, None
        strangers = sorted(names - set(classes))
        if classes and strangers:
            raise self._wrong(
                f"the label {_shown(strangers[0])}, which is none of the {len(classes)} class names in [data] labels",
                "correct the label, or add the class's name",
                problem="labels",
            )
        return count, {name: index for index, name in enumerate(classes or sorted(names))}

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of each row; empty lines are none."""
        with _open(self._path) as file:
            reader = _reader(self._path, file)
            try:
                next(reader, None)
                for row in reader:
                    if not row:
                        continue
                    if len(row) != len(self._header):
                        raise self._wrong(
                            f"{len(row)} cells on line {reader.line_num}, and {len(self._header)} columns",
                            'give every row a cell per column; text with commas stands in quotes ("a, b")',
                        )
                    yield reader.line_num, row
            except csv.Error as error:
                raise self._wrong(f"line {reader.line_num}: {error}", "write it as CSV") from error
            except UnicodeDecodeError as error:
                raise self._wrong(
                    f"bytes that are no UTF-8 after line {reader.line_num}", "save it as UTF-8"
                ) from error

    def _positions(self, names: tuple[str, ...], what: str) -> tuple[int, ...]:
        for name in names:
            if name not in self._header:
                near = difflib.get_close_matches(name, self._header, n=1)
                separators = len(self._header) == 1 and ";" in self._header[0]
                raise self._wrong(
                    f"no column {name!r} for {what} among {', '.join(map(repr, self._header))}",
                    f"did you mean {near[0]!r}?"
                    if near
                    else "separate cells by commas (.csv) or tabs (.tsv)"
                    if separators
                    else "name one of them",
                    problem="name",
                )
        return tuple(self._header.index(name) for name in names)

    def _wrong(self, found: str, fix: str, problem: str = "file") -> SamplesError:
        return _wrong(self._path, found, fix, problem)


def columns_of(path: Path) -> tuple[str, ...]:
    """Names of a table's columns, of which its first line tells.

    Raises:
        SamplesError: It is no table, or two columns have one name.

    """
    with _open(path) as file:
        try:
            header: list[str] = next(_reader(path, file), [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise _wrong(path, f"no CSV in UTF-8 ({error})", "write it as CSV, in UTF-8") from error
    if not header:
        raise _wrong(path, "an empty file", "let the first line name the columns", problem="empty")
    twice = next((name for index, name in enumerate(header) if name in header[:index]), None)
    if twice is not None:
        raise _wrong(path, f"two columns {twice!r}", "give every column a name of its own", problem="name")
    return tuple(header)


def _open(path: Path) -> IO[str]:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise _wrong(path, str(error.strerror or error), "give a file that you may read") from error


def _reader(path: Path, file: IO[str]) -> Any:
    return csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)


def _wrong(path: Path, found: str, fix: str, problem: str = "file") -> SamplesError:
    return SamplesError(asked=f"read samples from {path.name}", found=found, fix=fix, details={"problem": problem})


def _parsed(text: str) -> int | float | None:
    if "_" in text:
        return None
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None


def _range(dtype: str) -> tuple[float, float]:
    if dtype == "bool":
        return 0, 1
    if "int" not in dtype:
        return -np.inf, np.inf
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")
