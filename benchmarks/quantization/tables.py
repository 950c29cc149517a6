"""Rows as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import Table
from benchmarks.quantization.rows import AccuracyRow, LatencyRow, TimeRow


def time_table(rows: Sequence[TimeRow]) -> Table:
    """A line per candidate and number of samples; the median of the rounds."""
    lines = []
    for key in dict.fromkeys((row.model, row.name, row.count) for row in rows):
        same = [row for row in rows if (row.model, row.name, row.count) == key]
        ended = sorted((row for row in same if not row.why), key=lambda row: row.seconds)
        last = same[-1]
        took = f"{ended[len(ended) // 2].seconds:.1f}" if ended else f"{last.why} after {last.seconds:.0f} s"
        peak = max(row.peak_bytes for row in same) / 1e6
        lines.append((key[0], key[1], str(key[2]), took, f"{peak:.0f}", f"{last.load:.1f}", last.at))
    columns = ("model", "quantizer", "samples", "seconds", "peak MB", "load before", "measured")
    return Table(title="Time and memory", columns=columns, rows=tuple(lines))


def accuracy_table(rows: Sequence[AccuracyRow]) -> Table:
    """A line per candidate."""
    lines = []
    for row in rows:
        judged = "; ".join(
            f"{name} {one['value']:.4f}, drop {one['low']:.4f}..{one['high']:.4f}" for name, one in row.judged.items()
        )
        sqnr = "" if row.sqnr_db is None else f"{row.sqnr_db:.2f}"
        size = f"{row.size_bytes / 1e6:.2f}" if row.size_bytes else ""
        lines.append((row.model, row.name, sqnr, judged or f"{row.why}: {row.told}", size))
    return Table(title="Accuracy", columns=("model", "candidate", "SQNR dB", "metric", "MB"), rows=tuple(lines))


def latency_table(rows: Sequence[LatencyRow]) -> Table:
    """A line per candidate, and how many times as fast ours with default settings is on the same runtime."""
    lines = []
    for row in rows:
        for name, median in sorted(row.medians_us.items(), key=lambda item: item[1]):
            ours = [
                one
                for one in row.speedups
                if row.runtimes[one] == row.runtimes[name] and row.kinds[one] == "ours" and name in row.speedups[one]
            ]
            against = row.speedups[ours[0]][name] if ours else None
            told = f"{against[1]:.2f} ({against[0]:.2f}..{against[2]:.2f})" if against else ""
            processes = row.final_rounds if name in row.finalists else row.rounds
            lines.append((row.model, name, str(processes), f"{median:.1f}", told))
    columns = ("model", "candidate", "processes", "median us", "Edgeport's int8 is so many times as fast")
    return Table(title="Latency", columns=columns, rows=tuple(lines))
