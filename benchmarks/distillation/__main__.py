"""Runs the parts that were asked for; what lies in `--out` already is not done again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks.distillation.digits import digits_part
from benchmarks.distillation.generative import generative_part
from benchmarks.distillation.methods import methods_part
from benchmarks.distillation.processes import processes_part
from benchmarks.distillation.recipe import recipe_part
from benchmarks.distillation.sentences import sentences_part
from benchmarks.distillation.with_data import with_data_part
from benchmarks.results import Arguments, Part, argument_parser, parsed, report_parts

PARTS: Mapping[str, Callable[[Arguments, str], Part]] = {
    "with-data": with_data_part,
    "sentences": sentences_part,
    "generative": generative_part,
    "recipe": recipe_part,
    "digits": digits_part,
    "methods": methods_part,
    "processes": processes_part,
}
SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes through the parts one by one."""
    parser = argument_parser("Distillation, with data and without")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this one [default: all]")
    parser.add_argument(
        "--on",
        choices=["dev", "train"],
        default="dev",
        help="images that accuracy is of: the dev file, or training images that nobody learns from, to choose by",
    )
    given = parser.parse_args(arguments)
    common = parsed(given)
    parts = {name: PARTS[name](common, given.on) for name in given.part or PARTS}
    return report_parts("distillation", common, parts, seed=SEED, all_parts=tuple(PARTS))


if __name__ == "__main__":
    sys.exit(main())
