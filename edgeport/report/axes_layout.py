"""Where things go inside a plot: its ranges, round ticks, and labels that do not cover each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["NARROW_PX", "WIDE_PX", "Frame", "round_ticks"]

WIDE_PX, NARROW_PX, _HEIGHT_PX = 980.0, 600.0, 340.0
"""Of the plot's inside, on a wide screen and on a narrow one."""
_CHAR_PX, _LINE_PX = 7.2, 15.0
_MARK_PX = 10.0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The ranges of a plot; x is logarithmic."""

    left: float
    right: float
    bottom: float
    top: float

    @classmethod
    def around(cls, data: Mapping[str, Sequence[Any]], limit: float | None, most: float | None = None) -> Frame:
        """Room for points with intervals (x0, x1, y0, y1), their labels, and a line at `limit`.

        `most` is the largest y that there is, if there is one.
        """
        low, high = min(data["x0"]), max(data["x1"])
        bottom = min([*data["y0"], *([] if limit is None else [limit])])
        top = max(data["y1"])
        room = max(top - bottom, abs(top) * 1e-3, 1e-9)
        spread = max(high / low, 1.5)
        roof = top + 0.22 * room
        if most is not None:
            roof = min(roof, most + 0.08 * room)
        return cls(left=low / spread**0.08, right=high * spread**0.22, bottom=bottom - 0.08 * room, top=roof)

    def label_offsets(self, data: Mapping[str, Sequence[Any]], width_px: float = WIDE_PX) -> dict[str, list[Any]]:
        """For each point, where its label starts: "dx", "dy" in pixels, and "align", in a plot that is so wide.

        Greedy: points from left to right, each label at the first of some places that nothing covers yet.
        """
        points = [self._pixel(x, y, width_px) for x, y in zip(data["x"], data["y"], strict=True)]
        taken = [(x - _MARK_PX, y - _MARK_PX, x + _MARK_PX, y + _MARK_PX) for x, y in points]
        chosen: dict[int, tuple[int, int, str]] = {}
        for index in sorted(range(len(points)), key=lambda i: points[i]):
            width = _CHAR_PX * len(data["label"][index])
            for place in _places():
                box = _box(points[index], place, width)
                others = taken[:index] + taken[index + 1 :]
                if (
                    box[0] > 0
                    and box[2] < width_px
                    and box[3] < _HEIGHT_PX
                    and not any(_overlap(box, other) for other in others)
                ):
                    break
            chosen[index] = place
            taken.append(box)
        ordered = [chosen[index] for index in range(len(points))]
        return {"dx": [p[0] for p in ordered], "dy": [p[1] for p in ordered], "align": [p[2] for p in ordered]}

    def _pixel(self, x: float, y: float, width_px: float) -> tuple[float, float]:
        across = math.log(x / self.left) / math.log(self.right / self.left)
        return across * width_px, (y - self.bottom) / (self.top - self.bottom) * _HEIGHT_PX


def _places() -> list[tuple[int, int, str]]:
    """Offsets to try: beside the mark, then further and further above and below."""
    steps = [6, -22, 24, -40, 42, -58, 60, -76, 78]
    return [(side, dy, "left" if side > 0 else "right") for dy in steps for side in (12, -12)]


def _box(point: tuple[float, float], place: tuple[int, int, str], width: float) -> tuple[float, float, float, float]:
    x, y = point[0] + place[0], point[1] + place[1]
    left = x if place[2] == "left" else x - width
    return left, y, left + width, y + _LINE_PX


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def round_ticks(low: float, high: float, most: int = 9) -> list[float]:
    """1, 2 and 5 times powers of ten within the range; finer steps where these are few, the powers where many."""
    found: list[float] = []
    for steps in ((1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
        if len(found) <= most:
            return [float(f"{tick:.12g}") for tick in found]
    return found[:: -(-len(found) // most)]
