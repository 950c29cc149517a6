"""All candidates of a model timed in turn, in fresh processes, and compared by pairs: as `edgeport compare` does."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.quantization.candidates import Candidate, candidates
from benchmarks.quantization.kept import kept
from benchmarks.quantization.peers import PEERS
from benchmarks.quantization.rows import LatencyRow
from benchmarks.quantization.subjects import Subject

if TYPE_CHECKING:
    from edgeport.contracts import Measurement, TimeJob
    from edgeport.devices.experiment import Round

__all__ = ["latency_row"]

SEED = 0
DURATION_S = 0.3


def latency_row(subject: Subject, folder: Path, *, rounds: int, measure: bool) -> LatencyRow | None:
    """The comparison over all rounds; with `measure` off, the one that lies there already, if any."""

    def make() -> LatencyRow:
        timed = [one for one in candidates(subject, folder, make=True) if not one.why and not _has_twin(one)]
        found = _measured(timed, folder, rounds)
        return _row(subject, {one.name: one for one in timed}, found, rounds)

    row = kept(folder / "latency" / "row.json", LatencyRow, make if measure else None)
    if row is not None and measure:
        for name, median in row.medians_us.items():
            print(f"{row.model:<20}{name:<40}{median:10.1f} us", flush=True)
    return row


def _has_twin(candidate: Candidate) -> bool:
    """Another one has the same graph with other numbers in it."""
    return "bias corrected" in candidate.name or bool(candidate.name in PEERS and PEERS[candidate.name].twin)


def _measured(timed: list[Candidate], folder: Path, rounds: int) -> Mapping[str, Measurement]:
    """Rounds that were measured before an interruption are kept."""
    from edgeport.contracts import dump_json, load_json
    from edgeport.devices.experiment import Round, run_rounds, to_measurements
    from edgeport.devices.local import LocalDevice
    from edgeport.pipeline.bench_opening import BenchSettings, open_artifact, time_job

    device = LocalDevice(folder / "device")
    place = folder / "latency" / "rounds"
    place.mkdir(parents=True, exist_ok=True)
    settings = BenchSettings(samples=folder / "calibration.npz", duration_s=DURATION_S)
    jobs: dict[str, TimeJob] = {}

    def keep(one: Round) -> None:
        (place / f"{one.index:03}.json").write_bytes(dump_json(one))
        print(f"round {one.index + 1} of {rounds}", flush=True)

    with tempfile.TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        for number, one in enumerate(timed):
            opened = open_artifact(one.folder, settings, scratch / f"open-{number}")
            jobs[one.name] = time_job(opened, settings, scratch / f"job-{number}", device)

        done = [load_json(Round, path.read_bytes()) for path in sorted(place.glob("*.json"))]
        every = run_rounds(device, jobs, rounds=rounds, seed=SEED, done=done, on_round=keep)
    return to_measurements(every, device="")


def _row(subject: Subject, timed: Mapping[str, Candidate], raw: Mapping[str, Measurement], rounds: int) -> LatencyRow:
    import numpy as np

    from edgeport.devices.latency.comparison import compare
    from edgeport.devices.latency.neighbours import without_disturbed
    from edgeport.devices.latency.timer import call_latency_ns

    measured = without_disturbed(raw)
    left = len(next(iter(measured.values())).traces)
    ours = [name for name in measured if timed[name].kind in ("ours", "beside")]
    speedups: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name in ours:
        speedups[name] = {}
        for other in measured:
            if other != name:
                found = compare(measured[other], measured[name]).speedup
                speedups[name][other] = (found.low, found.estimate, min(found.high, 1e9))
    return LatencyRow(
        model=subject.name,
        runtimes={name: timed[name].runtime for name in measured},
        kinds={name: timed[name].kind for name in measured},
        medians_us={
            name: float(np.median([np.median(call_latency_ns(trace)) for trace in one.traces])) / 1e3
            for name, one in measured.items()
        },
        speedups=speedups,
        rounds=left,
        disturbed=rounds - left,
        at=time.strftime("%Y-%m-%d %H:%M"),
    )
