"""The latency method on synthetic sessions whose truth is known, and the harness on a session that does nothing.

`python -m benchmarks.latency_selftest --out FOLDER [--short]`
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

from scipy.integrate import quad

from benchmarks.harness import Check, at_least, at_most, kept, median_ns, parse_arguments, report, work_job
from edgeport.code_version import code_version
from edgeport.contracts import Change
from edgeport.devices.latency.comparison import compare
from edgeport.devices.latency.interference import disturbed_rounds
from edgeport.devices.latency.quantiles import least_effective_calls
from edgeport.devices.latency.summary import summarise
from edgeport.devices.local import LocalDevice
from edgeport.testing.synthetic import SyntheticSession, simulate

SEED = 0
RUNS, RUNS_SHORT = 2000, 60
PROCESSES, CALLS = 10, 400
QUANTILES = (0.5, 0.9, 0.95, 0.99)
NORMAL = NormalDist()

STATIONARY = [
    SyntheticSession(rho=rho, process_sd=process_sd) for rho in (0.0, 0.3, 0.5) for process_sd in (0.0, 0.01, 0.03)
]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Something that happens to a session, and the flag that must say so.

    Attributes:
        name: In the table.
        flag: Of `summarise`, or "disturbed-rounds".
        changes: Fields of the session.
        neighbour: Log factor of two of the rounds.

    """

    name: str
    flag: str
    changes: dict[str, Any]
    neighbour: float = 0.0


EFFECTS = (
    Effect(name="drift of 5 %", flag="slowdown", changes={"drift": math.log(1.05)}),
    Effect(name="throttle step of 8 % at 20 %", flag="slowdown", changes={"step": math.log(1.08), "step_at": 0.2}),
    Effect(name="throttle step of 8 % at 50 %", flag="slowdown", changes={"step": math.log(1.08), "step_at": 0.5}),
    Effect(name="throttle step of 8 % at 80 %", flag="slowdown", changes={"step": math.log(1.08), "step_at": 0.8}),
    Effect(name="spikes in 2 % of the calls", flag="spikes", changes={"spike_rate": 0.02}),
    Effect(name="process offsets of 3 %", flag="process-spread", changes={"process_sd": 0.03}),
    Effect(name="a neighbour in two rounds", flag="disturbed-rounds", changes={}, neighbour=math.log(1.5)),
)


def interval_run(session: SyntheticSession, seed: int) -> list[tuple[bool, bool, float]]:
    """Of each quantile: refused, covers the truth, log width of the interval."""
    summary = summarise(simulate(session, processes=PROCESSES, calls=CALLS, seed=seed), QUANTILES)
    intervals = {q: summary.quantile(q).interval_ns for q in QUANTILES}
    return [
        (True, False, 0.0)
        if one is None
        else (False, one.low <= session.quantile_ns(q) <= one.high, math.log(one.high / one.low))
        for q, one in intervals.items()
    ]


def alarm_run(session: SyntheticSession, seed: int) -> bool:
    """A against A: some difference was claimed."""
    one, two = (simulate(session, processes=PROCESSES, calls=CALLS, seed=2 * seed + i) for i in (0, 1))
    return compare(one, two).change not in (Change.EQUIVALENT, Change.UNKNOWN)


def flag_run(session: SyntheticSession, neighbour: float, seed: int) -> list[str]:
    """Every flag of one run."""
    effects = [neighbour if index in (2, 6) else 0.0 for index in range(PROCESSES)]
    measurement = simulate(session, processes=PROCESSES, calls=CALLS, seed=seed, round_effects=effects)
    disturbed = ["disturbed-rounds"] if disturbed_rounds({"a": measurement}) else []
    return [*summarise(measurement).flags, *disturbed]


def oracle_log_width(session: SyntheticSession, q: float, confidence: float = 0.95) -> float:
    """Width of the interval of who knows the noise and the spread of processes, but not the quantile."""
    z = NORMAL.inv_cdf(q)
    density = NORMAL.pdf(z) / session.sigma
    within = true_correlation_time(session.rho, q) * q * (1 - q) / (PROCESSES * CALLS * density**2)
    deviation = math.sqrt(session.process_sd**2 / PROCESSES + within)
    return 2 * NORMAL.inv_cdf((1 + confidence) / 2) * deviation


def true_correlation_time(rho: float, q: float) -> float:
    """Correlation time of the indicator of a Gaussian AR(1) process, all lags.

    Cov(I_i, I_{i+k}) is the integral of the bivariate density at (z, z) over the correlation from 0 to rho^k.
    """
    z = NORMAL.inv_cdf(q)

    def density(s: float) -> float:
        return math.exp(-(z**2) / (1 + s)) / (2 * math.pi * math.sqrt(1 - s**2))

    total, power = 1.0, rho
    while power > 1e-6:
        total += 2 * quad(density, 0.0, power)[0] / (q * (1 - q))
        power *= rho
    return total


def harness_ns(folder: Path) -> dict[str, float]:
    """What the harness adds to a call, measured by the agent on a session that does nothing."""
    trace = LocalDevice(folder / "device").run(work_job(folder))
    return {
        "reading_ns": float(trace.timer.overhead_ns),
        "call_ns": median_ns(trace),
        "calls_per_reading": float(trace.calls_per_reading),
    }


def label(session: SyntheticSession) -> str:
    """As the table calls it."""
    return f"rho {session.rho:g}, processes {100 * session.process_sd:g} %"


def _intervals(run_all: RunAll, figures: dict[str, Any]) -> list[Check]:
    coverage, refusals, widths = [], [], []
    for session in STATIONARY:
        runs = run_all(partial(interval_run, session))
        for index, q in enumerate(QUANTILES):
            column = [run[index] for run in runs]
            kept = [(covers, width) for refused, covers, width in column if not refused]
            row = {
                "coverage": fmean(covers for covers, _ in kept) if kept else 0.0,
                "refused": 1 - len(kept) / len(column),
                "width_over_oracle": fmean(width for _, width in kept) / oracle_log_width(session, q) if kept else 0.0,
                "effective_calls": PROCESSES * CALLS / true_correlation_time(session.rho, q),
            }
            figures[f"{label(session)}, p{100 * q:g}"] = row
            print(f"{label(session)}, p{100 * q:g}: " + ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
            coverage.append(row["coverage"])
            widths.append(row["width_over_oracle"])
            if row["effective_calls"] >= 4 * least_effective_calls(q):
                refusals.append(row["refused"])
    return [
        at_least("least coverage of a 95 % interval", min(coverage), 0.93),
        at_most("most refusals where n_eff is 4 times the least", max(refusals), 0.05),
        at_most("widest interval over the oracle's (mean)", max(widths), 1.5),
    ]


def _alarms(run_all: RunAll, figures: dict[str, Any]) -> list[Check]:
    rates = {label(session): fmean(run_all(partial(alarm_run, session))) for session in STATIONARY}
    figures["A against A"] = rates
    print("A against A: " + "; ".join(f"{name}: {rate:.4f}" for name, rate in rates.items()))
    return [at_most("most false alarms of A against A", max(rates.values()), 0.07)]


def _effects(run_all: RunAll, figures: dict[str, Any]) -> list[Check]:
    checks = []
    for rho in (0.0, 0.5):
        plain = SyntheticSession(rho=rho)
        quiet = run_all(partial(flag_run, plain, 0.0))
        for effect in EFFECTS:
            session = replace(plain, **effect.changes)
            seen = fmean(effect.flag in flags for flags in run_all(partial(flag_run, session, effect.neighbour)))
            false = fmean(effect.flag in flags for flags in quiet)
            figures[f"{effect.name}, rho {rho:g}"] = {"flagged": seen, "flagged_without": false}
            checks.append(at_least(f"{effect.name}, rho {rho:g}: flagged", seen, 0.95))
            checks.append(at_most(f"{effect.name}, rho {rho:g}: flagged without it", false, 0.05))
        some = fmean(bool(flags) for flags in quiet)
        checks.append(at_most(f"any flag on a quiet session, rho {rho:g}", some, 0.05))
    return checks


RunAll = Callable[[partial[Any]], list[Any]]


def _run_all(pool: ProcessPoolExecutor, runs: int, parts: Path, one: partial[Any]) -> list[Any]:
    """All runs of one case; a case that is done lies in `parts`, so that a stopped benchmark goes on."""
    name = f"{one.func.__name__} {one.args} {runs} {code_version()}"
    path = parts / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
    return kept(path, list, lambda: list(pool.map(one, range(SEED, SEED + runs), chunksize=20)))


def main() -> int:
    """Runs every assertion of the method."""
    arguments = parse_arguments("The latency method against known truth")
    figures: dict[str, Any] = {"runs": RUNS_SHORT if arguments.short else RUNS}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        run_all = partial(_run_all, pool, figures["runs"], arguments.out / "parts")
        checks = [*_intervals(run_all, figures), *_alarms(run_all, figures), *_effects(run_all, figures)]
    harness = figures["harness"] = harness_ns(arguments.out)
    checks += [
        at_most("harness, per reading, ns", harness["reading_ns"], 2000),
        at_most("harness, per call of a batch, ns", harness["call_ns"], 2000),
    ]
    return report("latency_selftest", arguments, figures, checks, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
