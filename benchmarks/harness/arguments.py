"""What every benchmark is called with."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Common to all benchmarks.

    Attributes:
        out: Folder for `results.json` and whatever else is kept.
        short: Fewer repetitions, for a look; its figures are no evidence.
        on: Images that accuracy is of: "dev", or "train" (training images that nobody learns from, to choose by).

    """

    out: Path
    short: bool
    on: str = "dev"


def argument_parser(description: str) -> argparse.ArgumentParser:
    """With `--out FOLDER [--short]`; a benchmark that has more to choose adds it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where results.json goes")
    parser.add_argument("--short", action="store_true", help="fewer repetitions; for a look, not as evidence")
    return parser


def parsed(options: argparse.Namespace) -> Arguments:
    """The common part of what such a parser read; makes the folder."""
    options.out.mkdir(parents=True, exist_ok=True)
    return Arguments(out=options.out, short=options.short, on=getattr(options, "on", "dev"))


def parse_arguments(description: str) -> Arguments:
    """Reads `--out FOLDER [--short]`, and makes the folder."""
    return parsed(argument_parser(description).parse_args())
