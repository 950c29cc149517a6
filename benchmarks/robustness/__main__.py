"""Walks all files on each runtime; what lies in `--out` already is not done again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.results import Arguments, Table, argument_parser, at_least, at_most, parsed, report
from benchmarks.robustness.networks import networks
from benchmarks.robustness.node_tests import Case, node_tests
from benchmarks.robustness.outcomes import Outcome, Row, share_refused
from benchmarks.robustness.refusals import REFUSALS, on_the_list
from benchmarks.robustness.walk import FLOAT
from edgeport.contracts import Limits, ProgressEvent
from edgeport.errors import EdgeportError, IsolationError

RUNTIMES = ("onnxruntime", "openvino")
PARTS = ("nodes", "architectures")
MOST_REFUSED = 0.05
LEAST_NODES, LEAST_ARCHITECTURES = 1000, 100
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
        (part, runtime): _walked(found, part, runtime, out)
        for part, found in cases.items()
        for runtime in given.runtime or RUNTIMES
    }
    return _report(arguments, rows, failed, whole=not (given.part or given.runtime or arguments.short))


def _walked(cases: Sequence[Case], part: str, runtime: str, out: Path) -> list[Row]:
    path = out / "rows" / f"{part}-{runtime}.jsonl"
    path.parent.mkdir(exist_ok=True)
    wanted = {case.name for case in cases}
    while True:
        known = {row.name for row in _read(path)}
        pending = [case for case in cases if case.name not in known][: _TOGETHER[part]]
        if not pending:
            return [row for row in _read(path) if row.name in wanted]
        _walk(pending, runtime, path)
        print(f"{runtime} {part}: {len(known & wanted)} of {len(cases)}, now {pending[0].name}", flush=True)


def _walk(cases: Sequence[Case], runtime: str, path: Path) -> None:
    """In one child; one that dies has met its match, which gets a row."""
    from edgeport.isolation import run_isolated

    last: list[ProgressEvent] = []
    payload = {"cases": [_plain(case) for case in cases], "runtime": runtime, "rows": str(path)}
    try:
        run_isolated("benchmarks.robustness.walk:walk_many", payload, limits=_LIMITS, on_progress=last.append)
    except IsolationError as error:
        if not last:
            raise
        outcome = Outcome.RUNTIME if last[-1].message == FLOAT else Outcome.FAULT
        row = Row(name=last[-1].stage, runtime=runtime, outcome=outcome, step="run", found=_ended(error))
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def _ended(error: EdgeportError) -> str:
    return " ".join(f"{error.code}: {error.found}".split())[:300]


def _plain(case: Case) -> dict[str, str | None]:
    feeds = str(case.feeds) if case.feeds else None
    return {"name": case.name, "model": str(case.model), "feeds": feeds, "part": case.part}


def _read(path: Path) -> Iterator[Row]:
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            yield Row(**{**values, "outcome": Outcome(values["outcome"])})


def _report(
    arguments: Arguments, rows: dict[tuple[str, str], list[Row]], failed: dict[str, str], *, whole: bool
) -> int:
    every = [row for found in rows.values() for row in found]
    ran = [row for row in every if row.outcome is not Outcome.RUNTIME]
    refused = [row for row in ran if row.outcome is Outcome.REFUSED]
    checks = [
        at_most("refused though the runtime takes the float file, share", share_refused(every), MOST_REFUSED),
        at_most("refused and not on the list", _count(row for row in refused if not on_the_list(row)), 0.0),
        at_most("ran and gave something else", _count(row for row in ran if row.outcome is Outcome.WRONG), 0.0),
        at_most("crashes, hangs, errors without a name", _count(r for r in ran if r.outcome is Outcome.FAULT), 0.0),
    ]
    if whole:
        nodes = min(len(found) for (part, _), found in rows.items() if part == "nodes")
        exported = min(len(found) for (part, _), found in rows.items() if part == "architectures")
        checks += [
            at_least("node tests per runtime", float(nodes), float(LEAST_NODES)),
            at_least("architectures per runtime", float(exported), float(LEAST_ARCHITECTURES)),
        ]
    figures = {
        "outcomes": {" ".join(key): dict(Counter(row.outcome for row in found)) for key, found in rows.items()},
        "not exported": failed,
        "rows": [asdict(row) for row in every],
    }  # fmt: skip
    return report("robustness", arguments, figures, checks, seed=0, tables=[*_tables(rows), _list_table()])


def _count(rows: Iterator[Row]) -> float:
    return float(sum(1 for _ in rows))


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


def _list_table() -> Table:
    return Table(
        title="The list of refusals",
        columns=("code", "found", "why"),
        rows=tuple((each.code, each.found, each.why) for each in REFUSALS),
    )


if __name__ == "__main__":
    sys.exit(main())
