"""A latency against the time that the device needs at its best; Williams, Waterman and Patterson, CACM 52 (2009)."""

from __future__ import annotations

from edgeport.contracts import Roof, Roofline, Work

__all__ = ["roofline", "roofline_flags"]

_IMPOSSIBLE = 2.5
"""Winograd's convolutions need 2.25 times fewer multiplications, and a measured peak is noisy; nothing honest explains
more: calls that were not waited for, or work that was left out."""

_OVERHEAD = 0.05


def roofline(median_ns: float, work: Work, roof: Roof) -> Roofline:
    """The least time of a call, and how near the measured median comes to it.

    Args:
        median_ns: Of one call.
        work: Of one call.
        roof: Measured on the same device, in the same precision, with as many threads.

    """
    compute_ns = 1e9 * work.operations / roof.operations_per_s
    memory_ns = 1e9 * work.bytes / roof.bytes_per_s
    least_ns = max(compute_ns, memory_ns)
    bound = "compute" if compute_ns >= memory_ns else "memory"
    return Roofline(least_ns=least_ns, bound=bound, share=least_ns / median_ns, work=work, roof=roof)


def roofline_flags(found: Roofline) -> list[str]:
    """ "too-fast" (no number to be used), "near-peak" or "overhead-bound"; none in between."""  # noqa: D210 (a flag)
    if found.share > _IMPOSSIBLE:
        return ["too-fast"]
    if found.share > 1.0:
        return ["near-peak"]
    return ["overhead-bound"] if found.share < _OVERHEAD else []
