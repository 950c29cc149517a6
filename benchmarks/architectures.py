"""Architectures of torchvision, timm and transformers by `edgeport init` and `edgeport run`, nothing written by hand.

`python -m benchmarks.architectures --out FOLDER [--short]`

Weights are random and so are the samples: the metric is the agreement with the float model. Each architecture either
ends with a bundle or is refused by name with a next step; whatever else happens is a fault of ours. What lies in
`--out` already is not done again, so that a run that was stopped goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.architecture_names import ARCHITECTURES, Architecture, write_configurations
from benchmarks.harness import ROOT, Arguments, Table, at_least, at_most, kept, parse_arguments, report

LEAST_SUCCEED = 0.95
LEAST_COUNT = 100, 20
SHORT_EVERY = 12
LIMIT_S = 600.0
_ENDED = {0: "done", 3: "budget not met", 4: "inconclusive", 5: "invalid"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one architecture.

    Attributes:
        name: As it was asked for.
        step: The last command that ran: "init" or "run".
        exit_code: Of it; None where it was stopped after `LIMIT_S`.
        ships: Name of the candidate that ships; empty for none.
        others: Why each other candidate does not ship, by its name: a code.
        code, found, fix: Of the error that ended it, where one did.
        seconds: For both commands.

    """

    name: str
    step: str
    exit_code: int | None
    ships: str = ""
    others: dict[str, str]
    code: str = ""
    found: str = ""
    fix: str = ""
    seconds: float

    @property
    def succeeded(self) -> bool:
        """A bundle was written."""
        return self.exit_code == 0 and bool(self.ships)

    @property
    def refused(self) -> bool:
        """By name, with a next step."""
        return not self.succeeded and bool(self.code and self.fix) and self.code != "INTERNAL"


def walk(architecture: Architecture, out: Path) -> Row:
    """Both commands, as a user types them."""
    folder = out / "work" / architecture.name.rpartition("/")[2]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.perf_counter()
    asked = ["init", architecture.source, "--yes", "--quick", "--backend", "onnxruntime", "-o", "edgeport.toml"]
    asked += ["--input", architecture.inputs] if architecture.inputs else []
    for name, value in architecture.arguments.items():
        asked += ["--argument", f"{name}={json.dumps(value)}"]
    step, (code, answer) = "init", _edgeport(asked, folder)
    if code == 0:
        step, (code, answer) = "run", _edgeport(["run", "edgeport.toml"], folder)
    seconds = time.perf_counter() - started
    shutil.rmtree(folder, ignore_errors=True)
    error = answer.get("error") or {}
    candidates = answer.get("candidates") or []
    return Row(
        name=architecture.source if "/" not in architecture.source else f"hf:{Path(architecture.source).name}",
        step=step,
        exit_code=code,
        ships=str(answer.get("chosen") or ""),
        others={one["name"]: one["refusal"]["code"] for one in candidates if one.get("refusal")},
        code=str(error.get("code", "")),
        found=str(error.get("found", ""))[:500],
        fix=str(error.get("fix", ""))[:500],
        seconds=seconds,
    )


def _edgeport(arguments: Sequence[str], folder: Path) -> tuple[int | None, dict[str, Any]]:
    """Exit status and the JSON it printed; what it printed instead is the error's text."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "EDGEPORT_STORE": str(folder / "store"), "PYTHONPATH": path}
    command = [sys.executable, "-m", "edgeport", *arguments, "--json", "--quiet"]
    try:
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, {}
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        return ended.returncode, {"error": {"found": (ended.stdout + ended.stderr)[-500:]}}
    return ended.returncode, answer if isinstance(answer, dict) else {}


def main() -> int:
    """Walks them all, one after the other."""
    arguments = parse_arguments("Architectures by init and run")
    out = arguments.out.resolve()
    networks, transformers = ARCHITECTURES, write_configurations(out / "configurations")
    if arguments.short:
        networks, transformers = networks[::SHORT_EVERY], transformers[::SHORT_EVERY]
    rows = []
    for number, architecture in enumerate((*networks, *transformers), 1):
        path = out / "rows" / f"{architecture.name.rpartition('/')[2]}.json"
        row = kept(path, Row, partial(walk, architecture, out))
        rows.append(row)
        print(f"{number:3} {row.name:<45} {told(row)} ({row.seconds:.0f} s)", flush=True)
    return _report(arguments, rows, len(networks), len(transformers))


def told(row: Row) -> str:
    """In a few words."""
    if row.succeeded:
        return f"{row.ships} ships"
    if row.refused:
        return f"{row.step} refuses: {row.code}: {row.found}"
    ended = "stopped after the limit of time" if row.exit_code is None else _ENDED.get(row.exit_code, "")
    return f"{row.step}: {ended or row.code or row.found or row.exit_code}"


def _report(arguments: Arguments, rows: Sequence[Row], networks: int, transformers: int) -> int:
    succeeded = [row for row in rows if row.succeeded]
    broken = [row.name for row in rows if not row.succeeded and not row.refused]
    ships = Counter(row.ships.partition(" ")[2] for row in succeeded)
    checks = [
        at_least("architectures that end with a bundle, share", len(succeeded) / len(rows), LEAST_SUCCEED),
        at_most("neither a bundle nor a refusal with a next step", float(len(broken)), 0.0),
    ]
    if not arguments.short:
        checks += [
            at_least("architectures of torchvision and timm", float(networks), float(LEAST_COUNT[0])),
            at_least("architectures of transformers", float(transformers), float(LEAST_COUNT[1])),
        ]
    figures = {
        "architectures": len(rows),
        "seconds for both commands, median": median(row.seconds for row in rows),
        "ships": dict(ships),
        "rows": [asdict(row) for row in rows],
    }
    return report("architectures", arguments, figures, checks, seed=0, tables=[table(rows)])


def table(rows: Sequence[Row]) -> Table:
    """One row per architecture."""
    return Table(
        title="Architectures",
        columns=("architecture", "ends with", "other candidates"),
        rows=tuple((row.name, told(row), ", ".join(map(" ".join, row.others.items()))) for row in rows),
    )


if __name__ == "__main__":
    sys.exit(main())
