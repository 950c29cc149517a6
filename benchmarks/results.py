"""The form of `results.json`: the machine, versions, every raw figure, and one check per claim.

Every benchmark is run as `python -m benchmarks.NAME --out FOLDER [--short]`, prints its checks, writes this file
with its tables, and exits with 0 when all checks hold. A check that falls short stays among them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = [
    "Arguments",
    "Check",
    "Part",
    "Table",
    "argument_parser",
    "at_least",
    "at_most",
    "median_interval",
    "parse_arguments",
    "parsed",
    "report",
    "report_parts",
]

_SCHEMA_VERSION = 1
_PACKAGES = (
    "edgeport",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "torch",
    "nncf",
    "tensorrt",
    "tensorrt_rtx_cu13_libs",
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim.

    Attributes:
        name: What is claimed, with its unit.
        value: What was found; for a comparison, the end of the interval that counts against the claim.
        bound: What it must keep to.
        holds: It does.

    """

    name: str
    value: float
    bound: float
    holds: bool


def at_most(name: str, value: float, bound: float) -> Check:
    """Claims that `value <= bound`."""
    return Check(name=name, value=value, bound=bound, holds=value <= bound)


def at_least(name: str, value: float, bound: float) -> Check:
    """Claims that `value >= bound`."""
    return Check(name=name, value=value, bound=bound, holds=value >= bound)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What every benchmark is told.

    Attributes:
        out: Folder for `results.json` and whatever else is kept.
        short: Fewer repetitions, for a look; its figures are no evidence.

    """

    out: Path
    short: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """For a page: what single numbers can't show.

    Attributes:
        title: Of its section.
        columns: Their names.
        rows: One text per column each.

    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one part of a benchmark gives back.

    Attributes:
        figures: Every raw figure; JSON values.
        checks: One per claim.
        tables: Of the page.

    """

    figures: Any
    checks: tuple[Check, ...]
    tables: tuple[Table, ...] = ()


def argument_parser(description: str) -> argparse.ArgumentParser:
    """With `--out FOLDER [--short]`; a benchmark that has more to choose adds it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where results.json goes")
    parser.add_argument("--short", action="store_true", help="fewer repetitions; for a look, not as evidence")
    return parser


def parsed(given: argparse.Namespace) -> Arguments:
    """What every benchmark is told, of what such a parser read; makes the folder."""
    given.out.mkdir(parents=True, exist_ok=True)
    return Arguments(out=given.out, short=given.short)


def parse_arguments(description: str) -> Arguments:
    """Reads `--out FOLDER [--short]`, and makes the folder."""
    return parsed(argument_parser(description).parse_args())


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Low, median, high: the interval of the sign test, by order statistics (Conover, Practical Nonparametric
    Statistics, section 3.2). For paired differences it needs no assumption but that the pairs are independent.

    Raises:
        ValueError: Too few values for this confidence (95 % needs 6).

    """
    from scipy import stats

    ordered = sorted(values)
    count = len(ordered)
    rank = int(stats.binom.ppf((1 - confidence) / 2, count, 0.5))
    if rank < 1 and 2 * 0.5**count > 1 - confidence:
        raise ValueError(f"{count} values are too few for a {confidence:.0%} interval of their median")
    rank = max(rank, 1)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return ordered[rank - 1], middle, ordered[count - rank]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, Any]:
    import psutil

    cpu = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {
        "machine": platform.machine(),
        "cpu": cpu,
        "cores": cores,
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def report(  # noqa: PLR0913 (what a page shows)
    name: str,
    arguments: Arguments,
    figures: Any,
    checks: Sequence[Check],
    seed: int | None = None,
    tables: Sequence[Table] = (),
    *,
    parts: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> int:
    """Writes `results.json` and prints the checks.

    Args:
        name: Of the benchmark.
        arguments: As it was called.
        figures: Every raw figure; JSON values with units in their names.
        checks: One per claim.
        seed: Of whatever was random.
        tables: Of the page, beside the figures.
        parts: Those that ran, and those that did not, where there are several.

    Returns:
        The exit status.

    """
    results = {
        "schema_version": _SCHEMA_VERSION,
        "benchmark": name,
        "command": " ".join(
            [
                f"python -m benchmarks.{name} --out {arguments.out}",
                *(["--short"] if arguments.short else []),
                *(f"--part {part}" for part in parts[0] if parts[1]),
            ]
        ),
        "short": arguments.short,
        "seed": seed,
        "machine": _machine(),
        "versions": _versions(),
        "figures": figures,
        "tables": [asdict(table) for table in tables],
        "parts": {"run": list(parts[0]), "not_run": list(parts[1])},
        "checks": [asdict(check) for check in checks],
    }
    path = arguments.out / "results.json"
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)
    print()
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        print(f"{check.name:<{width}}  {check.value:>12.6g}  bound {check.bound:<10.6g} {_said(check)}")
    print(f"\n{path}")
    return 0 if all(check.holds for check in checks) else 1


def report_parts(
    name: str, arguments: Arguments, parts: Mapping[str, Part], *, seed: int, all_parts: Sequence[str] = ()
) -> int:
    """As `report`, of a benchmark of several parts; those of `all_parts` that did not run are named."""
    return report(
        name,
        arguments,
        {part: found.figures for part, found in parts.items()},
        [check for found in parts.values() for check in found.checks],
        seed=seed,
        tables=[table for found in parts.values() for table in found.tables],
        parts=(tuple(parts), tuple(part for part in all_parts if part not in parts)),
    )


def _said(check: Check) -> str:
    return "holds" if check.holds else "FALLS SHORT"
