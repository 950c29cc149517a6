"""`edgeport bundle`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import FOLDER
from edgeport.cli.output import Output, lines, output_options

__all__ = ["command"]

_INVALID = 5


@click.group(name="bundle")
def command() -> None:
    """Checks a bundle.

    \b
    Example:
      edgeport bundle verify edgeport-quickstart/bundle
    """  # noqa: D301 (click's own mark against wrapping)


@command.command(name="verify")
@click.argument("folder", type=FOLDER)
@output_options
def verify(*, folder: Path, output: Output) -> int:
    """Every file of the bundle in FOLDER against the digests in its manifest.

    Ends with 0 where it is as it was written, else with 5.

    \b
    Example:
      edgeport bundle verify edgeport-quickstart/bundle
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport.bundle import verify_bundle

    problems = verify_bundle(folder)

    from rich.text import Text

    from edgeport.cli.text import clean

    output.show(
        lambda: {"bundle": str(folder), "valid": not problems, "problems": problems},
        lambda console: lines(
            console,
            *(Text(clean(problem), style="red") for problem in problems),
            Text(f"{clean(folder)}: {'changed' if problems else 'as it was written'}", style="bold"),
        ),
    )
    return _INVALID if problems else 0
