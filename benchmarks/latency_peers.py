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
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.models import MODELS, BenchmarkModel, available
from benchmarks.results import Arguments, Check, at_least, at_most, parse_arguments, report
from edgeport.contracts import Artifact, Measurement, Outcome, TimeJob

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model, exported and compiled.

    Attributes:
        name: Of the model.
        onnx: The float file.
        feeds: `.npz` with two samples.
        artifacts: By backend.

    """

    name: str
    onnx: Path
    feeds: Path
    artifacts: dict[str, Artifact]


def prepare(model: BenchmarkModel, out: Path) -> Prepared:
    """Exports and compiles; what lies in `--out` already is taken from there."""
    import numpy as np

    from edgeport import api
    from edgeport.contracts import ModelSource
    from edgeport.pipeline.artifacts import load_artifact

    folder = out / model.name
    folder.mkdir(parents=True, exist_ok=True)
    feeds, onnx = folder / "feeds.npz", folder / "model.onnx"
    if not onnx.exists():
        arrays: dict[str, Any] = model.feeds()
        np.savez(feeds, **arrays)
        source = ModelSource(location=model.factory, search_path=Path(__file__).parent.parent)
        api.export(source, example=feeds, output=onnx)
    artifacts = {}
    for backend in ("onnxruntime", "openvino"):
        place = folder / backend
        if not place.exists():
            api.quantize(onnx, output=place, options=api.QuantizeOptions(backend=backend, precision="fp32"))
        artifacts[backend] = load_artifact(place)
    return Prepared(name=model.name, onnx=onnx, feeds=feeds, artifacts=artifacts)


def job(prepared: Prepared, backend: str, *, threads: int | None = None, duration_s: float = DURATION_S) -> TimeJob:
    """Of our agent; on all processors where no number of threads is given."""
    artifact = prepared.artifacts[backend]
    return TimeJob(
        artifact=str(artifact.folder),
        entry=artifact.entry,
        session=artifact.session,
        settings={**artifact.settings, **({} if threads is None else {"threads": threads})},
        feeds=str(prepared.feeds),
        duration_s=duration_s,
    )


def ours(prepared: Prepared, backend: str, out: Path) -> float:
    """Median nanoseconds, as our agent times it."""
    import numpy as np

    from edgeport.devices.latency.timer import call_latency_ns
    from edgeport.devices.local import LocalDevice

    return float(np.median(call_latency_ns(LocalDevice(out / "device").run(job(prepared, backend, threads=THREADS)))))


def plain_loop(prepared: Prepared) -> float:
    """Median nanoseconds of `session.run`, timed as anybody would."""
    return _loop(_LOOP, prepared.onnx, prepared)


def unbound_overhead(prepared: Prepared) -> float:
    """Nanoseconds that a call of ONNX Runtime takes more where nothing is bound before and each is timed alone."""
    return _loop(_UNBOUND, prepared.onnx, prepared)


def openvino_overhead(prepared: Prepared) -> float:
    """Median nanoseconds of a call of OpenVINO that the runtime does not count as its own."""
    artifact = prepared.artifacts["openvino"]
    return _loop(_OVERHEAD, artifact.folder / artifact.entry, prepared)


def _loop(program: str, model: Path, prepared: Prepared) -> float:
    arguments = [sys.executable, "-c", program, str(model), str(prepared.feeds), str(DURATION_S), str(THREADS)]
    return float(json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout))


def benchmark_app(prepared: Prepared) -> float:
    """Median nanoseconds, as OpenVINO's own tool prints them: its files round to 10 us."""
    artifact = prepared.artifacts["openvino"]
    arguments = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(artifact.folder / artifact.entry)]
    arguments += ["-d", "CPU", "-api", "sync", "-hint", "latency", "-infer_precision", "f32", "-b", "1"]
    arguments += ["-t", str(math.ceil(DURATION_S))]  # whole seconds only
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    return median_printed(printed)


def median_printed(printed: str) -> float:
    """Nanoseconds of the line "Median:  35.02 ms" (or us) in what benchmark_app prints.

    Raises:
        ValueError: No such line.

    """
    found = re.search(r"Median:\s+([0-9.]+) (ms|us)", printed)
    if found is None:
        raise ValueError(f"benchmark_app printed no median: ...{printed[-500:]}")
    return float(found[1]) * {"ms": 1e6, "us": 1e3}[found[2]]


def compare(prepared: Prepared, arguments: Arguments, rounds: int) -> tuple[dict[str, Any], list[Check]]:
    """Every arm once a round; ours against each peer, paired."""
    import numpy as np

    out = arguments.out
    arms: dict[str, Callable[[], float]] = {
        "ours on ONNX Runtime": lambda: ours(prepared, "onnxruntime", out),
        "plain ONNX Runtime loop": lambda: plain_loop(prepared),
        "ours on OpenVINO": lambda: ours(prepared, "openvino", out),
        "benchmark_app": lambda: benchmark_app(prepared),
        "call less the runtime's own count": lambda: openvino_overhead(prepared),
        "run less a bound call": lambda: unbound_overhead(prepared),
    }
    order = random.Random(SEED)  # noqa: S311 (no secret)
    raw: dict[str, list[float]] = {name: [] for name in arms}
    disturbed = 0
    with one_processor():
        for _ in range(rounds):
            for name in order.sample(sorted(arms), len(arms)):
                value, again = undisturbed(arms[name])
                raw[name].append(value)
                disturbed += again
    found = {name: np.array(values) for name, values in raw.items()}
    # The median of all rounds: a loop that was disturbed says little of the others.
    overhead = float(np.median(found["call less the runtime's own count"]))
    unbound = float(np.median(found["run less a bound call"]))
    plain = difference(found["ours on ONNX Runtime"], found["plain ONNX Runtime loop"])
    app = difference(found["ours on OpenVINO"], found["benchmark_app"])
    plain_explained = difference(found["ours on ONNX Runtime"] + unbound, found["plain ONNX Runtime loop"])
    app_explained = difference(found["ours on OpenVINO"] - overhead, found["benchmark_app"])
    for own, peer, one in (
        ("ours on ONNX Runtime", "plain ONNX Runtime loop", plain),
        ("ours on ONNX Runtime, with what a plain run adds", "plain ONNX Runtime loop", plain_explained),
        ("ours on OpenVINO", "benchmark_app", app),
        ("ours on OpenVINO, less what the runtime does not count", "benchmark_app", app_explained),
    ):
        print(f"{prepared.name}: {own} against {peer}: {one}")
    print(f"{prepared.name}: {overhead / 1e3:.2f} us of a call are not OpenVINO's own count, ", end="")
    print(f"{unbound / 1e3:.2f} us of a plain run of ONNX Runtime are not its bound call; ", end="")
    print(
        f"{disturbed} processes were run again beside {rounds * len(arms)}, since others used the machine", flush=True
    )
    return {**raw, "disturbed": disturbed}, [
        at_most(
            f"{prepared.name}: ours against a plain ONNX Runtime loop, difference that nothing explains",
            min(plain.worst, plain_explained.worst),
            MOST_DIFFERENCE,
        ),
        at_most(
            f"{prepared.name}: ours against benchmark_app, difference that nothing explains",
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
    import numpy as np

    from edgeport.devices.latency.comparison import paired_interval

    return Difference(
        **dict(zip(("estimate", "low", "high"), map(math.expm1, paired_interval(np.log(own / peer))), strict=True))
    )


def narrow(prepared: Prepared, arguments: Arguments) -> tuple[dict[str, Any], list[Check]]:
    """How long a median takes to be known to 2 %, and whether a longer measurement agrees."""
    from edgeport.devices.experiment import run_rounds, to_measurements
    from edgeport.devices.latency.neighbours import without_disturbed
    from edgeport.devices.latency.summary import summarise
    from edgeport.devices.local import LocalDevice
    from edgeport.devices.stopping import Enough, Goal, half_width

    device = LocalDevice(arguments.out / "device")
    jobs = {"a": job(prepared, "onnxruntime", duration_s=0.5)}
    enough = Enough("a", Goal(until=WIDTH, time_s=WITHIN_S))
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
    print(f"{prepared.name}: +-{width:.2%} after {taken_s:.0f} s, {told}; {enough.reason}", flush=True)
    figures = {
        "half_width": width if math.isfinite(width) else None,
        "seconds": taken_s,
        "rounds": len(rounds),
        "flags": list(summary.flags),
        **by_distance(to_measurements(longer, device="")["a"]),
    }
    return figures, [
        at_most(f"{prepared.name}: half width of the median's interval", width, WIDTH),
        at_most(f"{prepared.name}: seconds until then", taken_s, WITHIN_S),
        at_least(f"{prepared.name}: the interval agrees with a longer measurement's", float(agree), 1.0),
    ]


def by_distance(measurement: Measurement) -> dict[str, float]:
    """Medians over the processes that ran with processors near each other, and over those with them apart.

    Returns:
        Of each kind that there was: the number of processes, and the medians of their exchanges and of their calls,
        nanoseconds.

    """
    import numpy as np

    from edgeport.devices.latency.neighbours import far_apart
    from edgeport.devices.latency.telemetry import exchange_ns
    from edgeport.devices.latency.timer import call_latency_ns

    apart = far_apart(measurement.traces)
    kinds = {"near": [trace for trace in measurement.traces if trace not in apart], "apart": apart}
    found: dict[str, float] = {}
    for kind, traces in kinds.items():
        if traces:
            found[f"processes {kind}"] = len(traces)
            found[f"exchange_ns {kind}"] = float(np.median([time for one in traces for time in exchange_ns(one)]))
            found[f"latency_ns {kind}"] = float(np.median([np.median(call_latency_ns(one)) for one in traces]))
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


def beside_a_rival(prepared: Prepared, arguments: Arguments) -> tuple[dict[str, Any], list[Check]]:
    """The verdict on a machine that somebody else uses too."""
    from edgeport.devices.experiment import run_rounds, to_measurements
    from edgeport.devices.latency.summary import summarise
    from edgeport.devices.local import LocalDevice

    with rival():
        rounds = run_rounds(
            LocalDevice(arguments.out / "device"), {"a": job(prepared, "onnxruntime", duration_s=0.5)}, rounds=10
        )
    summary = summarise(to_measurements(rounds, device="")["a"])
    print(f"{prepared.name}, beside a rival: {summary.outcome} ({', '.join(summary.flags)})")
    honest = summary.outcome in (Outcome.INCONCLUSIVE, Outcome.INVALID)
    figures = {"outcome": str(summary.outcome), "flags": list(summary.flags)}
    return figures, [at_least(f"{prepared.name}, beside a rival: not PASS", float(honest), 1.0)]


def main() -> int:
    """Runs every part for every model that is installed."""
    arguments = parse_arguments("Latencies beside the runtimes' own tools")
    figures: dict[str, Any] = {}
    checks: list[Check] = []
    for model in MODELS.values():
        if not available(model):
            print(f'{model.name}: skipped, {", ".join(model.needs)} not installed: pip install "edgeport[peers]"')
            checks.append(at_least(f"{model.name}: measured", 0.0, 1.0))
            continue
        prepared = prepare(model, arguments.out.resolve())
        found = {
            "against_peers_ns": compare(prepared, arguments, ROUNDS_SHORT if arguments.short else ROUNDS),
            "narrow": narrow(prepared, arguments),
            "rival": beside_a_rival(prepared, arguments),
        }
        figures[model.name] = {name: part for name, (part, _) in found.items()}
        checks += [check for _, more in found.values() for check in more]
    return report("latency_peers", arguments, figures, checks, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
