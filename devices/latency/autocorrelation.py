"""How much the calls of a process repeat each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["correlation_time"]

_STOP = 0.05


def correlation_time(series: Sequence[NDArray[np.float64]], q: float) -> float:
    """tau: n calls say as much about the quantile q as n / tau independent calls.

    Of the indicator [x <= x_q], within each process about that process's own quantile (differences between processes
    are the business of the between-process interval); autocovariances are pooled over processes. tau = 1 + 2 sum rho_k,
    up to the first rho_k <= 0.05.

    Args:
        series: Latencies of each process in order of time, float64 [calls].
        q: 0..1.

    """
    longest = max((len(values) for values in series), default=0)
    covariances = np.zeros(max(longest, 1))
    for values in series:
        if len(values) > 1:
            indicator = (values <= np.quantile(values, q)).astype(np.float64)
            own = _autocovariance_sums(indicator - indicator.mean())
            covariances[: len(own)] += own
    if covariances[0] <= 0:
        return 1.0
    correlations = covariances[1:] / covariances[0]
    small = np.flatnonzero(correlations <= _STOP)
    stop = int(small[0]) if len(small) else len(correlations)
    return float(1.0 + 2.0 * correlations[:stop].sum())


def _autocovariance_sums(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of x_i x_{i+k} for k = 0..n-1, by the Fourier transform."""
    count = len(centred)
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    sums: NDArray[np.float64] = np.fft.irfft(spectrum * np.conj(spectrum), size)[:count]
    return sums
