"""Edgeport's latencies beside those of the runtimes' own tools, interleaved in one run.

`python -m benchmarks.latency_peers --out FOLDER [--short]`

Each model in float32 on one processor: OpenVINO's benchmark_app (`-api sync -hint latency`) against our agent on
OpenVINO, a plain loop over `InferenceSession.run` against our agent on ONNX Runtime; every process fresh, in random
order, round by round. (One, since the host of a virtual machine moves its processors apart for seconds at a time, which
slows calls on several by more than any difference between tools.)
Two differences are expected, and measured in the same rounds by loops that time both sides in one process.
benchmark_app reports the time that the runtime itself counts within a call; we time the call that a program waits for.
A plain `InferenceSession.run` makes its inputs and outputs anew in each call; our agent binds them before, and times
several calls at once where one is short against the clock. A difference counts as explained where it is that.
Then, on all processors, how long it takes to know a median to 2 %, and what is said beside a rival that takes them all.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import (
    Arguments,
    Check,
    at_least,
    at_most,
    benchmark_app,
    interleaved,
    median_ns,
    parse_arguments,
    printed,
    report,
    time_job,
)
from benchmarks.harness.models import MODELS, Exported, exported
from edgeport.contracts import Artifact, Measurement, Outcome, TimeJob
from edgeport.devices.experiment import run_rounds, to_measurements
from edgeport.devices.latency.comparison import paired_interval
from edgeport.devices.latency.interference import far_apart, without_disturbed
from edgeport.devices.latency.summary import summarise
from edgeport.devices.latency.telemetry import exchange_ns
from edgeport.devices.local import LocalDevice
from edgeport.devices.sequential_stopping import Goal, QuantilePrecision, half_width

SEED = 0
ROUNDS, ROUNDS_SHORT = 30, 6
DURATION_S = 1.0
THREADS = 1
MOST_DIFFERENCE = 0.02
MOST_RIVAL, MOST_AGAIN = 0.04, 5
WIDTH, WITHIN_S = 0.02, 30.0
LONG_ROUNDS = 30

_SESSION = """
import json, math, sys, time
import numpy as np, onnxruntime as ort
path, feeds, duration = sys.argv[1], sys.argv[2], float(sys.argv[3])
with np.load(feeds, allow_pickle=False) as file:
    arrays = {name: file[name][:1] for name in file.files}
options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[4])
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
"""

_LOOP = f"""{_SESSION}
until = time.perf_counter() + 0.1
while time.perf_counter() < until:
    session.run(None, arrays)
times, until = [], time.perf_counter() + duration
while time.perf_counter() < until:
    before = time.perf_counter_ns()
    session.run(None, arrays)
    times.append(time.perf_counter_ns() - before)
print(json.dumps(sorted(times)[len(times) // 2]))
"""

# Calls that are timed together are long against the clock, as in our agent.
_READING_NS = 20_000
# Both sides in turn, each long enough to run as it does alone.
_BLOCK_S = 0.05

# Of a call of ONNX Runtime: what it takes more by `run`, timed alone, than bound before and timed several at once.
_UNBOUND = f"""{_SESSION}
binding = session.io_binding()
values = {{name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}}
for name, value in values.items():
    binding.bind_ortvalue_input(name, value)
for output in session.get_outputs():
    binding.bind_output(output.name, "cpu")
def call():
    session.run_with_iobinding(binding)
until = time.perf_counter() + 0.1
while time.perf_counter() < until:
    before = time.perf_counter_ns()
    call()
    one = time.perf_counter_ns() - before
    session.run(None, arrays)
calls = math.ceil({_READING_NS} / one)
plain, bound, end = [], [], time.perf_counter() + 2 * duration
while time.perf_counter() < end:
    until = time.perf_counter() + {_BLOCK_S}
    while time.perf_counter() < until:
        before = time.perf_counter_ns()
        session.run(None, arrays)
        plain.append(time.perf_counter_ns() - before)
    until = time.perf_counter() + {_BLOCK_S}
    while time.perf_counter() < until:
        before = time.perf_counter_ns()
        for _ in range(calls):
            call()
        bound.append((time.perf_counter_ns() - before) / calls)
print(json.dumps(sorted(plain)[len(plain) // 2] - sorted(bound)[len(bound) // 2]))
"""

# Of a call of OpenVINO: what a program waits for, less what the runtime itself counts (`latency`, in milliseconds).
_OVERHEAD = f"""
import json, math, sys, time
import numpy as np, openvino as ov
path, feeds, duration = sys.argv[1], sys.argv[2], float(sys.argv[3])
with np.load(feeds, allow_pickle=False) as file:
    arrays = {{name: file[name][:1] for name in file.files}}
settings = {{"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": sys.argv[4]}}
core = ov.Core()
model = core.read_model(path)
model.reshape({{name: array.shape for name, array in arrays.items()}})  # as our session and benchmark_app's -b 1
request = core.compile_model(model, "CPU", settings).create_infer_request()
for name, array in arrays.items():
    request.set_tensor(name, ov.Tensor(array))
def call():
    request.infer(share_outputs=True)
until = time.perf_counter() + 0.1
while time.perf_counter() < until:
    before = time.perf_counter_ns()
    call()
    one = time.perf_counter_ns() - before
calls = math.ceil({_READING_NS} / one)
waited, counted, end = [], [], time.perf_counter() + 2 * duration
while time.perf_counter() < end:
    until = time.perf_counter() + {_BLOCK_S}
    while time.perf_counter() < until:
        before = time.perf_counter_ns()
        for _ in range(calls):
            call()
        waited.append((time.perf_counter_ns() - before) / calls)
    until = time.perf_counter() + {_BLOCK_S}
    while time.perf_counter() < until:
        request.infer()  # without sharing, as benchmark_app does
        counted.append(1e6 * request.latency)
print(json.dumps(sorted(waited)[len(waited) // 2] - sorted(counted)[len(counted) // 2]))
"""


def artifact(files: Exported, backend: str) -> Artifact:
    """In float32."""
    return files.compiled(backend, backend=backend, precision="fp32")


def job(files: Exported, backend: str, *, threads: int | None = None, duration_s: float = DURATION_S) -> TimeJob:
    """Of our agent; on all processors where no number of threads is given."""
    compiled = artifact(files, backend)
    settings = {**compiled.settings, **({} if threads is None else {"threads": threads})}
    return time_job(compiled, files.feeds, settings=settings, duration_s=duration_s)


def _loop(program: str, model: Path, feeds: Path) -> float:
    arguments = [sys.executable, "-c", program, str(model), str(feeds), str(DURATION_S), str(THREADS)]
    return float(json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout))


def compare(files: Exported, arguments: Arguments) -> tuple[dict[str, Any], list[Check]]:
    """Every arm once a round; ours against each peer, paired. All arms give nanoseconds of a call."""
    compiled = artifact(files, "openvino")
    model = compiled.folder / compiled.entry
    arms: dict[str, Callable[[], float]] = {
        "ours on ONNX Runtime": lambda: median_ns(device.run(job(files, "onnxruntime", threads=THREADS))),
        "plain ONNX Runtime loop": lambda: _loop(_LOOP, files.onnx, files.feeds),
        "ours on OpenVINO": lambda: median_ns(device.run(job(files, "openvino", threads=THREADS))),
        # It prints what it rounded to 10 us, and takes whole seconds only.
        "benchmark_app": lambda: printed(
            benchmark_app(model, "latency", math.ceil(DURATION_S), "-api", "sync"), "Median"
        ),
        "call less the runtime's own count": lambda: _loop(_OVERHEAD, model, files.feeds),
        "run less a bound call": lambda: _loop(_UNBOUND, files.onnx, files.feeds),
    }
    rounds = ROUNDS_SHORT if arguments.short else ROUNDS
    with one_processor():
        device = LocalDevice(arguments.out / "device")
        pairs = interleaved({name: partial(undisturbed, arm) for name, arm in arms.items()}, rounds, SEED)
    raw = {name: [value for value, _ in values] for name, values in pairs.items()}
    disturbed = sum(again for values in pairs.values() for _, again in values)
    found = {name: np.array(values) for name, values in raw.items()}
    # The median of all rounds: a loop that was disturbed says little of the others.
    overhead = float(np.median(found["call less the runtime's own count"]))
    unbound = float(np.median(found["run less a bound call"]))
    plain = difference(found["ours on ONNX Runtime"], found["plain ONNX Runtime loop"])
    app = difference(found["ours on OpenVINO"], found["benchmark_app"])
    plain_explained = difference(found["ours on ONNX Runtime"] + unbound, found["plain ONNX Runtime loop"])
    app_explained = difference(found["ours on OpenVINO"] - overhead, found["benchmark_app"])
    for arm, one in {
        "ours on ONNX Runtime against plain ONNX Runtime loop": plain,
        "ours on ONNX Runtime, with what a plain run adds, against plain ONNX Runtime loop": plain_explained,
        "ours on OpenVINO against benchmark_app": app,
        "ours on OpenVINO, less what the runtime does not count, against benchmark_app": app_explained,
    }.items():
        print(f"{files.name}: {arm}: {one}")
    print(
        f"{files.name}: {overhead / 1e3:.2f} us of a call are not OpenVINO's own count, "
        f"{unbound / 1e3:.2f} us of a plain run of ONNX Runtime are not its bound call; {disturbed} processes "
        f"were run again beside {rounds * len(arms)}, since others used the machine",
        flush=True,
    )
    return {**raw, "disturbed": disturbed}, [
        at_most(
            f"{files.name}: ours against a plain ONNX Runtime loop, difference that nothing explains",
            min(plain.worst, plain_explained.worst),
            MOST_DIFFERENCE,
        ),
        at_most(
            f"{files.name}: ours against benchmark_app, difference that nothing explains",
            min(app.worst, app_explained.worst),
            MOST_DIFFERENCE,
        ),
    ]


def undisturbed(arm: Callable[[], float]) -> tuple[float, int]:
    """What an arm says when nobody else used the processors, and how often it was run before that.

    What others had of the processors decides, never the latency. After `MOST_AGAIN` tries what was found is taken.
    """
    for again in range(MOST_AGAIN + 1):
        before = _ticks()
        value = arm()
        after = _ticks()
        if before is None or after is None:
            return value, again
        capacity = max(sum(after) - sum(before), 1)
        if (after[0] - before[0]) / capacity <= MOST_RIVAL or again == MOST_AGAIN:
            return value, again
    raise RuntimeError("no arm was run")


def _ticks() -> tuple[int, int] | None:
    """Clock ticks that other processes had, and those that ours had or nobody; None where the system does not tell."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    times = os.times()
    own = round((times.user + times.system + times.children_user + times.children_system) * os.sysconf("SC_CLK_TCK"))
    idle = fields[3] + fields[4]
    others = sum(fields) - idle - own
    return others, idle + own


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of two medians, as a fraction; with its 95 % interval from pairs."""

    estimate: float
    low: float
    high: float

    @property
    def worst(self) -> float:
        """The end of the interval that is further from nothing."""
        return max(abs(self.low), abs(self.high))

    def __str__(self) -> str:
        """As a person reads it."""
        return f"{self.estimate:+.2%} ({self.low:+.2%} to {self.high:+.2%})"


def difference(own: NDArray[np.float64], peer: NDArray[np.float64]) -> Difference:
    """Ours over the peer's, round by round; float64 [rounds] nanoseconds each."""
    estimate, low, high = map(math.expm1, paired_interval(np.log(own / peer)))
    return Difference(estimate=estimate, low=low, high=high)


def narrow(files: Exported, arguments: Arguments) -> tuple[dict[str, Any], list[Check]]:
    """How long a median takes to be known to 2 %, and whether a longer measurement agrees."""
    device = LocalDevice(arguments.out / "device")
    jobs = {"a": job(files, "onnxruntime", duration_s=0.5)}
    enough = QuantilePrecision("a", Goal(until=WIDTH, time_s=WITHIN_S))
    started = time.perf_counter()
    rounds = run_rounds(device, jobs, rounds=10, seed=SEED, more=enough)
    taken_s = time.perf_counter() - started
    summary = summarise(without_disturbed(to_measurements(rounds, device=""))["a"])
    longer = run_rounds(device, jobs, rounds=6 if arguments.short else LONG_ROUNDS, seed=SEED + 1)
    truth = summarise(without_disturbed(to_measurements(longer, device=""))["a"]).quantile(0.5).interval_ns
    interval = summary.quantile(0.5).interval_ns
    width = half_width(interval) if interval is not None else math.inf
    agree = interval is not None and truth is not None and interval.low <= truth.high and truth.low <= interval.high
    told = f"{summary.outcome} ({', '.join(summary.flags)})" if summary.flags else str(summary.outcome)
    print(f"{files.name}: +-{width:.2%} after {taken_s:.0f} s, {told}; {enough.reason}", flush=True)
    figures = {
        "half_width": width if math.isfinite(width) else None,
        "seconds": taken_s,
        "rounds": len(rounds),
        "flags": list(summary.flags),
        **by_distance(to_measurements(longer, device="")["a"]),
    }
    return figures, [
        at_most(f"{files.name}: half width of the median's interval", width, WIDTH),
        at_most(f"{files.name}: seconds until then", taken_s, WITHIN_S),
        at_least(f"{files.name}: the interval agrees with a longer measurement's", float(agree), 1.0),
    ]


def by_distance(measurement: Measurement) -> dict[str, float]:
    """Medians over the processes that ran with processors near each other, and over those with them apart.

    Returns:
        Of each kind that there was: the number of processes, and the medians of their exchanges and of their calls,
        nanoseconds.

    """
    apart = far_apart(measurement.traces)
    kinds = {"near": [trace for trace in measurement.traces if trace not in apart], "apart": apart}
    found: dict[str, float] = {}
    for kind, traces in kinds.items():
        if traces:
            found[f"processes {kind}"] = len(traces)
            found[f"exchange_ns {kind}"] = float(np.median([time for one in traces for time in exchange_ns(one)]))
            found[f"latency_ns {kind}"] = float(np.median([median_ns(one) for one in traces]))
    return found


@contextmanager
def one_processor() -> Iterator[None]:
    """What is started within has the last processor alone; benchmark_app has no other way beside `-hint latency`."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def rival() -> Iterator[None]:
    """Somebody who uses every processor."""
    context = multiprocessing.get_context("spawn")
    spinners = [context.Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    for spinner in spinners:
        spinner.start()
    time.sleep(1.0)
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.join()


def _spin() -> None:
    value = 1
    while True:
        value = value * 3 % 1_000_003


def beside_a_rival(files: Exported, arguments: Arguments) -> tuple[dict[str, Any], list[Check]]:
    """The verdict on a machine that somebody else uses too."""
    with rival():
        rounds = run_rounds(
            LocalDevice(arguments.out / "device"), {"a": job(files, "onnxruntime", duration_s=0.5)}, rounds=10
        )
    summary = summarise(to_measurements(rounds, device="")["a"])
    print(f"{files.name}, beside a rival: {summary.outcome} ({', '.join(summary.flags)})")
    honest = summary.outcome in (Outcome.INCONCLUSIVE, Outcome.INVALID)
    figures = {"outcome": str(summary.outcome), "flags": list(summary.flags)}
    return figures, [at_least(f"{files.name}, beside a rival: not PASS", float(honest), 1.0)]


def main() -> int:
    """Runs every part for every model that is installed."""
    arguments = parse_arguments("Latencies beside the runtimes' own tools")
    figures: dict[str, Any] = {}
    checks: list[Check] = []
    for model in MODELS.values():
        if model.missing:
            print(f'{model.name}: skipped, {", ".join(model.needs)} not installed: pip install "edgeport[peers]"')
            checks.append(at_least(f"{model.name}: measured", 0.0, 1.0))
            continue
        files = exported(model, arguments.out.resolve())
        parts = {
            "against_peers_ns": compare(files, arguments),
            "narrow": narrow(files, arguments),
            "rival": beside_a_rival(files, arguments),
        }
        figures[model.name] = {name: part for name, (part, _) in parts.items()}
        checks += [check for _, more in parts.values() for check in more]
    return report("latency_peers", arguments, figures, checks, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
