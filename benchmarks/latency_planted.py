"""Work planted inside the timed call: whether it is seen, and nothing where there is none.

`python -m benchmarks.latency_planted --out FOLDER [--short]`

One artifact computes N products a call, its twin as many, others 2 % more and twice the device's delta more. All run
interleaved in fresh processes, as in `edgeport compare`; the rounds of the one long experiment are drawn into many
experiments of ten rounds each, without replacement within one.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.results import Arguments, at_least, at_most, parse_arguments, report
from edgeport.contracts import Change, Measurement, TimeJob, dump_json, load_json

SEED = 0
PRODUCTS = 200
ROUNDS, ROUNDS_SHORT = 120, 20
ROUNDS_FOR_DELTA = 20
PAIRS = 10
EXPERIMENTS = 1000
DURATION_S = 0.15


def measure(arguments: Arguments, extra: dict[str, float], rounds: int) -> dict[str, Measurement]:
    """Every arm in every round; rounds that lie in `--out` are not run again."""
    import numpy as np

    from edgeport.devices.agent.arrays import save_arrays
    from edgeport.devices.experiment import Round, run_rounds, to_measurements
    from edgeport.devices.local import LocalDevice

    folder = arguments.out / "rounds" / "-".join(f"{1e4 * part:.0f}" for part in extra.values())
    artifact = arguments.out / "work"
    artifact.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (artifact / "nothing").write_text("")
    save_arrays(arguments.out / "feeds.npz", {"x": np.zeros((1, 1), dtype=np.float32)})
    job = TimeJob(
        artifact=str(artifact),
        entry="nothing",
        session="benchmarks.work_session",
        feeds=str(arguments.out / "feeds.npz"),
        warmup_s=0.05,
        duration_s=DURATION_S,
    )
    jobs = {
        name: replace(job, settings={"products": round(PRODUCTS * (1 + part)), "arm": name})
        for name, part in extra.items()
    }
    done = [load_json(Round, path.read_bytes()) for path in sorted(folder.glob("*.json"))]

    def keep(one: Round) -> None:
        _write(folder / f"{one.index:04}.json", dump_json(one))
        print(f"\rround {one.index + 1} of {rounds}", end="", file=sys.stderr, flush=True)

    device = LocalDevice(arguments.out / "device")
    finished = run_rounds(device, jobs, rounds=rounds, seed=SEED, done=done, on_round=keep)
    print(file=sys.stderr)
    return to_measurements(finished, device=device.facts().digest)


def _write(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)


def changes(a: Measurement, b: Measurement, delta: float) -> Counter[Change]:
    """What B against A comes to in experiments of ten rounds, drawn from the long one."""
    import numpy as np

    from edgeport.devices.latency.comparison import classify, paired_differences, paired_interval

    differences = paired_differences(a, b)
    draw = np.random.default_rng(SEED)
    found: Counter[Change] = Counter()
    for _ in range(EXPERIMENTS):
        _, low, high = paired_interval(draw.choice(differences, PAIRS, replace=False))
        found[classify(low, high, delta=delta)] += 1
    return found


def own_delta(measurement: Measurement) -> float:
    """What the artifact differs from itself by, from one round to the next."""
    from edgeport.devices.latency.comparison import compare

    return compare(measurement, measurement).delta


def main() -> int:
    """Runs the experiment, and draws from it."""
    arguments = parse_arguments("Work planted inside the timed call")
    rounds = ROUNDS_SHORT if arguments.short else ROUNDS
    first = measure(arguments, {"alone": 0.0}, ROUNDS_FOR_DELTA)
    # A whole number of products, so that what is planted is what is claimed.
    delta = math.ceil(PRODUCTS * own_delta(first["alone"])) / PRODUCTS
    extra = {"base": 0.0, "twin": 0.0, "2 % more": 0.02, "2 delta more": 2 * delta}
    measured = measure(arguments, extra, rounds)
    base = measured["base"]
    found = {name: changes(base, measured[name], delta) for name in extra if name != "base"}
    slower = (Change.SLOWER, Change.REGRESSED)
    for name, counted in found.items():
        print(f"{name}: " + ", ".join(f"{change} {count / EXPERIMENTS:.1%}" for change, count in counted.most_common()))
    figures: dict[str, Any] = {
        "delta": delta,
        "rounds": rounds,
        "experiments": EXPERIMENTS,
        "pairs_in_each": PAIRS,
        "changes": {name: {str(change): count for change, count in counted.items()} for name, counted in found.items()},
    }
    twin = found["twin"]
    checks = [
        at_least("2 % more work is SLOWER, share", _share(found["2 % more"], *slower), 0.9),
        at_least("twice the delta more is REGRESSED, share", _share(found["2 delta more"], Change.REGRESSED), 0.9),
        at_most("equal work is REGRESSED, share", _share(twin, Change.REGRESSED), 0.01),
        at_most("equal work is told apart at all, share", 1 - _share(twin, Change.EQUIVALENT, Change.UNKNOWN), 0.07),
    ]
    return report("latency_planted", arguments, figures, checks, seed=SEED)


def _share(found: Counter[Change], *wanted: Change) -> float:
    return sum(found[change] for change in wanted) / EXPERIMENTS


if __name__ == "__main__":
    sys.exit(main())
