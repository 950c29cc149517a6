"""The form of `results.json`: the machine, versions, every raw figure, and one check per claim.

Every benchmark is run as `python -m benchmarks.NAME --out FOLDER [--short]`, prints its checks, writes this file
with its tables, and exits with 0 when all checks hold. A check that falls short stays among them.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness.arguments import Arguments
from benchmarks.harness.kept import write
from benchmarks.harness.timing import processors

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
        value: What was measured; for a comparison, the end of the interval that counts against the claim.
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


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _machine() -> dict[str, Any]:
    import psutil

    cpu, cpuinfo = platform.processor(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "machine": platform.machine(),
        "cpu": cpu,
        "cores": len(processors()),
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
    """Write `results.json` and print the checks.

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
    options = [*(["--short"] if arguments.short else []), *(f"--part {part}" for part in parts[0] if parts[1])]
    results = {
        "schema_version": _SCHEMA_VERSION,
        "benchmark": name,
        "command": " ".join([f"python -m benchmarks.{name} --out {arguments.out}", *options]),
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
    write(path, json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    print()
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        verdict = "holds" if check.holds else "FALLS SHORT"
        print(f"{check.name:<{width}}  {check.value:>12.6g}  bound {check.bound:<10.6g} {verdict}")
    print(f"\n{path}")
    return 0 if all(check.holds for check in checks) else 1
