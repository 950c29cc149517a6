"""A finished run with every kind of row, and a way to run the command line in this process."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from edgeport.contracts import (
    AccuracyResult,
    Artifact,
    Budget,
    Candidate,
    Change,
    Comparison,
    DeviceFacts,
    Interval,
    LatencySummary,
    NodePlacement,
    OnnxModel,
    Outcome,
    Placement,
    Precision,
    Quantile,
    Refusal,
    RunResult,
    TensorSpec,
)


def interval(low: float, estimate: float, high: float) -> Interval:
    return Interval(low=low, estimate=estimate, high=high)


def _latency(p50_ms: float, *, p90: bool = True) -> LatencySummary:
    ns = p50_ms * 1e6
    tail = interval(ns * 1.08, ns * 1.1, ns * 1.15) if p90 else None
    return LatencySummary(
        quantiles=(
            Quantile(q=0.5, interval_ns=interval(ns * 0.98, ns, ns * 1.03)),
            Quantile(q=0.9, interval_ns=tail, refused="" if p90 else "36 effective calls are needed"),
        ),
        processes=10,
        calls=3000,
        effective_calls=1200.0,
        correlation_time=2.5,
        steady=1.0,
        load_ns=2e7,
        first_inference_ns=3e6,
        peak_memory_bytes=90_000_000,
        outcome=Outcome.PASS,
    )


def _accuracy(value: float, drop: float) -> AccuracyResult:
    return AccuracyResult(
        metric="top1",
        value=interval(value - 0.014, value, value + 0.011),
        drop=interval(drop - 0.004, drop, drop + 0.006),
        samples=600,
        outcome=Outcome.PASS,
        reference="PyTorch float32",
        details={"sqnr_db": 31.2},
    )


def _artifact(backend: str, precision: Precision, size: int) -> Artifact:
    return Artifact(
        backend=backend,
        folder=Path("/out/artifact"),
        entry="model.onnx",
        session="edgeport.backends.onnxruntime.session",
        precision=precision,
        size_bytes=size,
        digest="d" * 64,
    )


def _placement(precision: str, count: int, rest: int) -> Placement:
    nodes = [NodePlacement(name=f"n{i}", operator="Conv", device="CPU", precision=precision) for i in range(count)]
    nodes += [NodePlacement(name=f"f{i}", operator="Softmax", device="CPU", precision="fp32") for i in range(rest)]
    return Placement(nodes=tuple(nodes), source="optimised graph")


def _gain(low: float, estimate: float, high: float, change: Change) -> Comparison:
    return Comparison(speedup=interval(low, estimate, high), change=change, pairs=10, delta=0.02)


def _candidate(backend: str, precision: Precision, **fields: object) -> Candidate:
    return Candidate(name=f"{backend} {precision}", backend=backend, precision=precision, **fields)


def _candidates() -> tuple[Candidate, ...]:
    return (
        _candidate(
            "onnxruntime",
            Precision.INT8,
            artifact=_artifact("onnxruntime", Precision.INT8, 313_400),
            placement=_placement("int8", 12, 2),
            accuracy=_accuracy(0.9717, 0.0017),
            latency=_latency(0.412),
            against_float=_gain(2.22, 2.31, 2.4, Change.IMPROVED),
            outcome=Outcome.PASS,
        ),
        _candidate(
            "openvino",
            Precision.BF16,
            artifact=_artifact("openvino", Precision.BF16, 1_231_000),
            placement=_placement("bf16", 14, 0),
            accuracy=_accuracy(0.9733, 0.0),
            latency=_latency(0.95),
            outcome=Outcome.FAIL,
            refusal=Refusal(code="BEATEN", reason="onnxruntime int8 is faster within the accuracy budget"),
        ),
        _candidate(
            "onnxruntime",
            Precision.INT8_DYNAMIC,
            artifact=_artifact("onnxruntime", Precision.INT8_DYNAMIC, 330_000),
            placement=_placement("int8", 14, 0),
            accuracy=_accuracy(0.9712, 0.0021),
            latency=_latency(7.6, p90=False),
            against_float=_gain(0.12, 0.125, 0.13, Change.REGRESSED),
            outcome=Outcome.FAIL,
            refusal=Refusal(
                code="SLOWER",
                reason="slower than the best float: 0.125x the best float's speed (0.120 to 0.130)",
            ),
        ),
        _candidate(
            "tensorrt",
            Precision.INT8,
            artifact=_artifact("tensorrt", Precision.INT8, 401_000),
            outcome=Outcome.UNMEASURED,
            refusal=Refusal(code="UNMEASURED", reason="nothing here can run it, so no latency is known"),
        ),
        _candidate(
            "openvino",
            Precision.INT8,
            outcome=Outcome.FAIL,
            refusal=Refusal(code="BACKEND_CRASH", reason="the child died by signal 11 (SIGSEGV); look at its stack"),
        ),
        _candidate(
            "openvino",
            Precision.INT8_DYNAMIC,
            artifact=_artifact("openvino", Precision.INT8_DYNAMIC, 51_600),
            placement=Placement(nodes=(), source="runtime model"),
            accuracy=replace(
                _accuracy(1.0, 0.0), value=interval(0.9905, 1.0, 1.0), drop=interval(-0.0095, 0.0, 0.0095)
            ),
            latency=replace(
                _latency(0.128), quantiles=(Quantile(q=0.5, interval_ns=interval(7.44e4, 1.28e5, 2.551e7)),)
            ),
            against_float=_gain(0.0, 1.182, float("inf"), Change.UNKNOWN),
            outcome=Outcome.FAIL,
            refusal=Refusal(code="NOT_AS_PLANNED", reason="planned int8-dynamic, but no node ran in int8 (fp32 4/4)"),
        ),
        _candidate(
            "onnxruntime",
            Precision.BF16,
            outcome=Outcome.UNMEASURED,
            refusal=Refusal(code="BACKEND_UNSUPPORTED", reason="no bfloat16 MatMul on this CPU"),
        ),
    )


@pytest.fixture(scope="session")
def finished() -> RunResult:
    image = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 32, 32))
    model = OnnxModel(path=Path("/out/model.onnx"), inputs=(image,), outputs=(image,), opset=20, digest="e" * 64)
    return RunResult(
        name="digits",
        model=model,
        verification=None,
        candidates=_candidates(),
        best_float="openvino bf16",
        chosen="onnxruntime int8",
        budget=Budget(accuracy_drop=0.02),
        device=DeviceFacts(
            name="local", machine="x86_64", cpu="AMD EPYC 9R14", cores=2, memory_bytes=8 << 30, isa=("avx512_vnni",)
        ),
        outcome=Outcome.PASS,
        bundle=Path("/home/someone/a/rather/long/path/edgeport-quickstart/bundle"),
        report=Path("/home/someone/a/rather/long/path/edgeport-quickstart/report.html"),
        folder=Path("/home/someone/a/rather/long/path/edgeport-quickstart"),
        elapsed_s=132.4,
        reused=3,
        notes=("tensorrt: built with tensorrt-rtx, no supported GPU is here.",),
    )


@pytest.fixture
def drawn() -> Callable[..., str]:
    def draw(picture: Callable[[Console], None], *, width: int = 120, terminal: bool = False) -> str:
        file = io.StringIO()
        console = Console(
            file=file, width=width, force_terminal=terminal, highlight=False, markup=False, emoji=False, no_color=False
        )
        picture(console)
        return file.getvalue()

    return draw


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str


@pytest.fixture
def edgeport(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def call(*arguments: object) -> Ran:
        from edgeport.cli.app import run

        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture(scope="session")
def with_outcome() -> Callable[[RunResult, Outcome], RunResult]:
    return lambda result, outcome: replace(result, outcome=outcome)
