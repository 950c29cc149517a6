"""An error as one readable block, or as JSON."""

from __future__ import annotations

import json

import click

from edgeport.cli.text import clean
from edgeport.errors import EdgeportError

__all__ = ["print_error"]

_WIDTH = 100


def print_error(error: EdgeportError, *, as_json: bool) -> None:
    """Prints the error: the block to stderr, or JSON to stdout, where the reader of `--json` looks for it.

    Plain click, so that it works where something heavier has just failed.
    """
    if as_json:
        click.echo(json.dumps({"error": error.to_dict()}, indent=2, default=str))
        return
    click.secho(f"Error {clean(error.code)}", err=True, fg="red", bold=True)
    for title, text in (("asked to", error.asked), ("found", error.found), ("do this", error.fix)):
        click.echo(_paragraph(title, clean(text)), err=True)


def _paragraph(title: str, text: str) -> str:
    import textwrap

    return textwrap.fill(
        text,
        width=_WIDTH,
        initial_indent=f"  {title:<9} ",
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )
