"""`--junit` and `--markdown`: the verdicts as files that build servers read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeport.cli.options import NEW

if TYPE_CHECKING:
    from edgeport.report.ci import CheckRow

__all__ = ["CiFiles", "ci_options"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class CiFiles:
    """Where the verdicts are written too; None for nowhere."""

    junit: Path | None = None
    markdown: Path | None = None

    def check(self) -> None:
        """Before anything is measured.

        Raises:
            OutputError: One of them can't be written.

        """
        from edgeport.pipeline.output.artifact_folder import require_writable

        for path in (self.junit, self.markdown):
            if path is not None:
                require_writable(path)

    def write(self, title: str, rows: Sequence[CheckRow]) -> None:
        """Each file in one step."""
        from edgeport.pipeline.benchmarking.baseline import write_whole
        from edgeport.report.ci import junit_xml, markdown_table

        if self.junit is not None:
            write_whole(self.junit, junit_xml(title, rows).encode())
        if self.markdown is not None:
            write_whole(self.markdown, markdown_table(title, rows).encode())


def ci_options(command: F) -> F:
    """Adds `--junit` and `--markdown`, and hands them to the command as one `CiFiles`."""

    @click.option("--junit", type=NEW, metavar="FILE.xml", help="Write the verdicts as JUnit XML.")
    @click.option("--markdown", type=NEW, metavar="FILE.md", help="Write the verdicts as a Markdown table.")
    @functools.wraps(command)
    def wrapped(*args: Any, junit: Path | None, markdown: Path | None, **kwargs: Any) -> Any:
        return command(*args, files=CiFiles(junit=junit, markdown=markdown), **kwargs)

    return wrapped  # type: ignore[return-value]
