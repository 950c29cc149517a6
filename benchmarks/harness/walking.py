"""Many files walked in children; the file of which a child dies gets a row, and finished rows are not made again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

from edgeport.contracts import Limits, OnProgress, ProgressEvent, load_json
from edgeport.errors import EdgeportError, IsolationError
from edgeport.isolation import run_isolated


class Row(Protocol):
    """What became of a file, a dataclass."""

    @property
    def name(self) -> str:
        """Of the file."""


R = TypeVar("R", bound=Row)


def _append(file: Path, row: Any) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(row)) + "\n")


def walk_each(payload: Mapping[str, Any], first: str, walk: Callable[[Any], object], on_progress: OnProgress) -> None:
    """In the child: walk `payload["cases"]` (by name), each in a step called `first`; rows go to `payload["rows"]`."""
    for name, case in payload["cases"].items():
        on_progress(ProgressEvent(stage=name, message=first))
        _append(Path(payload["rows"]), walk(case))


def walked(  # noqa: PLR0913 (a walk has these choices)
    entry: str,
    cases: Mapping[str, Any],
    file: Path,
    form: type[R],
    died: Callable[[ProgressEvent, EdgeportError], R],
    *,
    limits: Limits,
    together: int,
    runtime: str,
) -> list[R]:
    """A row per case, in their order.

    Args:
        entry: Called in children with `cases`, `rows` and `runtime`; calls `walk_each`.
        cases: JSON values by name.
        file: Keeps the rows, one a line.
        form: Of a row.
        died: The row of a file of which a child died, by its last step.
        limits: Of a child.
        together: Files that one child takes.
        runtime: Handed on.

    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    while True:
        rows: Iterable[R] = (load_json(form, line) for line in file.read_text(encoding="utf-8").splitlines())
        known = {row.name: row for row in rows}
        pending = [name for name in cases if name not in known][:together]
        if not pending:
            return [known[name] for name in cases]
        steps: list[ProgressEvent] = []
        payload = {"cases": {name: cases[name] for name in pending}, "rows": str(file), "runtime": runtime}
        try:
            run_isolated(entry, payload, limits=limits, on_progress=steps.append)
        except IsolationError as error:
            if not steps:
                raise
            _append(file, died(steps[-1], error))
        print(f"{runtime}: {len(known)} of {len(cases)}, now {pending[0]}", flush=True)
