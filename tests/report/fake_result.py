"""A run as a real one looks: two floats beaten, an int8 that ships, and one candidate for each way to fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeport.contracts import (
    AccuracyResult,
    Artifact,
    Budget,
    Candidate,
    Change,
    Comparison,
    DeviceFacts,
    Energy,
    Interval,
    LatencySummary,
    Measurement,
    NodePlacement,
    OnnxModel,
    Outcome,
    OutputDifference,
    Placement,
    Precision,
    ProcessTrace,
    Quantile,
    Refusal,
    Roof,
    Roofline,
    RunResult,
    TelemetrySample,
    TensorSpec,
    TimerFacts,
    Verification,
    Work,
)
from edgeport.devices.latency.roofline import roofline

TIMER = TimerFacts(clock="CLOCK_MONOTONIC", resolution_ns=30, overhead_ns=45)
DEVICE = DeviceFacts(
    name="local",
    machine="x86_64",
    cpu="AMD EPYC 9R14",
    cores=2,
    memory_bytes=16 << 30,
    isa=("avx2", "avx512_vnni", "avx512_bf16"),
    system="Linux 6.8",
    python="3.11.9",
    runtimes={"onnxruntime": "1.32.0", "openvino": "2026.4.1"},
    sensors=("cpufreq", "steal", "psi"),
)
DROPPED_ROUND = 4
STARTED_NS = 5_000_000_000_000
_NODES = 9
_TYPES = {
    Precision.FP32: "fp32",
    Precision.BF16: "bf16",
    Precision.FP16: "fp16",
    Precision.INT8: "int8",
    Precision.INT8_DYNAMIC: "fp32",
}


@dataclass(frozen=True, kw_only=True)
class _Case:
    backend: str
    precision: Precision
    median_us: float = 0.0
    right: int = 898
    refusal: Refusal | None = None
    outcome: Outcome = Outcome.FAIL
    built: bool = True
    flags: tuple[str, ...] = ()
    latency: Outcome = Outcome.PASS

    @property
    def name(self) -> str:
        return f"{self.backend} {self.precision.value}"


_CASES = (
    _Case(backend="onnxruntime", precision=Precision.INT8, median_us=131, right=897, outcome=Outcome.PASS),
    _Case(
        backend="openvino",
        precision=Precision.INT8,
        median_us=138,
        right=898,
        refusal=Refusal(code="NOT_FASTEST", reason="a gain (1.612x), but onnxruntime int8 is faster"),
        flags=("spikes",),
    ),
    _Case(
        backend="openvino",
        precision=Precision.BF16,
        median_us=224,
        refusal=Refusal(code="BEATEN", reason="onnxruntime int8 is faster within the accuracy budget"),
    ),
    _Case(
        backend="openvino",
        precision=Precision.FP32,
        median_us=406,
        refusal=Refusal(code="LATENCY_INVALID", reason="its latency must not be believed: frequency-drop, throttled"),
        outcome=Outcome.INVALID,
        flags=("frequency-drop", "spikes", "throttled"),
        latency=Outcome.INVALID,
    ),
    _Case(
        backend="onnxruntime",
        precision=Precision.FP32,
        median_us=412,
        refusal=Refusal(code="SLOWER", reason="slower than openvino bf16"),
        flags=("slowdown", "process-spread"),
        latency=Outcome.INCONCLUSIVE,
    ),
    _Case(
        backend="onnxruntime",
        precision=Precision.INT8_DYNAMIC,
        median_us=1630,
        right=861,
        refusal=Refusal(code="ACCURACY", reason="loses 0.0411 of top1 (0.028 to 0.054), more than the budget of 0.01"),
    ),
    _Case(
        backend="openvino",
        precision=Precision.INT8_DYNAMIC,
        refusal=Refusal(
            code="BACKEND_CRASH",
            reason='its process died by SIGSEGV in File "openvino/_ov_api.py", line 61 in infer; the others went on',
        ),
    ),
    _Case(
        backend="onnxruntime",
        precision=Precision.BF16,
        built=False,
        outcome=Outcome.UNMEASURED,
        refusal=Refusal(code="BACKEND_UNSUPPORTED", reason="ONNX Runtime's CPU provider has no bf16 convolution"),
    ),
    _Case(
        backend="tensorrt",
        precision=Precision.INT8,
        outcome=Outcome.UNMEASURED,
        refusal=Refusal(code="UNMEASURED", reason="built, not run: there is no GPU here that this engine takes"),
    ),
)


def make_result(folder: Path, *, calls: int = 2000, processes: int = 6, model: str = "digits") -> RunResult:
    """A whole result; every number is drawn from a fixed seed."""
    numbers = np.random.default_rng(7)
    measurements = {case.name: _measurement(case, processes, calls, numbers) for case in _CASES if case.median_us}
    winner, float_name = _CASES[0], _CASES[2].name
    confirmation = {case.name: _measurement(case, 10, calls, numbers) for case in (winner, _CASES[2])}
    candidates = tuple(_candidate(case, folder, measurements.get(case.name)) for case in _CASES)
    return RunResult(
        name=model,
        model=_model(folder),
        verification=_verification(),
        candidates=candidates,
        best_float=float_name,
        chosen=winner.name,
        budget=Budget(accuracy_drop=0.01),
        device=DEVICE,
        measurements=measurements,
        confirmation=confirmation,
        outcome=Outcome.PASS,
        bundle=folder / "bundle",
        folder=folder,
        elapsed_s=127.4,
        reused=3,
        notes=("tensorrt: engines are built, and can't be run without an NVIDIA GPU.",),
        versions={"edgeport": "0.1.0", "onnxruntime": "1.32.0", "openvino": "2026.4.1", "python": "3.11.9"},
    )


def _measurement(case: _Case, processes: int, calls: int, numbers: np.random.Generator) -> Measurement:
    """One round more than processes: one was disturbed, and is left out of all candidates."""
    rounds = [index for index in range(processes + 1) if index != DROPPED_ROUND]
    traces = tuple(_trace(case, index, calls, numbers) for index in rounds)
    flags = ("dropped-rounds:1",)
    return Measurement(artifact_digest=_digest(case), device=DEVICE.digest, seed=7, traces=traces, flags=flags)


def _trace(case: _Case, index: int, calls: int, numbers: np.random.Generator) -> ProcessTrace:
    """Correlated noise, an offset per process, and now and then a call that the system interrupted.

    Where the case says so, the processor throttles from the middle on, or the second half of a process is slower. The
    first calls of every other process are a slow start that is cut off.
    """
    noise = numbers.normal(0, 0.02, calls)
    smooth = np.convolve(noise, np.ones(4) / 2, mode="same")
    latency = case.median_us * 1e3 * np.exp(smooth + numbers.normal(0, 0.012))
    slow = np.arange(calls) >= calls // 2
    if ("throttled" in case.flags and index > 2) or ("slowdown" in case.flags and index % 2):
        latency[slow] *= 1.12
    latency[: calls // 8] *= 1.3 if index % 2 else 1.0
    hit = numbers.random(calls) < 0.004
    latency[hit] *= numbers.uniform(1.5, 6.0, int(hit.sum()))
    started_at_ns = STARTED_NS + index * 4_000_000_000 + int(case.median_us * 1e6)
    return ProcessTrace(
        artifact_digest=_digest(case),
        round=index,
        position=0,
        load_ns=31_000_000 if index else 74_000_000,
        cold=index == 0,
        first_inference_ns=2_400_000,
        samples=calls,
        elapsed_ns=int(latency.sum()),
        started_at_ns=started_at_ns,
        telemetry=_telemetry(case, started_at_ns, int(latency.sum()), index, numbers),
        warmup_ns=tuple(int(x) for x in latency[:50] * 1.6),
        latency_ns=tuple(int(x) for x in latency),
        peak_memory_bytes=96 << 20,
        timer=TIMER,
        outputs_match=True,
    )


def _telemetry(
    case: _Case, started_at_ns: int, span_ns: int, index: int, numbers: np.random.Generator
) -> tuple[TelemetrySample, ...]:
    """Sensors at the start, every tenth, and the end; fixed work before and after."""
    throttled = "throttled" in case.flags and index > 2
    found = []
    for part in np.linspace(0, 1, 11).tolist():
        fastest = 3.6e6 * (0.88 if throttled and part >= 0.5 else 1) + numbers.normal(0, 8e3)
        values = {
            "cpu0_freq_khz": fastest,
            "cpu1_freq_khz": 1.2e6,
            "zone0_x86_pkg_temp_millicelsius": 52e3 + 3e3 * index + 4e3 * part,
            "zone1_acpitz_millicelsius": 27.8e3,
            "busy_ticks": part * span_ns / 1e9 * 100 * 1.12,
            "clock_tick_hz": 100.0,
            "own_cpu_us": part * span_ns / 1e3,
            "processors": 2.0,
        }
        found.append(TelemetrySample(at_ns=started_at_ns + int(part * span_ns), values=values))
    before = TelemetrySample(at_ns=started_at_ns - 90_000_000, values={"canary_ns": 4.1e6 + numbers.normal(0, 5e4)})
    after = TelemetrySample(at_ns=started_at_ns + span_ns + 90, values={"canary_ns": 4.1e6 + numbers.normal(0, 5e4)})
    return (before, *found, after)


def _candidate(case: _Case, folder: Path, measurement: Measurement | None) -> Candidate:
    against = None
    if measurement is not None and not case.precision.is_float:
        against = _comparison(224 / case.median_us, 0.02)
    return Candidate(
        name=case.name,
        backend=case.backend,
        precision=case.precision,
        artifact=_artifact(case, folder) if case.built else None,
        placement=_placement(case) if case.built and case.backend != "tensorrt" else None,
        accuracy=_accuracy(case) if measurement is not None else None,
        latency=_summary(case, measurement) if measurement is not None else None,
        against_float=against,
        outcome=case.outcome,
        refusal=case.refusal,
    )


def _comparison(speedup: float, width: float) -> Comparison:
    interval = Interval(low=speedup * (1 - width), estimate=speedup, high=speedup * (1 + width))
    change = Change.IMPROVED if interval.low > 1.02 else Change.REGRESSED if interval.high < 0.98 else Change.UNKNOWN
    return Comparison(speedup=interval, change=change, pairs=10, delta=0.02)


def _summary(case: _Case, measurement: Measurement) -> LatencySummary:
    pooled = np.concatenate([trace.latency_ns for trace in measurement.traces])
    median = _quantile(pooled, 0.5, 0.012)
    rate = 1e9 / float(pooled.mean())
    return LatencySummary(
        quantiles=(
            median,
            _quantile(pooled, 0.9, 0.02),
            _quantile(pooled, 0.99, 0.04),
            Quantile(q=0.999, interval_ns=None, refused="2,410 effective calls; 7,376 are needed"),
        ),
        processes=len(measurement.traces),
        calls=pooled.size,
        effective_calls=pooled.size / 2.1,
        correlation_time=2.1,
        steady=1.0,
        load_ns=31e6,
        first_load_ns=74e6,
        first_inference_ns=2.4e6,
        peak_memory_bytes=96 << 20,
        outcome=case.latency,
        flags=case.flags,
        throughput_per_s=Interval(low=rate * 0.98, estimate=rate, high=rate * 1.02),
        energy=_energy(case),
        roofline=_roofline(case),
    )


def _energy(case: _Case) -> Energy | None:
    """One that was measured, one that could not be, and others that were not asked for."""
    if case.precision is Precision.INT8 and case.backend == "onnxruntime":
        per_sample = Interval(low=0.0021, estimate=0.0023, high=0.0025)
        return Energy(per_sample_j=per_sample, idle_w=11.2, source="rapl0")
    return Energy(source="rapl0", refused="not measured: 3.1 s of calls; 10 s are needed")


def _roofline(case: _Case) -> Roofline | None:
    """int8 under a higher roof than floats; the dynamic one is all overhead, and bf16 has no peak."""
    if case.precision is Precision.BF16:
        return None
    whole = case.precision is Precision.INT8
    work = Work(operations=8.2e6, bytes=4.2e5 if whole else 1.57e6)
    roof = Roof(
        operations_per_s=4.1e11 if whole else 1.3e11,
        bytes_per_s=9.4e10 if whole else 2.1e10,
        source="a matrix product and a read, 2 threads",
    )
    return roofline(case.median_us * 1e3, work, roof)


def _quantile(pooled: Sequence[int], q: float, width: float) -> Quantile:
    value = float(np.quantile(pooled, q))
    return Quantile(q=q, interval_ns=Interval(low=value * (1 - width), estimate=value, high=value * (1 + width)))


def _accuracy(case: _Case) -> AccuracyResult:
    value = case.right / 901
    error = 1.96 * math.sqrt(value * (1 - value) / 901)
    drop = (898 - case.right) / 901
    slack = 0.003 + abs(drop) * 0.3
    return AccuracyResult(
        metric="top1",
        value=Interval(low=value - error, estimate=value, high=min(1.0, value + error)),
        drop=Interval(low=drop - slack, estimate=drop, high=drop + slack),
        samples=901,
        outcome=Outcome.PASS if drop < 0.01 else Outcome.FAIL,
        reference="PyTorch float32",
        details={"sqnr_db": 34.2},
    )


def _placement(case: _Case) -> Placement:
    kind = _TYPES[case.precision]
    nodes = [
        NodePlacement(
            name=f"node_{index}",
            operator="QLinearConv" if kind == "int8" else "Conv",
            device="CPUExecutionProvider" if case.backend == "onnxruntime" else "CPU",
            precision="fp32" if index == _NODES - 1 and kind == "int8" else kind,
            origin=(f"residual.first.{index}",),
            reason="the mean is taken in float" if index == _NODES - 1 and kind == "int8" else "",
        )
        for index in range(_NODES)
    ]
    nodes.append(NodePlacement(name="reshape", operator="Reshape", device="CPU", precision=""))
    return Placement(nodes=tuple(nodes), source="optimised graph")


def _artifact(case: _Case, folder: Path) -> Artifact:
    return Artifact(
        backend=case.backend,
        folder=folder / "artifact",
        entry="model.onnx",
        session="edgeport.backends.onnxruntime.session",
        precision=case.precision,
        size_bytes=420_000 if case.precision in (Precision.INT8, Precision.INT8_DYNAMIC) else 1_570_000,
        digest=_digest(case),
    )


def _digest(case: _Case) -> str:
    return f"{sum(case.name.encode()):064x}"


def _model(folder: Path) -> OnnxModel:
    return OnnxModel(
        path=folder / "model.onnx",
        inputs=(TensorSpec(name="images", dtype="float32", shape=("batch", 1, 32, 32)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=("batch", 10)),),
        opset=20,
        digest="c0ffee" * 10 + "cafe",
    )


def _verification() -> Verification:
    return Verification(
        outputs=(OutputDifference(name="scores", max_abs=3.8e-6, mean_abs=4.1e-7, sqnr_db=131.2),),
        samples=64,
        batch_sizes=(1, 2, 64),
        metric="top1",
        pytorch=898 / 901,
        onnx=898 / 901,
        tolerance=1e-4,
        outcome=Outcome.PASS,
    )
