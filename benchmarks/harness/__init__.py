"""What every benchmark stands on: arguments, results, kept work, parts, timing; with PyTorch: the other modules."""

from __future__ import annotations

from benchmarks.harness.arguments import Arguments, argument_parser, parse_arguments, parsed
from benchmarks.harness.commands import Ended, watched
from benchmarks.harness.intervals import median_interval, paired, sqnr_db
from benchmarks.harness.kept import kept, kept_by_key, slug, write
from benchmarks.harness.parts import Part, PartResult, run_parts
from benchmarks.harness.recipes import run_recipe, write_recipe
from benchmarks.harness.results import Check, Table, at_least, at_most, report
from benchmarks.harness.timing import (
    benchmark_app,
    evaluated,
    interleaved,
    kept_rounds,
    median_ns,
    printed,
    processors,
    time_job,
    work_job,
)
from benchmarks.harness.walking import walk_each, walked
from benchmarks.harness.zoo import ROOT, example, missing, package, pictures, zoo

__all__ = [
    "ROOT",
    "Arguments",
    "Check",
    "Ended",
    "Part",
    "PartResult",
    "Table",
    "argument_parser",
    "at_least",
    "at_most",
    "benchmark_app",
    "evaluated",
    "example",
    "interleaved",
    "kept",
    "kept_by_key",
    "kept_rounds",
    "median_interval",
    "median_ns",
    "missing",
    "package",
    "paired",
    "parse_arguments",
    "parsed",
    "pictures",
    "printed",
    "processors",
    "report",
    "run_parts",
    "run_recipe",
    "slug",
    "sqnr_db",
    "time_job",
    "walk_each",
    "walked",
    "watched",
    "work_job",
    "write",
    "write_recipe",
    "zoo",
]
