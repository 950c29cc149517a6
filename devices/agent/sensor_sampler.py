"""Reads a board's programs while calls are timed, from a processor that is not measured; not at all where none is free.

`python agent.pyz watch` does the reading: one line of JSON per look, until its stdin ends with the process that started
it.
"""

from __future__ import annotations

import bisect
import json
import os
import select
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from typing import Any, Iterator

from edgeport.devices.agent.board_sensors import Programs
from edgeport.devices.agent.clock import now_ns
from edgeport.devices.agent.telemetry import processors

_INTERVAL_S = 1.0
_END_S = 2.0


def main() -> int:
    """Looks once a second, and says what the programs said and when."""
    programs = Programs()
    while True:
        began = now_ns()
        values = programs.read()
        sys.stdout.write(json.dumps({"at_ns": now_ns(), "values": values}) + "\n")
        sys.stdout.flush()
        left = max(0.0, _INTERVAL_S - (now_ns() - began) / 1e9)
        if select.select([0], [], [], left)[0]:
            return 0


@contextmanager
def watching(programs: Programs, job: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Gives a list that holds the looks in the end; this process keeps off the processor that they are taken from.

    Empty where this device has no such program, or no processor is free.
    """
    looks: list[dict[str, Any]] = []
    free = free_processor(job) if programs.names and _archive() else None
    if free is None:
        yield looks
        return
    before = processors()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, _archive(), "watch"], stdin=subprocess.PIPE, stdout=said, stderr=subprocess.DEVNULL
        )
        try:
            os.sched_setaffinity(process.pid, {free})
            os.sched_setaffinity(0, set(before) - {free} or set(before))
            yield looks
        finally:
            os.sched_setaffinity(0, set(before))
            _end(process)
            said.seek(0)
            looks.extend(_read(said.read()))


def free_processor(job: dict[str, Any]) -> int | None:
    """One that calls of this job leave alone: they have processors or a number of threads of their own, and not all."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    settings, allowed = job["settings"], processors()
    named = {int(one) for one in settings.get("affinity") or ()}
    threads = int(settings.get("threads") or 0) * int(job.get("streams") or 1)
    left = [one for one in allowed if one not in named]
    if (named and left) or (not named and 0 < threads < len(allowed)):
        return left[-1]
    return None


def with_looks(samples: list[dict[str, Any]], looks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples, each with the looks since the one before it.

    Bits are joined; of temperatures and statuses the highest counts, of anything else the last.
    """
    ends = [sample["at_ns"] for sample in samples]
    joined = [dict(sample["values"]) for sample in samples]
    for look in looks:
        index = bisect.bisect_left(ends, look["at_ns"])
        if 0 < index < len(joined):
            _join(joined[index], look["values"])
    return [{**sample, "values": values} for sample, values in zip(samples, joined)]


def _join(into: dict[str, float], values: dict[str, float]) -> None:
    for name, value in values.items():
        if name not in into:
            into[name] = value
        elif name.endswith("_bits"):
            into[name] = float(int(into[name]) | int(value))
        elif name.endswith(("_millicelsius", "_status")):
            into[name] = max(into[name], value)
        else:
            into[name] = value


def _archive() -> str:
    """The agent that runs; empty where it is no archive, as in a test."""
    return sys.argv[0] if zipfile.is_zipfile(sys.argv[0]) else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read(said: bytes) -> list[dict[str, Any]]:
    found = []
    for line in said.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # noqa: PERF203 (the last line of one that had to be killed)
            continue
    return found
