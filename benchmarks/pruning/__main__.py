"""Runs the parts that were asked for; what lies in `--out` already is not done again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks.pruning.criteria import criteria_part, trained_part
from benchmarks.pruning.latency import latency_part
from benchmarks.pruning.qat import qat_part
from benchmarks.pruning.twice import twice_part
from benchmarks.results import Arguments, Part, argument_parser, parsed, report_parts

PARTS: Mapping[str, Callable[[Arguments], Part]] = {
    "criteria": criteria_part,
    "trained": trained_part,
    "latency": latency_part,
    "twice": twice_part,
    "qat": qat_part,
}
SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes through the parts one by one."""
    parser = argument_parser("Pruning and quantization-aware training on CIFAR-10")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this one [default: all]")
    given = parser.parse_args(arguments)
    common = parsed(given)
    parts = {name: PARTS[name](common) for name in given.part or PARTS}
    return report_parts("pruning", common, parts, seed=SEED, all_parts=tuple(PARTS))


if __name__ == "__main__":
    sys.exit(main())
