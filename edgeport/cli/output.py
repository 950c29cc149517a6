"""What every command shares: `--json`, `--quiet`, where text goes, and exit codes."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeport.cli.text import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from edgeport.contracts import OnProgress, Outcome

__all__ = ["Output", "exit_code", "finite", "output_options"]

F = TypeVar("F", bound=Callable[..., Any])

_FILE_WIDTH = 120
_CODES = {"pass": 0, "fail": 3, "inconclusive": 4, "unmeasured": 4, "invalid": 5}


def exit_code(outcome: Outcome) -> int:
    """The design's exit code of an outcome."""
    return _CODES[str(outcome)]


def output_options(command: F) -> F:
    """Adds `--json` and `--quiet`, and hands them to the command as one `Output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value to stdout, and nothing else.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress; only the result.")
    @functools.wraps(command)
    def wrapped(*args: Any, as_json: bool, quiet: bool, **kwargs: Any) -> Any:
        output = Output(as_json=as_json, quiet=quiet)
        output.listen_to_warnings()
        return command(*args, output=output, **kwargs)

    return wrapped  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a command's result and progress go.

    Attributes:
        as_json: One JSON value on stdout instead of tables.
        quiet: No progress on stderr.

    """

    as_json: bool = False
    quiet: bool = False

    def show(self, values: Callable[[], Any], draw: Callable[[Console], None]) -> None:
        """Prints the result: JSON values, or what `draw` draws."""
        if self.as_json:
            click.echo(json.dumps(finite(values()), indent=2, ensure_ascii=True))
        else:
            draw(self.console())

    def report(self, result: Any, draw: Callable[[Console, Any], None]) -> int:
        """Prints a result of the API, and gives the exit code of its outcome, if it has one."""
        from edgeport.contracts import to_jsonable

        self.show(lambda: to_jsonable(result), lambda console: draw(console, result))
        return exit_code(result.outcome) if hasattr(result, "outcome") else 0

    def console(self) -> Console:
        """Of stdout; a file gets lines of a fixed width, whatever terminal the command was typed in."""
        from rich.console import Console

        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _FILE_WIDTH
        return Console(width=width, highlight=False, markup=False, emoji=False)

    @contextmanager
    def progress(self) -> Iterator[OnProgress]:
        """A listener that draws on stderr while the block runs."""
        from edgeport.contracts.progress import silent

        if self.quiet:
            yield silent
            return
        from edgeport.cli.progress import drawn

        with drawn() as listener:
            yield listener

    def listen_to_warnings(self) -> None:
        """Our log's warnings (a damaged entry of the store) become lines on stderr."""
        log = logging.getLogger("edgeport")
        log.handlers = [_CleanLines()]
        log.setLevel(logging.ERROR if self.quiet else logging.WARNING)
        log.propagate = False


class _CleanLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(clean(f"{record.levelname.lower()}: {record.getMessage()}"), err=True)


def finite(values: Any) -> Any:
    """JSON values where null stands for what JSON has no number for (infinities, NaN)."""
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def lines(console: Console, *rows: RenderableType) -> None:
    """Prints rows that a terminal may wrap but that stay whole in a file, so that paths can be copied."""
    for row in rows:
        console.print(row, soft_wrap=True)
