"""Synthetic measurements whose truth is known: what the method is tested on."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import Measurement, ProcessTrace, TelemetrySample, TimerFacts

__all__ = ["SyntheticSession", "simulate"]

Floats = NDArray[np.float64]

_TIMER = TimerFacts(clock="synthetic", resolution_ns=1, overhead_ns=0)


@dataclass(frozen=True, kw_only=True)
class SyntheticSession:
    """A session that is nothing but its noise. Latency is log-normal; all effects are factors.

    Attributes:
        median_ns: Of one call, without effects.
        sigma: Standard deviation of the log latency within a process.
        rho: Correlation of neighbouring calls, AR(1), 0..1.
        process_sd: Standard deviation of the log factor by which a process differs.
        drift: Log factor that grows linearly over each process, from 0 at its start.
        step: Log factor from `step_at` (part of the process, 0..1) on: throttling.
        spike_rate, spike_factor: Part of the calls that take this many times longer.
        warmup: Log factor of the first call, which decays over `warmup_calls` calls.

    """

    median_ns: float = 1e6
    sigma: float = 0.03
    rho: float = 0.0
    process_sd: float = 0.0
    drift: float = 0.0
    step: float = 0.0
    step_at: float = 0.5
    spike_rate: float = 0.0
    spike_factor: float = 5.0
    warmup: float = 0.0
    warmup_calls: int = 20

    def quantile_ns(self, q: float) -> float:
        """The true quantile of a typical process, without drift, step, warm-up and spikes."""
        return self.median_ns * math.exp(self.sigma * NormalDist().inv_cdf(q))


def simulate(
    session: SyntheticSession,
    *,
    processes: int = 10,
    calls: int = 300,
    seed: int = 0,
    round_effects: Iterable[float] = (),
    apart: Collection[int] = (),
) -> Measurement:
    """One measurement of a synthetic session.

    Args:
        session: What is measured.
        processes: Fresh processes, one per round.
        calls: Timed calls of each.
        seed: Of the noise; another seed is another experiment.
        round_effects: Log factor of each round, felt by the canary as by the calls: a neighbour.
        apart: Rounds in which the host had the processors apart: calls take 1.6 times as long, exchanges 2.5 times.

    """
    generator = np.random.default_rng(seed)
    effects = np.fromiter(round_effects, dtype=np.float64)
    effects = np.concatenate([effects, np.zeros(processes - len(effects))])
    logs = math.log(session.median_ns) + _noise(session, processes, calls, generator)
    logs += session.process_sd * generator.standard_normal((processes, 1)) + effects[:, None] + _shape(session, calls)
    latency = np.exp(logs)
    latency[generator.random(latency.shape) < session.spike_rate] *= session.spike_factor
    canary = 1e6 * np.exp(effects) * (1 + 0.01 * generator.standard_normal(processes))
    exchange = np.full(processes, 1e4)
    for index in apart:
        latency[index] *= 1.6
        exchange[index] *= 2.5
    traces = tuple(_trace(index, latency[index], canary[index], exchange[index]) for index in range(processes))
    return Measurement(artifact_digest="synthetic", device="synthetic", seed=seed, traces=traces)


def _noise(session: SyntheticSession, processes: int, calls: int, generator: np.random.Generator) -> Floats:
    """AR(1) noise, stationary from the first call, float64 [processes, calls]."""
    noise = generator.standard_normal((processes, calls))
    fresh = math.sqrt(1 - session.rho**2)
    if session.rho:
        for index in range(1, calls):
            noise[:, index] = session.rho * noise[:, index - 1] + fresh * noise[:, index]
    return session.sigma * noise


def _shape(session: SyntheticSession, calls: int) -> Floats:
    """What happens over the course of a process, float64 [calls]."""
    time = np.arange(calls) / calls
    decay = np.exp(-np.arange(calls) / max(1, session.warmup_calls))
    return session.drift * time + session.step * (time >= session.step_at) + session.warmup * decay


def _trace(index: int, latency_ns: Floats, canary_ns: float, exchange_ns: float) -> ProcessTrace:
    canary = TelemetrySample(at_ns=0, values={"canary_ns": float(canary_ns), "exchange_ns": float(exchange_ns)})
    return ProcessTrace(
        artifact_digest="synthetic",
        round=index,
        position=0,
        load_ns=1_000_000,
        first_inference_ns=int(latency_ns[0]),
        warmup_ns=(),
        latency_ns=tuple(latency_ns.astype(np.int64).tolist()),
        timer=_TIMER,
        telemetry=(canary, canary),
    )
