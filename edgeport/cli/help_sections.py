"""Help with its options under headings, for commands that have many."""

from __future__ import annotations

from collections.abc import Mapping

import click

__all__ = ["grouped"]


def grouped(sections: Mapping[str, tuple[str, ...]]) -> type[click.Command]:
    """A class of commands whose help shows options by section.

    Args:
        sections: Heading to the names of its options, as they are called in code; others come last.

    """

    class Grouped(click.Command):
        def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            records = {
                parameter.name: record
                for parameter in self.get_params(ctx)
                if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None
            }
            for heading, names in sections.items():
                rows = [records.pop(name) for name in names if name in records]
                if rows:
                    with formatter.section(heading):
                        formatter.write_dl(rows)
            if records:
                with formatter.section("Other options"):
                    formatter.write_dl(list(records.values()))

    return Grouped
