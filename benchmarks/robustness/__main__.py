"""Walks all files on each runtime; what lies in `--out` already is not done again."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

from benchmarks.harness import Arguments, Table, argument_parser, at_least, at_most, parsed, report, walked
from benchmarks.robustness.networks import networks
from benchmarks.robustness.node_tests import Case, node_tests
from benchmarks.robustness.outcomes import Outcome, Row, share_refused
from benchmarks.robustness.refusals import REFUSALS, listed, refusals_table
from benchmarks.robustness.walk import FLOAT
from edgeport.contracts import Limits, ProgressEvent
from edgeport.errors import EdgeportError

RUNTIMES = ("onnxruntime", "openvino")
PARTS = ("nodes", "architectures")
MOST_REFUSED = 0.05
_LEAST = (("node tests", "nodes", 1000.0), ("architectures", "architectures", 100.0))
SHORT_EVERY = 20
_TOGETHER = {"nodes": 60, "architectures": 1}
"""Files that one child takes: most of a small file's time would be the start of a process."""
_LIMITS = Limits(time_s=300.0, memory_bytes=6 << 30)


def main() -> int:
    """All parts on all runtimes, or those that are named."""
    parser = argument_parser("ONNX's node tests and 100 architectures through int8")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be repeated")
    parser.add_argument("--runtime", choices=RUNTIMES, action="append", help="only this; may be repeated")
    given = parser.parse_args()
    arguments = parsed(given)
    out = arguments.out.resolve()
    every = SHORT_EVERY if arguments.short else 1
    cases: dict[str, list[Case]] = {}
    failed: dict[str, str] = {}
    for part in given.part or PARTS:
        if part == "nodes":
            cases[part] = node_tests(out / "nodes")[::every]
        else:
            cases[part], failed = networks(out / "architectures", every=every)
    rows = {
        (part, runtime): walked(
            "benchmarks.robustness.walk:walk_many",
            {case.name: _plain(case) for case in some},
            out / "rows" / f"{part}-{runtime}.jsonl",
            Row,
            partial(_died, runtime),
            limits=_LIMITS,
            together=_TOGETHER[part],
            runtime=runtime,
        )
        for part, some in cases.items()
        for runtime in given.runtime or RUNTIMES
    }
    return _report(arguments, rows, failed, whole=not (given.part or given.runtime or arguments.short))


def _died(runtime: str, step: ProgressEvent, error: EdgeportError) -> Row:
    outcome = Outcome.RUNTIME if step.message == FLOAT else Outcome.FAULT
    found = " ".join(f"{error.code}: {error.found}".split())[:300]
    return Row(name=step.stage, runtime=runtime, outcome=outcome, step="run", found=found)


def _plain(case: Case) -> dict[str, str | None]:
    feeds = str(case.feeds) if case.feeds else None
    return {"name": case.name, "model": str(case.model), "feeds": feeds, "part": case.part}


def _report(
    arguments: Arguments, rows: dict[tuple[str, str], list[Row]], failed: dict[str, str], *, whole: bool
) -> int:
    every = [row for found in rows.values() for row in found]
    ran = [row for row in every if row.outcome is not Outcome.RUNTIME]
    counts = Counter(row.outcome for row in ran)
    unlisted = [row for row in ran if row.outcome is Outcome.REFUSED and not listed(REFUSALS, row.code, row.found)]
    checks = [
        at_most("refused though the runtime takes the float file, share", share_refused(every), MOST_REFUSED),
        at_most("refused and not on the list", float(len(unlisted)), 0.0),
        at_most("ran and gave something else", float(counts[Outcome.WRONG]), 0.0),
        at_most("crashes, hangs, errors without a name", float(counts[Outcome.FAULT]), 0.0),
    ]
    for name, wanted, least in _LEAST if whole else ():
        number = min(len(found) for (part, _), found in rows.items() if part == wanted)
        checks.append(at_least(f"{name} per runtime", float(number), least))
    figures = {
        "outcomes": {" ".join(key): dict(Counter(row.outcome for row in found)) for key, found in rows.items()},
        "not exported": failed,
        "rows": [asdict(row) for row in every],
    }  # fmt: skip
    return report("robustness", arguments, figures, checks, seed=0, tables=[*_tables(rows), refusals_table(REFUSALS)])


def _tables(rows: dict[tuple[str, str], list[Row]]) -> Iterator[Table]:
    yield Table(
        title="What became of the files",
        columns=("files", "runtime", *Outcome),
        rows=tuple(
            (part, runtime, *(str(sum(row.outcome is outcome for row in found)) for outcome in Outcome))
            for (part, runtime), found in rows.items()
        ),
    )
    yield Table(
        title="Refused, wrong, or ended otherwise",
        columns=("file", "runtime", "outcome", "found"),
        rows=tuple(
            (row.name, row.runtime, str(row.outcome), row.found)
            for found in rows.values()
            for row in found
            if row.outcome in (Outcome.REFUSED, Outcome.WRONG, Outcome.FAULT)
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
