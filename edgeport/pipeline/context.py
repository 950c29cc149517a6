"""What every step of a run needs at hand."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import psutil

from edgeport.contracts import Device, DeviceFacts, Limits, OnProgress, silent
from edgeport.contracts.recipe import Recipe, Search
from edgeport.errors import UsageError
from edgeport.pipeline.clock import Clock
from edgeport.pipeline.scratch import scratch_folder
from edgeport.store import Store

__all__ = ["RunContext", "process_s", "run_context", "side_by_side", "tool_versions"]

_TOOLS = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "ultralytics",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
)

_START_S = 0.9
"""Starting a process and loading a runtime."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """One run's settings and services.

    Attributes:
        recipe: What was asked.
        store: Where finished steps are kept.
        device: Where artifacts run.
        facts: Of the device.
        clock: Progress and time left.
        scratch: A folder for files that nobody needs after the run.
        limits: Of each child process.

    """

    recipe: Recipe
    store: Store
    device: Device
    facts: DeviceFacts
    clock: Clock
    scratch: Path
    limits: Limits


@contextmanager
def run_context(
    recipe: Recipe,
    *,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
    device: str = "local",
) -> Iterator[RunContext]:
    """What a run needs, with a scratch folder that is removed in the end; arguments as in `run`.

    Raises:
        UsageError: There is no such device, or its processor is not of this machine's architecture.
        DeviceError: It can't be reached.

    """
    from edgeport.devices.opening import open_device

    with scratch_folder(Store(store).root) as scratch, open_device(device, scratch / "device") as opened:
        _require_alike(opened.facts())
        yield RunContext(
            recipe=recipe,
            store=Store(store, fresh=fresh),
            device=opened,
            facts=opened.facts(),
            clock=Clock(on_progress),
            scratch=scratch,
            limits=limits or recipe.search.limits,
        )


def _require_alike(facts: DeviceFacts) -> None:
    """Plans are made by the rules of this machine's processor; those of another one would be slow or wrong there."""
    if facts.machine != platform.machine():
        raise UsageError(
            asked=f"find the best artifact for {facts.name}",
            found=f"that it is {facts.machine}, and that plans are made for this machine, {platform.machine()}",
            fix=f"run it on a machine of that kind; edgeport bench --device {facts.name} times what it is given",
        )


def process_s(search: Search) -> float:
    """Seconds that one measured process may take, for a guess of the time that many take."""
    return _START_S + search.warmup_s + search.duration_s


@lru_cache(maxsize=1)
def tool_versions() -> dict[str, str]:
    """Versions of the packages that exporting, verifying and calibrating rest on; part of those steps' keys."""
    found: dict[str, str] = {}
    for name in _TOOLS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def side_by_side(
    work: Callable[[T], R], items: Sequence[T], on_done: Callable[[int], None], *, at_once: int | None = None
) -> list[R]:
    """Does `work` on every item, several at once, each of which spends its time in a child process.

    Results come in the order of the items. Nothing is timed here, so that items may share the machine.
    """
    workers = at_once or max(1, min(len(items), psutil.cpu_count(logical=False) or 1))
    done = 0
    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                future.result()
                done += 1
                on_done(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
