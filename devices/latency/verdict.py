"""A latency quantile against a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import Interval, Measurement, Outcome
from edgeport.devices.latency.autocorrelation import correlation_time
from edgeport.devices.latency.quantiles import estimate_quantile
from edgeport.devices.latency.steady_portion import steady_latencies
from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of

__all__ = ["BudgetVerdict", "alpha_at", "judge_budget"]

_FASTEST = 0.05


@dataclass(frozen=True, kw_only=True)
class BudgetVerdict:
    """A verdict and what it rests on.

    Attributes:
        outcome: PASS, FAIL, INCONCLUSIVE or INVALID.
        q, limit_ns: What was asked.
        over: Calls (readings) over the limit.
        calls, effective_calls: How many there were, and as many independent ones would say as much.
        chance: Probability of so few calls over the limit, were the quantile just at the limit.
        alpha: What this look may spend of the error.
        interval_ns: Of the quantile, at this look's confidence; None where it was refused.
        reason: In a sentence.

    """

    outcome: Outcome
    q: float
    limit_ns: float
    over: int
    calls: int
    effective_calls: float
    chance: float
    alpha: float
    interval_ns: Interval | None
    reason: str


def alpha_at(look: int, alpha: float = 0.05) -> float:
    """What look j = 1, 2, ... may spend; over all looks it sums to alpha, so one may look as often as one likes."""
    return alpha / (look * (look + 1))


def judge_budget(
    measurement: Measurement, *, q: float, limit_ns: float, look: int = 1, alpha: float = 0.05
) -> BudgetVerdict:
    """Whether the quantile q keeps to the limit.

    PASS where so few calls over the limit would hardly be seen, were the quantile just at the limit (the binomial test
    of MLPerf's early stopping, with n_eff independent calls), and where the interval lies under the limit too, which
    counts how processes differ. FAIL where the whole interval lies above; on a disturbed machine only where even the
    fastest calls of every process do. Else INCONCLUSIVE: measure more, and look
    again with `look` one higher.

    Args:
        measurement: All traces so far.
        q: 0..1.
        limit_ns: Nanoseconds per call.
        look: 1 for the first look at this measurement, 2 for the next.
        alpha: Chance of a false PASS over all looks.

    """
    from scipy.special import bdtr

    share = alpha_at(look, alpha)
    series = steady_latencies(measurement)
    pooled = np.concatenate([np.empty(0), *series])
    effective = len(pooled) / correlation_time(series, q)
    over = int(np.count_nonzero(pooled > limit_ns))
    trials = int(effective)
    chance = float(bdtr(math.ceil(over * effective / max(len(pooled), 1)), trials, 1 - q)) if trials else 1.0
    coarsest = max((trace.calls_per_reading for trace in measurement.traces), default=1)
    # One-sided at `share`: a two-sided interval with `share` in each tail.
    quantile = estimate_quantile(series, q, calls_per_reading=coarsest, confidence=1 - 2 * share)
    interval = quantile.interval_ns
    flags = measurement_flags(measurement)
    outcome = outcome_of(flags)
    forcing = ", ".join(flag for flag in flags if outcome_of([flag]) is outcome)
    if outcome is Outcome.INVALID:
        reason = f"flags forbid its use: {forcing}"
    elif outcome is Outcome.INCONCLUSIVE and _hopeless(series, limit_ns):
        # What disturbs a machine makes calls slower, never faster.
        outcome, reason = Outcome.FAIL, f"even the fastest calls of every process are over {limit_ns / 1e6:.4g} ms"
    elif outcome is Outcome.INCONCLUSIVE:
        reason = f"flags leave it open: {forcing}"
    elif interval is None:
        outcome, reason = Outcome.INCONCLUSIVE, quantile.refused
    else:
        outcome, reason = _judge(interval, limit_ns, few_over=chance <= share)
    return BudgetVerdict(
        outcome=outcome,
        q=q,
        limit_ns=limit_ns,
        over=over,
        calls=len(pooled),
        effective_calls=effective,
        chance=chance,
        alpha=share,
        interval_ns=interval,
        reason=reason,
    )


def _hopeless(series: Sequence[NDArray[np.float64]], limit_ns: float) -> bool:
    """The fastest twentieth of the calls of each process is over the limit, however busy the machine was."""
    return bool(series) and all(len(values) and float(np.quantile(values, _FASTEST)) > limit_ns for values in series)


def _judge(interval: Interval, limit_ns: float, *, few_over: bool) -> tuple[Outcome, str]:
    shown = f"{interval.low / 1e6:.4g} to {interval.high / 1e6:.4g} ms against {limit_ns / 1e6:.4g} ms"
    if interval.low > limit_ns:
        return Outcome.FAIL, f"all of the interval is over the limit: {shown}"
    if few_over and interval.high <= limit_ns:
        return Outcome.PASS, f"all of the interval is within the limit: {shown}"
    return Outcome.INCONCLUSIVE, f"the limit is within the interval, or too few calls are counted: {shown}"
