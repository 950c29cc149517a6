"""How long the command line takes before it does anything, against an empty Python and other tools' imports.

`python -m benchmarks.cold_start --out FOLDER [--short]`
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from statistics import median

from benchmarks.harness import at_most, interleaved, median_interval, missing, parse_arguments, report

SEED = 0
ROUNDS, ROUNDS_SHORT = 21, 7
MOST_EXTRA_CPU_S = 0.2

_HELP = "import sys; sys.argv = ['edgeport', '--help']; from edgeport.cli import main; main()"
_EMPTY = "empty Python"
_PEERS = ("onnxruntime", "openvino", "torch", "nncf")


def _run(code: str) -> dict[str, float]:
    """Wall-clock and CPU seconds of one fresh interpreter."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode} of: {code}")
    return {"wall_s": elapsed, "cpu_s": usage.ru_utime + usage.ru_stime}


def main() -> int:
    """Runs every arm once a round, in an order of its own."""
    arguments = parse_arguments("Cold start of the command line")
    imports = [f"import {name}" for name in _PEERS if not missing(modules=[name])]
    programs = {_EMPTY: "pass", "import edgeport": "import edgeport", "edgeport --help": _HELP}
    programs |= {line: line for line in imports}
    arms = {name: partial(_run, code) for name, code in programs.items()}
    for arm in arms.values():  # the bytecode is written, the files are in the page cache
        arm()
    raw = interleaved(arms, ROUNDS_SHORT if arguments.short else ROUNDS, SEED)

    print(f"{'':<20} {'CPU s':>8} {'wall s':>8}   CPU over an empty Python, 95 % interval")
    extra: dict[str, tuple[float, float, float]] = {}
    for name in arms:
        pairs = zip(raw[name], raw[_EMPTY], strict=True)
        low, middle, high = extra[name] = median_interval([own["cpu_s"] - empty["cpu_s"] for own, empty in pairs])
        cpu, wall = (median(run[unit] for run in raw[name]) for unit in ("cpu_s", "wall_s"))
        print(f"{name:<20} {cpu:8.3f} {wall:8.3f}   {middle:.3f} ({low:.3f} to {high:.3f})")

    name = "edgeport --help, CPU seconds over an empty Python, upper end"
    checks = [at_most(name, extra["edgeport --help"][2], MOST_EXTRA_CPU_S)]
    figures = {"runs": raw, "extra_cpu_s": {name: list(interval) for name, interval in extra.items()}}
    return report("cold_start", arguments, figures, checks, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
