"""The runtimes' own benchmark programs: how they are called, and what their answers say.

Sources: ONNX Runtime, onnxruntime/test/perftest/README.md and performance_runner.h (`DumpToFile`: a line for each run,
`model,seconds,peak bytes,CPU use,index`); OpenVINO, samples/cpp/benchmark_app/README.md (no times of single calls).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeport.contracts import TimeJob
from edgeport.errors import DeviceError

__all__ = ["PROGRAMS", "RESULT", "BenchmarkTimes", "Call", "Feed", "NativeProgram"]

RESULT = "result.csv"
"""What a program may write in its folder."""
_TYPES = {
    "float32": "f32",
    "float16": "f16",
    "float64": "f64",
    "bool": "boolean",
    **{f"{kind}{bits}": f"{kind[0]}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
"""NumPy's names to OpenVINO's."""
_LEVELS = {"none": 0, "basic": 1, "extended": 2, "all": 99}
_KEY = re.compile(r"[A-Za-z0-9._;-]+")
_SKIP = "optimization.disable_specified_optimizers"  # onnxruntime_session_options_config_keys.h
_LONGEST_S = 1e6


@dataclass(frozen=True, kw_only=True)
class BenchmarkTimes:
    """What a program found.

    Attributes:
        latency_ns: Of each reading, in order.
        calls_per_reading: Calls in each of them.
        load_ns: 0 where it was not told.
        first_ns: The first call; None where it was not told.
        peak_memory_bytes: 0 where it was not told.

    """

    latency_ns: tuple[int, ...]
    calls_per_reading: int = 1
    load_ns: int = 0
    first_ns: int | None = None
    peak_memory_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What an input is fed.

    Attributes:
        name: Of the input.
        array: Of one call.

    """

    name: str
    array: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Call:
    """How a program is called, in a folder of its own.

    Attributes:
        words: Behind its name.
        before: Words that set processors and priority, in front of its name.
        files: That it reads beside the model, by name in the folder.

    """

    words: tuple[str, ...]
    before: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NativeProgram:
    """A runtime's own benchmark.

    Attributes:
        name: As it is found.
        runtime: That it measures.
        session: Of the artifacts that it takes (`Artifact.session`).
        call: From a job, the name of its model's file, and what it is fed.
        read: From what it printed and wrote.

    """

    name: str
    runtime: str
    session: str
    call: Callable[[TimeJob, str, Sequence[Feed]], Call]
    read: Callable[[str, str], BenchmarkTimes]


def _perf_test(job: TimeJob, model: str, feeds: Sequence[Feed]) -> Call:
    """Its inputs lie in `test_data_set_0` beside the model."""
    from onnx import numpy_helper

    settings = dict(job.settings)
    words = ["-e", "cpu", "-m", "duration", "-t", str(_seconds(job)), "-o", str(_LEVELS[_level(settings)])]
    affinity, threads = settings.pop("affinity", None) or (), settings.pop("threads", None)
    threads = threads or len(_processors(affinity)) or None
    if threads:
        words += ["-x", str(int(str(threads)))]
    words += ["-y", "1"]
    config = settings.pop("config", None) or {}
    entries = {str(key): str(value) for key, value in config.items()} if isinstance(config, Mapping) else {}
    spinning = settings.pop("spinning", None)
    if spinning is not None:
        entries["session.intra_op.allow_spinning"] = "1" if spinning else "0"
    skip = settings.pop("skip", None)
    if isinstance(skip, list) and skip:
        entries[_SKIP] = ";".join(map(str, skip))
    if entries:
        words += ["-C", " ".join(f"{_plain(key)}|{_plain(value)}" for key, value in sorted(entries.items()))]
    before = _before(affinity, settings.pop("priority", None))
    if settings.pop("providers", None) not in (None, ["CPUExecutionProvider"]) or any(settings.values()):
        raise _cannot("onnxruntime_perf_test", f"the settings {', '.join(sorted(job.settings))}")
    tensors = [numpy_helper.from_array(feed.array, feed.name).SerializeToString() for feed in feeds]
    files = {f"test_data_set_0/input_{index}.pb": data for index, data in enumerate(tensors)}
    return Call(words=(*words, model, RESULT), before=before, files=files)


def _level(settings: dict[str, object]) -> str:
    level = str(settings.pop("optimization", None) or "all")
    if level not in _LEVELS:
        raise _cannot("onnxruntime_perf_test", f"the optimization {level!r}")
    return level


def _read_perf_test(said: str, written: str) -> BenchmarkTimes:
    rows = [line.rsplit(",", 4) for line in written.splitlines() if line.count(",") >= 4]
    latency = tuple(_ns(row[1], 1e9) for row in rows)
    peak = max((int(row[2]) for row in rows if row[2].isdigit()), default=0)
    return BenchmarkTimes(
        latency_ns=latency,
        load_ns=_told(said, r"Session creation time cost:\s*(\S+) s", 1e9) or 0,
        first_ns=_told(said, r"First inference time cost:\s*(\S+) ms", 1e6),
        peak_memory_bytes=peak,
    )


def _benchmark_app(job: TimeJob, model: str, feeds: Sequence[Feed]) -> Call:
    """Each input from a file of raw values, in its own type: of what looks like an image, the program makes bytes.

    Of fixed shape, as the session compiles it; else it would time the filling of inputs too.
    """
    settings = dict(job.settings)
    for name in ("inputs", "outputs", "batch", "hint", "pinned"):  # of calls at once, or of what it does by itself
        settings.pop(name, None)
    words = ["-m", model, "-d", "CPU", "-api", "sync", "-hint", "none", "-nstreams", "1", "-t", str(_seconds(job))]
    if threads := settings.pop("threads", None):
        words += ["-nthreads", str(int(str(threads)))]
    if precision := settings.pop("precision", None):
        words += ["-infer_precision", _plain(str(precision))]
    before = _before(settings.pop("affinity", None) or (), settings.pop("priority", None))
    files = {f"feed{index}.bin": np.ascontiguousarray(feed.array).tobytes() for index, feed in enumerate(feeds)}
    config = settings.pop("config", None)
    if config:
        files["config.json"] = json.dumps({"CPU": config}).encode()
        words += ["-load_config", "config.json"]
    if settings.pop("device", None) not in (None, "CPU") or settings.pop("streams", 1) != 1 or any(settings.values()):
        raise _cannot("benchmark_app", f"the settings {', '.join(sorted(job.settings))}")
    names = [_plain(feed.name) for feed in feeds]
    for feed in feeds:
        if feed.array.dtype.name not in _TYPES:
            raise _cannot("benchmark_app", f"an input of {feed.array.dtype}")
    shapes = [f"{name}[{','.join(map(str, feed.array.shape))}]" for name, feed in zip(names, feeds, strict=True)]
    types = [f"{name}:{_TYPES[feed.array.dtype.name]}" for name, feed in zip(names, feeds, strict=True)]
    sources = [f"{name}:feed{index}.bin" for index, name in enumerate(names)]
    words += ["-shape", ",".join(shapes), "-iop", ",".join(types), "-i", ",".join(sources)]
    return Call(words=tuple(words), before=before, files=files)


def _read_benchmark_app(said: str, _written: str) -> BenchmarkTimes:
    """The mean of all calls: one reading, for it tells no time of a single call."""
    count = re.search(r"Count:\s*(\d+) iterations", said)
    mean = _told(said, r"Average:\s*(\S+) ms", 1e6)
    if mean is None:  # of quick models
        mean = _told(said, r"Average:\s*(\S+) us", 1e3)
    read = _told(said, r"Read model took (\S+) ms", 1e6)
    compiled = _told(said, r"Compile model took (\S+) ms", 1e6)
    return BenchmarkTimes(
        latency_ns=() if mean is None or count is None else (mean,),
        calls_per_reading=max(1, int(count[1])) if count else 1,
        load_ns=(read or 0) + (compiled or 0),
        first_ns=_told(said, r"First inference took (\S+) ms", 1e6),
    )


PROGRAMS = (
    NativeProgram(
        name="onnxruntime_perf_test",
        runtime="onnxruntime",
        session="edgeport.backends.onnxruntime.session",
        call=_perf_test,
        read=_read_perf_test,
    ),
    NativeProgram(
        name="benchmark_app",
        runtime="openvino",
        session="edgeport.backends.openvino.session",
        call=_benchmark_app,
        read=_read_benchmark_app,
    ),
)
"""One visible table."""


def _seconds(job: TimeJob) -> int:
    """Both take whole ones."""
    return max(1, math.ceil(job.warmup_s + job.duration_s))


def _processors(affinity: object) -> tuple[int, ...]:
    return tuple(int(one) for one in affinity) if isinstance(affinity, list | tuple) else ()


def _before(affinity: object, priority: object) -> tuple[str, ...]:
    words: tuple[str, ...] = ()
    if priority:
        words += ("nice", "-n", str(int(str(priority))))
    mask = sum(1 << one for one in _processors(affinity))
    return (*words, "taskset", f"{mask:x}") if mask else words


def _plain(word: str) -> str:
    """A word that stands for itself in the small languages of these options."""
    if not _KEY.fullmatch(word):
        raise _cannot("a benchmark program", f"the name {word!r}")
    return word


def _told(said: str, pattern: str, scale: float) -> int | None:
    found = re.search(pattern, said)
    return _ns(found[1], scale) if found else None


def _ns(text: str, scale: float) -> int:
    """Raises ValueError for what is no time."""
    value = float(text)
    if not 0 <= value * scale <= _LONGEST_S * 1e9:
        message = f"a time of {text}"
        raise ValueError(message)
    return round(value * scale)


def _cannot(program: str, what: str) -> DeviceError:
    return DeviceError(
        asked=f"time an artifact with {program}",
        found=f"{what}, which it can't be told",
        fix="put a Python for Android there, with numpy and the runtime (docs/how-to/devices.md)",
    )
