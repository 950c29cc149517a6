"""All candidates of a model timed in turn, in fresh processes, and compared by pairs: as `edgeport compare` does.

In two stages. The first times all and finds the fastest peers and the fastest float; the second times ours beside these
alone, in more rounds, and only its rounds judge them: the luck that made one the fastest is not taken for its speed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmarks.harness import kept, kept_rounds, median_ns
from benchmarks.quantization.candidates import Candidate, candidates
from benchmarks.quantization.quantizers import PEERS
from benchmarks.quantization.rows import LatencyRow
from benchmarks.quantization.subjects import Subject
from edgeport.contracts import Measurement, TimeJob, digest_json
from edgeport.devices.experiment import Round, to_measurements
from edgeport.devices.latency.comparison import compare
from edgeport.devices.latency.interference import disturbed_rounds, without_disturbed
from edgeport.devices.local import LocalDevice
from edgeport.pipeline.benchmarking.artifact import BenchSettings, open_artifact, time_job

Speedup: TypeAlias = tuple[float, float, float]

SEED = 0
DURATION_S = 0.3
_MOST_TIMES = 3
"""What disturbs a round is fixed work beside it that took too long: nothing of what is compared."""
_OURS = ("ours", "beside")


def latency_row(subject: Subject, folder: Path, *, rounds: tuple[int, int], measure: bool) -> list[LatencyRow]:
    """The comparison; with `measure` off, the one that lies there already, if any.

    Args:
        subject: The model.
        folder: Of what was prepared.
        rounds: Of all candidates, and of those that are left.
        measure: Whether to.

    """
    path = folder / "latency" / "row.json"
    if not measure and not path.exists():
        return []
    row = kept(path, LatencyRow, partial(_raced, subject, folder, rounds))
    for name, median in row.medians_us.items() if measure else ():
        print(f"{row.model:<20}{name:<40}{median:10.1f} us", flush=True)
    return [row]


def _raced(subject: Subject, folder: Path, rounds: tuple[int, int]) -> LatencyRow:
    timed = [one for one in candidates(subject, folder, make=True) if not one.why and not _has_twin(one)]
    place = folder / "latency"
    first, lost = measured_rounds(timed, folder, rounds[0], place / "rounds")
    medians = {name: median_us(one) for name, one in first.items()}
    kinds, runtimes = {one.name: one.kind for one in timed}, {one.name: one.runtime for one in timed}
    names = finalists(medians, kinds, runtimes)
    left = [one for one in timed if one.name in names]
    # One folder for each set of finalists, which may be others after a stop.
    last = place / f"final-{digest_json(sorted(one.name for one in left))[-16:]}"
    final, lost_later = measured_rounds(left, folder, rounds[1], last)
    return LatencyRow(
        model=subject.name,
        runtimes={name: runtimes[name] for name in first},
        kinds={name: kinds[name] for name in first},
        medians_us=medians | {name: median_us(one) for name, one in final.items()},
        speedups=merged(speedups_of(first, kinds), speedups_of(final, kinds)),
        rounds=_rounds(first),
        finalists=list(final),
        final_rounds=_rounds(final),
        disturbed=lost + lost_later,
        at=time.strftime("%Y-%m-%d %H:%M"),
    )


def _has_twin(candidate: Candidate) -> bool:
    """Another one has the same graph with other numbers in it."""
    return "bias corrected" in candidate.name or bool(candidate.name in PEERS and PEERS[candidate.name].twin)


def measured_rounds(
    timed: list[Candidate], folder: Path, rounds: int, place: Path
) -> tuple[Mapping[str, Measurement], int]:
    """As many rounds as asked for in which nothing disturbed, or all after twice as many more; and how many are lost.

    Args:
        timed: At least two.
        folder: For what is passing.
        rounds: That are to count.
        place: Rounds that were measured before an interruption are kept there.

    """
    device = LocalDevice(folder / "device")
    settings = BenchSettings(samples=folder / "calibration.npz", duration_s=DURATION_S)

    def lack(finished: Sequence[Round]) -> bool:
        lost = disturbed_rounds(to_measurements(finished, device=""))
        return len(finished) - len(lost) < rounds and len(finished) < _MOST_TIMES * rounds

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        jobs: dict[str, TimeJob] = {}
        for number, one in enumerate(timed):
            opened = open_artifact(one.folder, settings, Path(scratch, f"open-{number}"))
            jobs[one.name] = time_job(opened, settings, Path(scratch, f"job-{number}"), device)
        every = kept_rounds(jobs, rounds, place, device, seed=SEED, more=lack)
    quiet = without_disturbed(to_measurements(every, device=""))
    return quiet, len(every) - _rounds(quiet)


def merged(
    first: Mapping[str, Mapping[str, Speedup]], final: Mapping[str, Mapping[str, Speedup]]
) -> Mapping[str, Mapping[str, Speedup]]:
    """Each pair as the second stage found it, where both are in it."""
    return {name: {**others, **final.get(name, {})} for name, others in first.items()}


def finalists(medians: Mapping[str, float], kinds: Mapping[str, str], runtimes: Mapping[str, str]) -> list[str]:
    """All of ours, the fastest float, and of each runtime and precision of the rest the fastest peer.

    Args:
        medians: By candidate, in any unit.
        kinds: As in `LatencyRow`.
        runtimes: As there.

    """
    found = [name for name in medians if kinds[name] in _OURS]
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in medians:
        if kinds[name] == "float":
            groups.setdefault(("float",), []).append(name)
        elif kinds[name] == "peer":
            groups.setdefault((runtimes[name], "bf16" if "rest bf16" in name else ""), []).append(name)
    return found + [min(names, key=lambda name: medians[name]) for names in groups.values()]


def speedups_of(measured: Mapping[str, Measurement], kinds: Mapping[str, str]) -> dict[str, dict[str, Speedup]]:
    """How many times as fast each of ours is as each other one: low, estimate and high."""
    found: dict[str, dict[str, Speedup]] = {}
    for name in (name for name in measured if kinds[name] in _OURS):
        found[name] = {}
        for other in (other for other in measured if other != name):
            speedup = compare(measured[other], measured[name]).speedup
            found[name][other] = (speedup.low, speedup.estimate, min(speedup.high, 1e9))
    return found


def median_us(measured: Measurement) -> float:
    return float(np.median([median_ns(trace) for trace in measured.traces])) / 1e3


def _rounds(measured: Mapping[str, Measurement]) -> int:
    return len(next(iter(measured.values())).traces)
