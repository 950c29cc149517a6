"""Work planted inside the timed call: whether it is seen, and nothing where there is none.

`python -m benchmarks.latency_planted --out FOLDER [--short]`

One artifact computes N products a call, its twin as many, others 2 % more and twice the device's delta more. All run
interleaved in fresh processes, as in `edgeport compare`; the rounds of the one long experiment are drawn into many
short ones, without replacement within one. Each is `edgeport compare --until 1%`: it looks after ten rounds and then
each 15 % more, each time more cautiously, until the change is known and its interval is that narrow, for sixty rounds
at most, which are about a minute. What exactly ten rounds tell is shown beside it.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Arguments, at_least, at_most, kept_rounds, parse_arguments, report, work_job
from edgeport.contracts import Change, Measurement
from edgeport.devices.experiment import to_measurements
from edgeport.devices.latency.comparison import classify, compare, paired_differences, paired_interval
from edgeport.devices.latency.verdict import alpha_at
from edgeport.devices.local import LocalDevice
from edgeport.devices.sequential_stopping import next_analysis

SEED = 0
PRODUCTS = 200
ROUNDS, ROUNDS_SHORT = 120, 20
ROUNDS_FOR_DELTA = 20
PAIRS, MOST_PAIRS = 10, 60
UNTIL = 0.01
EXPERIMENTS = 1000
DURATION_S = 0.15


def measure(arguments: Arguments, extra: dict[str, float], rounds: int) -> dict[str, Measurement]:
    """Every arm in every round; rounds that lie in `--out` are not run again."""
    folder = arguments.out / "rounds" / "-".join(f"{1e4 * part:.0f}" for part in extra.values())
    job = work_job(arguments.out, warmup_s=0.05, duration_s=DURATION_S)
    jobs = {
        name: replace(job, settings={"products": round(PRODUCTS * (1 + part)), "arm": name})
        for name, part in extra.items()
    }
    device = LocalDevice(arguments.out / "device")
    finished = kept_rounds(jobs, rounds, folder, device, seed=SEED)
    return to_measurements(finished, device=device.facts().digest)


def changes(differences: NDArray[np.float64], delta: float, *, most: int) -> tuple[Counter[Change], float]:
    """What many experiments say, each with rounds of its own choice from the long one.

    Args:
        differences: ln(B / A) of the medians of each round, float64 [rounds].
        delta: Of the device.
        most: Rounds after which an experiment ends; `PAIRS` for one look.

    Returns:
        How often each change was said, and the mean number of rounds that it took.

    """
    draw = np.random.default_rng(SEED)
    found: Counter[Change] = Counter()
    rounds = 0
    for _ in range(EXPERIMENTS):
        change, taken = _experiment(draw.permutation(differences), delta, most)
        found[change] += 1
        rounds += taken
    return found, rounds / EXPERIMENTS


def _experiment(differences: NDArray[np.float64], delta: float, most: int) -> tuple[Change, int]:
    count, look = PAIRS, 1
    while True:
        confidence = 1 - alpha_at(look) if most > PAIRS else 0.95
        _, low, high = paired_interval(differences[:count], confidence=confidence)
        change = classify(low, high, delta=delta)
        known = change is not Change.UNKNOWN and (high - low) / 2 <= UNTIL
        if known or next_analysis(count) > min(most, len(differences)):
            return change, count
        count, look = next_analysis(count), look + 1


def own_delta(measurement: Measurement) -> float:
    """What the artifact differs from itself by, from one round to the next."""
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
    pairs = {name: paired_differences(measured["base"], measured[name]) for name in extra if name != "base"}
    figures: dict[str, Any] = {"delta": delta, "rounds": rounds, "experiments": EXPERIMENTS}
    found: dict[str, Counter[Change]] = {}
    for name, differences in pairs.items():
        for label, most in ((f"{PAIRS} rounds", PAIRS), ("until 1 %", MOST_PAIRS)):
            counted, taken = changes(differences, delta, most=most)
            shown = ", ".join(f"{change} {count / EXPERIMENTS:.1%}" for change, count in counted.most_common())
            print(f"{name}, {label}: {shown} ({taken:.0f} rounds)")
            figures[f"{name}, {label}"] = {
                "mean_rounds": taken,
                **{str(change): count / EXPERIMENTS for change, count in counted.items()},
            }
            found[name] = counted  # what the last, the product's own way, says
    slower = (Change.SLOWER, Change.REGRESSED)
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
