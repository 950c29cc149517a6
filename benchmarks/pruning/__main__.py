"""Runs the parts that were asked for; what lies in `--out` already is not done again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks.pruning.criteria import criteria_part
from benchmarks.pruning.parts import Part
from benchmarks.pruning.qat import qat_part
from benchmarks.results import Arguments, argument_parser, parsed, report

PARTS: Mapping[str, Callable[[Arguments], Part]] = {"criteria": criteria_part, "qat": qat_part}
SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes through the parts one by one."""
    parser = argument_parser("Pruning and quantization-aware training on CIFAR-10")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this one [default: all]")
    given = parser.parse_args(arguments)
    common = parsed(given)
    parts = {name: PARTS[name](common) for name in given.part or PARTS}
    return report(
        "pruning",
        common,
        {name: part.figures for name, part in parts.items()},
        [check for part in parts.values() for check in part.checks],
        seed=SEED,
        tables=[table for part in parts.values() for table in part.tables],
    )


if __name__ == "__main__":
    sys.exit(main())
