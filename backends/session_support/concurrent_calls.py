"""Several calls at once, their results in order.

Ships to devices within `session.py`: Python 3.8 syntax, standard library and numpy only.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, Iterator  # noqa: UP035 (Python 3.8 can't subscript those of collections.abc)

__all__ = ["map_ahead"]


def map_ahead(workers: int, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """The function's results in the order of the items; the workers go on while the caller looks at one."""
    with ThreadPoolExecutor(workers) as pool:
        inside: list[Any] = []
        for item in items:
            inside.append(pool.submit(function, item))
            if len(inside) > 2 * workers:
                yield inside.pop(0).result()
        while inside:
            yield inside.pop(0).result()
