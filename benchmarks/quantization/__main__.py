"""Runs the parts that were asked for, and reports all that is known by then."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import Check, argument_parser, at_least, missing, parsed, report, watched
from benchmarks.quantization.accuracy import accuracy_rows
from benchmarks.quantization.checks import accuracy_checks, latency_checks, time_checks
from benchmarks.quantization.latency import latency_row
from benchmarks.quantization.quantizers import PEERS
from benchmarks.quantization.rows import AccuracyRow, LatencyRow, TimeRow, accuracy_table, latency_table, time_table
from benchmarks.quantization.subjects import SUBJECTS, Subject
from benchmarks.quantization.timing import time_rows

PARTS = ("accuracy", "time", "latency")
COUNTS, COUNTS_SHORT = (100, 1000), (20, 100)
ROUNDS, ROUNDS_SHORT = 3, 1
PAIRS, PAIRS_SHORT = (8, 30), (4, 6)
"""Rounds of latency: of all candidates, and of the best."""
SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes through the models one by one: measures what is asked for, and takes up the rest where it is there."""
    parser = argument_parser("Static int8 beside other quantizers")
    parser.add_argument("--model", action="append", choices=list(SUBJECTS), help="only this one [default: all]")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one [default: all]")
    parser.add_argument("--rounds", type=_positive, help="of time and memory [default: 3]")
    parser.add_argument("--candidate", action="append", default=[], help="only this one, where accuracy is judged")
    given = parser.parse_args(arguments)
    common, parts = parsed(given), given.part or PARTS
    counts, rounds, pairs = (COUNTS_SHORT, ROUNDS_SHORT, PAIRS_SHORT) if common.short else (COUNTS, ROUNDS, PAIRS)
    times: list[TimeRow] = []
    accuracies: list[AccuracyRow] = []
    latencies: list[LatencyRow] = []
    checks: list[Check] = []
    for name in given.model or [name for name in SUBJECTS if name != "tiny"]:
        subject, folder = SUBJECTS[name], common.out.resolve() / "models" / SUBJECTS[name].key
        if not _prepared(subject, folder, counts):
            checks.append(at_least(f"{name}: measured", 0.0, 1.0))
            continue
        accuracies += accuracy_rows(subject, folder, measure="accuracy" in parts, names=tuple(given.candidate))
        times += time_rows(subject, folder, counts=counts, rounds=given.rounds or rounds, measure="time" in parts)
        latencies += latency_row(subject, folder, rounds=pairs, measure="latency" in parts)
    checks += time_checks(times) + accuracy_checks(accuracies)
    checks += latency_checks(latencies, {peer.name: peer.runtime for peer in PEERS.values() if not peer.twin})
    figures = {
        "time": [asdict(row) for row in times],
        "accuracy": [asdict(row) for row in accuracies],
        "latency": [asdict(row) for row in latencies],
    }
    tables = [time_table(times), accuracy_table(accuracies), latency_table(latencies)]
    tables = [table for table in tables if table.rows]
    return report("quantization", common, figures, checks, seed=SEED, tables=tables)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def _prepared(subject: Subject, folder: Path, counts: tuple[int, ...]) -> bool:
    """Whether its file and samples are there: made in a child, or by an earlier start."""
    absent = missing(subject.files, subject.needs)
    if absent:
        print(f"{subject.name}: skipped, without {', '.join(absent)}")
    elif not all((folder / name).exists() for name in ("made", *(f"many-{count}.npz" for count in counts))):
        command = [sys.executable, "-m", "benchmarks.quantization.prepare", subject.key, str(folder)]
        ended = watched([*command, *map(str, counts)])
        if ended.why:
            print(f"{subject.name}: not prepared: {ended.why}: {ended.told}")
        return not ended.why
    return not absent


if __name__ == "__main__":
    sys.exit(main())
