"""A fixed piece of work that takes longer when somebody else uses the machine."""

from __future__ import annotations

import numpy as np

from edgeport.devices.agent.clock import now_ns

_REPEATS = 7
_ELEMENTS = 32_768  # 128 KiB of float32: fits the second-level cache of every CPU this runs on
_PASSES = 20


def canary_ns() -> int:
    """Median time of the fixed work: element-wise float32 arithmetic on one core, about a millisecond in all."""
    values = np.linspace(0.0, 1.0, _ELEMENTS, dtype=np.float32)
    result = np.empty_like(values)
    times = []
    for _ in range(_REPEATS):
        before = now_ns()
        for _ in range(_PASSES):
            np.multiply(values, values, out=result)
            np.add(result, values, out=result)
        times.append(now_ns() - before)
    return sorted(times)[_REPEATS // 2]
