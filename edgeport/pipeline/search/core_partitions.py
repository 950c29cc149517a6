"""Ways to share a device's processors among models, and what solo measurements say of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeport.contracts import ExecutionConfig, TaskParallel

__all__ = ["Share", "as_executions", "fastest_first", "promising", "shares", "turned"]

_MOST = 64
"""Ways that are looked at; a device of many processors has more, but they hardly differ."""
_GIVES_WAY = 10


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one model gets.

    Attributes:
        cores: Its processors; others may have them too.
        priority: See `ExecutionConfig`.

    """

    cores: tuple[int, ...]
    priority: int = 0


def fastest_first(cores: Sequence[int], system: Path = Path("/sys/devices/system/cpu")) -> tuple[int, ...]:
    """The processors by what Linux tells of their speed, equal ones in their order.

    Args:
        cores: Their numbers.
        system: Has `cpu0/cpu_capacity` (work per time against the device's fastest, where kinds differ) or
            `cpu0/cpufreq/cpuinfo_max_freq`.

    """

    def speed(core: int) -> int:
        for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
            try:
                return int((system / f"cpu{core}" / name).read_text(encoding="ascii"))
            except (OSError, ValueError):
                continue
        return 0

    return tuple(sorted(cores, key=lambda core: -speed(core)))


def shares(names: Sequence[str], cores: Sequence[int]) -> Iterator[Mapping[str, Share]]:
    """Each way, by name of the model: first processors of their own, then all on all of them, by priority.

    Args:
        names: The models; the first is the one whose budget is the hardest to keep.
        cores: Processors that there are, the fastest first.

    """
    count, number = len(cores), len(names)
    if number <= count:
        parts = (cut for cut in itertools.product(range(1, count - number + 2), repeat=number) if sum(cut) == count)
        for cut in itertools.islice(parts, _MOST):
            ends = list(itertools.accumulate(cut))
            yield {
                name: Share(cores=tuple(cores[end - size : end]))
                for name, size, end in zip(names, cut, ends, strict=True)
            }
    elif count > 1:
        # One processor each, the hardest alone as long as there are any; the others share, the harder ones first.
        alone = count - 1
        own = {name: Share(cores=(cores[index],)) for index, name in enumerate(names[:alone])}
        rest = {
            name: Share(cores=tuple(cores[alone:]), priority=min(19, _GIVES_WAY * index))
            for index, name in enumerate(names[alone:])
        }
        yield own | rest
    yield {name: Share(cores=tuple(cores)) for name in names}
    for first in names:
        yield {name: Share(cores=tuple(cores), priority=0 if name == first else _GIVES_WAY) for name in names}


def turned(way: Mapping[str, Share], cores: Sequence[int]) -> Mapping[str, Share]:
    """The same shares, counted from the other end of the processors: some have more of the system's own work to do."""
    other = dict(zip(cores, reversed(cores), strict=True))
    return {
        name: replace(share, cores=tuple(core for core in cores if other[core] in share.cores))
        for name, share in way.items()
    }


def promising(
    ways: Iterable[Mapping[str, Share]], alone: Mapping[str, Mapping[int, float]]
) -> list[Mapping[str, Share]]:
    """The ways in which no model is over its budget even alone, the one with most room first.

    Args:
        ways: Of `shares`.
        alone: Model and number of processors to its quantile over its limit, when nothing else runs.

    """
    rated = [(max(alone[name][len(one.cores)] for name, one in way.items()), way) for way in ways]
    return [way for room, way in sorted(rated, key=lambda pair: pair[0]) if room <= 1.0]


def as_executions(way: Mapping[str, Share]) -> TaskParallel:
    """As settings: a thread per processor, which is kept to them."""
    return TaskParallel(
        residents={
            name: ExecutionConfig(threads=len(one.cores), affinity=one.cores, priority=one.priority)
            for name, one in way.items()
        }
    )
