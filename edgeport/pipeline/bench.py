"""One artifact timed, alone or beside another one."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts import (
    Artifact,
    Budget,
    Candidate,
    Change,
    Comparison,
    DeviceFacts,
    EvaluateJob,
    ExecutionConfig,
    LatencySummary,
    Limits,
    Measurement,
    OnProgress,
    Outcome,
    Precision,
    TensorSpec,
    TimeJob,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.errors import MeasurementError, SamplesError, UsageError, error_from_dict
from edgeport.isolation import run_isolated
from edgeport.npz import save_npz
from edgeport.pipeline.artifacts import load_artifact, load_inputs
from edgeport.pipeline.batches import first_batch
from edgeport.pipeline.choosing import judge_budget
from edgeport.pipeline.steps import execution_for, read_samples
from edgeport.recipe.evidence import LEAST_ROUNDS

if TYPE_CHECKING:
    from edgeport.contracts import Array
    from edgeport.devices.local import LocalDevice

__all__ = ["BenchResult", "BenchSettings", "bench_artifact"]

_QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """How long an artifact takes.

    Attributes:
        name: Of what was timed.
        summary: Quantiles with intervals.
        comparison: Against the other artifact, paired by round; None where none was given.
        baseline: Summary of that other artifact.
        device: Where.
        outcome: PASS where the budget is kept and the numbers may be believed.
        reason: In a sentence, where it is not PASS.
        batch: Samples per call; every latency is per call.
        measurement: The raw traces.

    """

    name: str
    batch: int = 1
    summary: LatencySummary
    comparison: Comparison | None = None
    baseline: LatencySummary | None = None
    device: DeviceFacts
    outcome: Outcome
    reason: str = ""
    measurement: Measurement = field(repr=False)
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """How an artifact is timed; see `edgeport.api.bench`."""

    backend: str = "onnxruntime"
    samples: Path | None = None
    rounds: int = 10
    duration_s: float = 0.5
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """An artifact and what it is fed: its own sample, if it has one, `batch` samples at a time."""

    name: str
    artifact: Artifact
    inputs: tuple[TensorSpec, ...]
    sample: Path | None
    batch: int


def bench_artifact(
    path: Path,
    settings: BenchSettings,
    *,
    against: Path | None = None,
    budget: Budget,
    on_progress: OnProgress = silent,
) -> BenchResult:
    """See `edgeport.api.bench`."""
    from edgeport.devices.experiment import run_rounds, to_measurements
    from edgeport.devices.latency.comparison import compare
    from edgeport.devices.latency.summary import summarise
    from edgeport.devices.local import LocalDevice

    with tempfile.TemporaryDirectory(prefix="edgeport-bench-") as name:
        scratch = Path(name)
        device = LocalDevice(scratch / "device")
        opened = {"artifact": _open(path, settings, scratch / "artifact")}
        if against is not None:
            opened["against"] = _open(against, settings, scratch / "against")
        jobs = {arm: _job(one, settings, scratch / f"{arm}-feeds", device) for arm, one in opened.items()}
        done = run_rounds(device, jobs, rounds=settings.rounds, on_progress=on_progress)
        for arm, one in opened.items():
            failed = [each.errors[arm] for each in done if arm in each.errors]
            if failed:
                error = error_from_dict(failed[0])
                error.add_note(f"while timing {one.name}")
                raise error
        facts = device.facts()
        measured = to_measurements(done, device=facts.digest)
        if "artifact" not in measured:
            raise MeasurementError(asked=f"time {path.name}", found="no traces", fix="ask for at least one round")
        quantiles = sorted({*_QUANTILES, budget.latency_quantile})
        summary = summarise(measured["artifact"], quantiles)
        outcome, reason = _outcome(opened["artifact"], summary, budget)
        beside = against is not None
        comparison = compare(measured["against"], measured["artifact"]) if beside else None
        if comparison is not None:
            outcome, reason = _with_comparison(outcome, reason, comparison)
        return BenchResult(
            name=opened["artifact"].name,
            batch=opened["artifact"].batch,
            summary=summary,
            comparison=comparison,
            baseline=summarise(measured["against"], quantiles) if beside else None,
            device=facts,
            outcome=outcome,
            reason=reason,
            measurement=measured["artifact"],
        )


def _outcome(opened: _Opened, summary: LatencySummary, budget: Budget) -> tuple[Outcome, str]:
    if summary.outcome is not Outcome.PASS:
        return summary.outcome, ", ".join(summary.flags) or summary.quantile(0.5).refused or "no steady state"
    candidate = Candidate(
        name=opened.name,
        backend=opened.artifact.backend,
        precision=opened.artifact.precision,
        artifact=opened.artifact,
        latency=summary,
    )
    judged = judge_budget(candidate, budget)
    return (Outcome.PASS, "") if judged.refusal is None else (judged.outcome, judged.refusal.reason)


def _with_comparison(outcome: Outcome, reason: str, comparison: Comparison) -> tuple[Outcome, str]:
    """Pairs see a busy machine on both sides: what they call slower is so, even where latencies are in doubt."""
    beside, why = _outcome_beside(comparison)
    if outcome is Outcome.PASS or (outcome is Outcome.INCONCLUSIVE and beside is Outcome.FAIL):
        return beside, why
    return outcome, f"{reason}; {why}" if beside is Outcome.INCONCLUSIVE else reason


def _outcome_beside(comparison: Comparison) -> tuple[Outcome, str]:
    """Slower than the other is a failure; what pairs can't tell is inconclusive."""
    speedup = comparison.speedup
    span = f"{speedup.low:.3g} to {speedup.high:.3g} times the speed of the other"
    if comparison.change in (Change.SLOWER, Change.REGRESSED):
        return Outcome.FAIL, f"{comparison.change}: {span}"
    if comparison.change is Change.UNKNOWN:
        advice = "" if comparison.pairs >= LEAST_ROUNDS else f"; {LEAST_ROUNDS} rounds or more are needed"
        return Outcome.INCONCLUSIVE, f"{span}, from {comparison.pairs} pairs{advice}"
    return Outcome.PASS, ""


def _open(path: Path, settings: BenchSettings, scratch: Path) -> _Opened:
    if path.suffix == ".onnx":
        return _compiled(path, settings, scratch)
    artifact = load_artifact(path)
    sample = path / "sample.npz"
    return _Opened(
        name=path.name,
        artifact=artifact,
        inputs=load_inputs(path),
        sample=sample if sample.is_file() else None,
        batch=artifact.execution.batch,
    )


def _compiled(path: Path, settings: BenchSettings, scratch: Path) -> _Opened:
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
        "execution": to_jsonable(execution_for(model, ExecutionConfig(threads=settings.threads))),
        "calibration": None,
        "method": "minmax",
        "folder": str(scratch),
    }
    found = run_isolated("edgeport.pipeline.children:build", payload, limits=settings.limits)
    artifact = load_json(Artifact, json.dumps(found["artifact"]))
    return _Opened(name=path.name, artifact=artifact, inputs=model.inputs, sample=None, batch=artifact.execution.batch)


def _job(opened: _Opened, settings: BenchSettings, scratch: Path, device: LocalDevice) -> TimeJob:
    """Feeds for it, its own outputs for them as the reference of the timed calls, and the job."""
    scratch.mkdir(parents=True)
    artifact = opened.artifact
    feeds = _feeds(opened, settings.samples, scratch / "feeds.npz")
    evaluate = EvaluateJob(
        artifact=device.push(artifact.folder),
        entry=artifact.entry,
        session=artifact.session,
        settings=artifact.settings,
        feeds=device.push(feeds),
        outputs=str(scratch / "outputs.npz"),
        batch=opened.batch,
        limits=settings.limits,
    )
    device.run(evaluate)
    return TimeJob(
        artifact=evaluate.artifact,
        entry=evaluate.entry,
        session=evaluate.session,
        settings=evaluate.settings,
        feeds=evaluate.feeds,
        reference=evaluate.outputs,
        batch=evaluate.batch,
        duration_s=settings.duration_s,
        limits=settings.limits,
    )


def _feeds(opened: _Opened, samples: Path | None, path: Path) -> Path:
    """The first batch of the samples; without any, values drawn from each input's range, or ones."""
    source = samples or opened.sample
    if source is None:
        arrays = {spec.name: _random(spec, opened.batch) for spec in opened.inputs}
    else:
        arrays = first_batch(_inputs_in(source, opened), opened.batch)
    save_npz(path, arrays)
    return path


def _inputs_in(source: Path, opened: _Opened) -> dict[str, Array]:
    """The first samples in a `.npz`, of the inputs alone: labels may stand beside them."""
    from edgeport.calibration.data import ArraySamples, check_samples

    found = read_samples(source, count=opened.batch).feeds
    names = [spec.name for spec in opened.inputs]
    inputs = {name: array for name, array in found.items() if name in names}
    if not inputs:
        raise SamplesError(
            asked=f"feed {opened.name} from {source.name}",
            found=f"the arrays {', '.join(map(repr, found))}",
            fix=f"give an .npz with one array per input: {', '.join(map(repr, names))}",
        )
    check_samples(ArraySamples(inputs), opened.inputs)
    return inputs


def _random(spec: TensorSpec, batch: int) -> Array:
    import numpy as np

    shape = [batch if index == 0 else 1 if isinstance(size, str) else size for index, size in enumerate(spec.shape)]
    random = np.random.default_rng(0)
    if spec.dtype.startswith("float"):
        low, high = spec.value_range or (-1.0, 1.0)
        return random.uniform(low, high, shape).astype(spec.dtype)
    return np.ones(shape, spec.dtype)
