"""A benchmark of several parts, each skipped where something that it needs is missing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.arguments import Arguments, parsed
from benchmarks.harness.results import Check, Table, at_least, report
from benchmarks.harness.zoo import missing


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """What one part of a benchmark gives back.

    Attributes:
        figures: Every raw figure; JSON values.
        checks: One per claim.
        tables: Of the page.

    """

    figures: Any
    checks: Sequence[Check]
    tables: Sequence[Table] = ()


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part.

    Attributes:
        run: Measures what is not there yet.
        files: That it needs of the folder that EDGEPORT_ZOO names.
        modules: That must be installed.

    """

    run: Callable[[Arguments], PartResult]
    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    def result(self, name: str, arguments: Arguments) -> PartResult:
        """Of a run; of a part that is skipped, a check that falls short."""
        absent = missing(self.files, self.modules)
        if not absent:
            return self.run(arguments)
        print(f"{name}: skipped, without {', '.join(absent)}")
        check = at_least(f"{name.replace('-', ' ')}: measured", 0.0, 1.0)
        return PartResult(figures={"skipped": absent}, checks=(check,))


def run_parts(
    name: str,
    parser: argparse.ArgumentParser,
    parts: Mapping[str, Part],
    arguments: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> int:
    """Run all parts, or those that `--part` names, and report them.

    Args:
        name: Of the benchmark.
        parser: Of `argument_parser`; gets `--part`.
        parts: By name.
        arguments: Of the command line; those of the process by default.
        seed: Of whatever is random.

    Returns:
        The exit status.

    """
    parser.add_argument("--part", action="append", choices=list(parts), help="only this one [default: all]")
    options = parser.parse_args(arguments)
    common = parsed(options)
    results = {part: parts[part].result(part, common) for part in options.part or parts}
    return report(
        name,
        common,
        {part: result.figures for part, result in results.items()},
        [check for result in results.values() for check in result.checks],
        seed=seed,
        tables=[table for result in results.values() for table in result.tables],
        parts=(tuple(results), tuple(part for part in parts if part not in results)),
    )
