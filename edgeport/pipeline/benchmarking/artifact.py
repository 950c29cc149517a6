"""What is timed: an artifact's folder, a bundle or an ONNX file, with its feeds, as a job for the device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeport.contracts import (
    Array,
    Artifact,
    DataParallel,
    Device,
    EvaluateJob,
    ExecutionConfig,
    Limits,
    ModelParallel,
    Placement,
    Precision,
    SingleStream,
    TensorSpec,
    TimeJob,
    TimesOnly,
    load_json,
    to_jsonable,
)
from edgeport.errors import SamplesError, UsageError
from edgeport.isolation import run_isolated
from edgeport.npz import load_npz, save_npz
from edgeport.pipeline.compilation.candidates import execution_for
from edgeport.pipeline.datasets.batching import first_batch
from edgeport.pipeline.datasets.raw_files import preparation_for, prepared_file, read_samples
from edgeport.pipeline.output.artifact_folder import load_artifact, load_inputs, load_state

__all__ = ["SCENARIOS", "BenchSettings", "Opened", "open_artifact", "time_job", "write_feeds"]

SCENARIOS = ("single-stream", "multi-stream", "server", "offline")

_SERVER_QUERIES = 100
_LONGEST_SERVER_S = 5.0
_IDLE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """How artifacts are timed; see `edgeport.api.bench`."""

    backend: str = "onnxruntime"
    samples: Path | None = None
    preprocess: Path | None = None
    rounds: int = 10
    duration_s: float = 0.3
    threads: int | None = None
    scenario: str = "single-stream"
    streams: int | None = None
    rate_per_s: float | None = None
    until: float | None = None
    time_s: float | None = None
    energy: bool = False
    cool_down_s: float = 0.0
    device: str = "local"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise _unusable(f"the scenario {self.scenario!r}", f"use one of {', '.join(SCENARIOS)}")
        if self.scenario == "server" and self.rate_per_s is None:
            raise _unusable("a server without a rate", "say how many queries come, such as --rate 100/s")
        if self.scenario != "server" and self.rate_per_s is not None:
            raise _unusable(f"a rate in {self.scenario}", "only queries of --scenario server come at a rate")
        if self.scenario == "single-stream" and self.streams not in (None, 1):
            raise _unusable(
                f"{self.streams} streams in single-stream", "add --scenario multi-stream, server or offline"
            )
        if self.preprocess is not None and self.samples is None:
            raise _unusable("--preprocess without --samples", "say which raw samples are to be preprocessed")
        if not 0 <= self.cool_down_s < 3600:
            raise _unusable(f"{self.cool_down_s:g} s of rest before each process", "give less than an hour, or none")
        for name in ("streams", "rate_per_s", "until", "time_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise _unusable(f"{name} {value:g}", "give a number above 0")
        if self.rounds < 1 or not self.duration_s > 0:
            raise _unusable(f"{self.rounds} rounds of {self.duration_s:g} s", "give 1 or more, and a positive duration")

    def streams_on(self, cores: int, layout: SingleStream | DataParallel | ModelParallel | None = None) -> int:
        """As asked; else one in single-stream, and as many as the machine has cores in the other scenarios.

        A pipeline has one more than stages, if that is more: each stage is at work on one, and one waits. What was
        built for so many streams has these.
        """
        if self.scenario == "single-stream":
            return 1
        if isinstance(layout, DataParallel):
            return self.streams or layout.streams
        return self.streams or max(1, cores, layout.stages + 1 if isinstance(layout, ModelParallel) else 0)

    @property
    def execution_of_onnx(self) -> ExecutionConfig:
        """How a plain `.onnx` is compiled: for as many streams as will call it, where their number is asked for."""
        streams = 1 if self.scenario == "single-stream" else self.streams or 1
        layout = DataParallel(streams=streams) if streams > 1 else SingleStream()
        return ExecutionConfig(threads=self.threads, layout=layout)

    @property
    def process_s(self) -> float:
        """Seconds of timed calls in a process.

        A server needs some 100 queries to tell a queue that grows from one that is long (5 s at most are spent on
        that); a meter of energy needs 10 s over all processes.
        """
        from edgeport.devices.latency.energy import LEAST_S

        duration_s = self.duration_s
        if self.rate_per_s is not None:
            duration_s = max(duration_s, min(_LONGEST_SERVER_S, _SERVER_QUERIES / self.rate_per_s))
        return max(duration_s, 1.05 * LEAST_S / self.rounds) if self.energy else duration_s


def _unusable(found: str, fix: str) -> UsageError:
    return UsageError(asked="time an artifact", found=found, fix=fix)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An artifact and what it is fed: its own sample, if it has one, `batch` samples at a time.

    Attributes:
        placement: What ran where, as far as the runtime told when it was built.
        state: Output to the input that it feeds on the next call, of a bundle whose model has one; one step is timed.
        begins: `.npz` with what the state begins with.

    """

    name: str
    artifact: Artifact
    inputs: tuple[TensorSpec, ...]
    sample: Path | None
    batch: int
    placement: Placement | None = None
    state: Mapping[str, str] = field(default_factory=dict)
    begins: Path | None = None

    @property
    def fed(self) -> tuple[TensorSpec, ...]:
        """The inputs that samples feed."""
        return tuple(spec for spec in self.inputs if spec.name not in self.state.values())


def open_artifact(path: Path, settings: BenchSettings, scratch: Path) -> Opened:
    """Opens what lies there; an ONNX file is compiled as it stands, into `scratch`.

    Raises:
        UsageError: Nothing there that can be timed.
        BackendError: The files are not those that the record beside them names.

    """
    from edgeport.backends.artifacts import check_artifact

    if path.suffix == ".onnx":
        return _compiled(path, settings, scratch)
    artifact = load_artifact(path)
    check_artifact(artifact)
    sample, placement = path / "sample.npz", path / "placement.json"
    state = load_state(path)
    return Opened(
        name=path.resolve().name,
        artifact=artifact,
        inputs=load_inputs(path),
        sample=sample if sample.is_file() else None,
        batch=artifact.execution.batch,
        placement=load_json(Placement, placement.read_bytes()) if placement.is_file() else None,
        state=state,
        begins=path / "state.npz" if state else None,
    )


def _compiled(path: Path, settings: BenchSettings, scratch: Path) -> Opened:
    """An ONNX file as the backend takes it: nothing is quantized, whatever it holds runs as it stands."""
    from edgeport.onnx_files import open_onnx

    if not path.is_file():
        there = "a folder" if path.is_dir() else "no such file"
        raise UsageError(asked=f"time {path}", found=there, fix="name an .onnx file or an artifact's folder")
    model = open_onnx(path)
    scratch.mkdir(parents=True)
    payload = {
        "model": to_jsonable(model),
        "backend": settings.backend,
        "precision": str(Precision.FP32),
        "execution": to_jsonable(execution_for(model, settings.execution_of_onnx)),
        "layout_optional": True,
        "calibration": None,
        "method": "minmax",
        "folder": str(scratch),
    }
    asked = f"compile {path.name} for {settings.backend}"
    found = run_isolated("edgeport.pipeline.compilation.worker:build", payload, limits=settings.limits, asked=asked)
    artifact = load_json(Artifact, json.dumps(found["artifact"]))
    return Opened(
        name=path.name,
        artifact=artifact,
        inputs=model.inputs,
        sample=None,
        batch=artifact.execution.batch,
        placement=load_json(Placement, json.dumps(found["placement"])) if found["placement"] else None,
    )


def time_job(opened: Opened, settings: BenchSettings, scratch: Path, device: Device) -> TimeJob:
    """Feeds for it, its own outputs for them as the reference of the timed calls, and the job."""
    scratch.mkdir(parents=True)
    artifact = opened.artifact
    ran: dict[str, Any] = {
        "artifact": device.push(artifact.folder),
        "entry": artifact.entry,
        "session": artifact.session,
        "settings": artifact.settings,
        "feeds": device.push(write_feeds(opened, settings, scratch)),
        "state": opened.state,
    }
    reference = None
    if not isinstance(device, TimesOnly):
        reference = device.reserve("outputs.npz")
        device.run(EvaluateJob(**ran, outputs=reference, batch=opened.batch, limits=settings.limits))
    return TimeJob(
        **ran,
        reference=reference,
        duration_s=settings.process_s,
        scenario=settings.scenario,
        **_calls(artifact.execution, settings, device.facts().cores),
        rate_per_s=settings.rate_per_s or 0.0,
        idle_s=_IDLE_S if settings.energy else 0.0,
        cool_down_s=settings.cool_down_s,
        limits=replace(settings.limits, time_s=settings.limits.time_s + settings.cool_down_s),
    )


def _calls(execution: ExecutionConfig, settings: BenchSettings, cores: int) -> dict[str, Any]:
    """How many samples a query has, and how many queries come at once: enough to fill what gathers them."""
    streams = settings.streams_on(cores, execution.layout)
    layout = execution.layout
    if not isinstance(layout, DataParallel) or layout.wait_ns is None or execution.batch == 1:
        return {"batch": execution.batch, "streams": streams}
    at_once = 1 if settings.scenario == "single-stream" else settings.streams or layout.streams * execution.batch
    return {
        "batch": 1,
        "streams": at_once,
        "gather_most": execution.batch,
        "gather_wait_ns": layout.wait_ns,
        "gather_streams": layout.streams,
    }


def write_feeds(opened: Opened, settings: BenchSettings, scratch: Path) -> Path:
    """What a call of `opened.batch` samples is fed, as a `.npz` in `scratch`: see `BenchSettings.samples`."""
    return _feeds(opened, _samples_for(opened, settings, scratch / "prepared"), scratch / "feeds.npz")


def _samples_for(opened: Opened, settings: BenchSettings, scratch: Path) -> Path | None:
    """The file of samples that was named, preprocessed where a recipe says how."""
    if settings.samples is None:
        return None
    preparation = preparation_for(settings.preprocess, opened.inputs)
    return prepared_file(settings.samples, preparation, scratch, settings.limits, count=opened.batch)


def _feeds(opened: Opened, samples: Path | None, path: Path) -> Path:
    """The first batch of the samples; without any, values drawn from each input's range, or ones."""
    source = samples or opened.sample
    if source is None:
        arrays = {spec.name: _random(spec, opened.batch) for spec in opened.fed}
    else:
        arrays = first_batch(_inputs_in(source, opened), opened.batch)
    if opened.begins is not None:
        arrays |= load_npz(opened.begins)
    save_npz(path, arrays)
    return path


def _inputs_in(source: Path, opened: Opened) -> dict[str, Array]:
    """The first samples in a `.npz`, of the inputs alone: labels may stand beside them."""
    from edgeport.calibration.data import ArraySamples, check_samples

    found = read_samples(source, count=opened.batch).feeds
    names = [spec.name for spec in opened.fed]
    inputs = {name: array for name, array in found.items() if name in names}
    if not inputs:
        raise SamplesError(
            asked=f"feed {opened.name} from {source.name}",
            found=f"the arrays {', '.join(map(repr, found))}",
            fix=f"give an .npz with one array per input: {', '.join(map(repr, names))}",
        )
    check_samples(ArraySamples(inputs), opened.fed)
    return inputs


def _random(spec: TensorSpec, batch: int) -> Array:
    import numpy as np

    shape = [batch if index == 0 else 1 if isinstance(size, str) else size for index, size in enumerate(spec.shape)]
    random = np.random.default_rng(0)
    if spec.dtype.startswith("float"):
        low, high = spec.value_range or (-1.0, 1.0)
        return random.uniform(low, high, shape).astype(spec.dtype)
    return np.ones(shape, spec.dtype)
