"""Runs the parts that were asked for, and reports all that is known by then."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.quantization.accuracy import accuracy_rows
from benchmarks.quantization.checks import accuracy_checks, latency_checks, time_checks
from benchmarks.quantization.latency import latency_row
from benchmarks.quantization.peers import PEERS
from benchmarks.quantization.rows import AccuracyRow, LatencyRow, TimeRow
from benchmarks.quantization.subjects import SUBJECTS, Subject, missing
from benchmarks.quantization.tables import accuracy_table, latency_table, time_table
from benchmarks.quantization.timing import time_rows
from benchmarks.quantization.watched import watched
from benchmarks.results import Arguments, Check, argument_parser, at_least, parsed, report

PARTS = ("accuracy", "time", "latency")
COUNTS, COUNTS_SHORT = (100, 1000), (20, 100)
ROUNDS, ROUNDS_SHORT = 3, 1
PAIRS, PAIRS_SHORT = (8, 30), (4, 6)
"""Rounds of latency: of all candidates, and of the best."""
SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes through the models one by one."""
    parser = argument_parser("Static int8 beside other quantizers")
    default = [name for name in SUBJECTS if name != "tiny"]
    parser.add_argument("--model", action="append", choices=list(SUBJECTS), help="only this one [default: all]")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one [default: all]")
    parser.add_argument("--rounds", type=_positive, help="of time and memory [default: 3]")
    parser.add_argument("--candidate", action="append", default=[], help="only this one, where accuracy is judged")
    given = parser.parse_args(arguments)
    common = parsed(given)
    rounds = given.rounds or (ROUNDS_SHORT if common.short else ROUNDS)
    known = _Known()
    for name in given.model or default:
        known.add(SUBJECTS[name], common, given.part or PARTS, rounds, tuple(given.candidate))
    return known.report(common)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


class _Known:
    """All rows so far."""

    def __init__(self) -> None:
        self.times: list[TimeRow] = []
        self.accuracies: list[AccuracyRow] = []
        self.latencies: list[LatencyRow] = []
        self.absent: list[Check] = []

    def add(
        self, subject: Subject, common: Arguments, parts: Sequence[str], rounds: int, names: tuple[str, ...]
    ) -> None:
        """Measures what is asked for and is not there yet; takes up the rest where it is there."""
        lacking = missing(subject)
        if lacking:
            print(f"{subject.name}: skipped, without {', '.join(lacking)}")
            self.absent.append(at_least(f"{subject.name}: measured", 0.0, 1.0))
            return
        counts = COUNTS_SHORT if common.short else COUNTS
        folder = common.out.resolve() / "models" / subject.key
        if not _prepare(subject, folder, counts):
            self.absent.append(at_least(f"{subject.name}: measured", 0.0, 1.0))
            return
        self.accuracies += accuracy_rows(subject, folder, measure="accuracy" in parts, names=names)
        self.times += time_rows(subject, folder, counts=counts, rounds=rounds, measure="time" in parts)
        pairs = PAIRS_SHORT if common.short else PAIRS
        row = latency_row(subject, folder, rounds=pairs, measure="latency" in parts)
        if row is not None:
            self.latencies.append(row)

    def report(self, common: Arguments) -> int:
        """Everything, and the checks that follow."""
        alone = {peer.name: peer.runtime for peer in PEERS.values() if not peer.twin}
        checks = [
            *self.absent,
            *time_checks(self.times),
            *accuracy_checks(self.accuracies),
            *latency_checks(self.latencies, alone),
        ]
        figures = {
            "time": [asdict(row) for row in self.times],
            "accuracy": [asdict(row) for row in self.accuracies],
            "latency": [asdict(row) for row in self.latencies],
        }
        tables = [time_table(self.times), accuracy_table(self.accuracies), latency_table(self.latencies)]
        tables = [table for table in tables if table.rows]
        return report("quantization", common, figures, checks, seed=SEED, tables=tables)


def _prepare(subject: Subject, folder: Path, counts: tuple[int, ...]) -> bool:
    """In a child; what an earlier start made is taken."""
    if all((folder / name).exists() for name in ("made", *(f"many-{count}.npz" for count in counts))):
        return True
    command = [sys.executable, "-m", "benchmarks.quantization.prepare", subject.key, str(folder), *map(str, counts)]
    ended = watched(command)
    if ended.why:
        print(f"{subject.name}: not prepared: {ended.why}: {ended.told}")
    return not ended.why


if __name__ == "__main__":
    sys.exit(main())
