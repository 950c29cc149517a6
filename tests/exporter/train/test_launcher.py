"""What a child's training says from several processes: its result, its progress, its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeport.contracts import OnProgress, ProgressEvent
from edgeport.errors import TrainingError, UsageError
from edgeport.exporter.train.distributed import DistributedContext
from edgeport.exporter.train.launcher import in_processes

pytestmark = pytest.mark.slow  # each process imports PyTorch and Fabric


def tell(payload: Mapping[str, Any], hardware: DistributedContext, on_progress: OnProgress) -> dict[str, Any]:
    import torch

    for step in range(3):
        on_progress(ProgressEvent(stage="train", message=f"rank {hardware.rank}", done=step, total=3))
    (ranks,) = {len(hardware.gather({"rank": torch.tensor([hardware.rank])}))}
    if "file" in payload:
        Path(payload["file"]).read_bytes()
    return {"asked": payload["asked"], "rank": hardware.rank, "ranks": ranks, "threads": torch.get_num_threads()}


def fail(payload: Mapping[str, Any], hardware: DistributedContext, on_progress: OnProgress) -> dict[str, Any]:
    del on_progress
    if hardware.rank == payload["rank"]:
        if payload.get("ours", True):
            raise TrainingError(asked="train", found=f"a fault of rank {hardware.rank}", fix="mend it")
        raise ValueError("a fault of the user's")
    hardware.wait()
    return {}


def die(payload: Mapping[str, Any], hardware: DistributedContext, on_progress: OnProgress) -> dict[str, Any]:
    del payload, on_progress
    if hardware.rank == 1:
        os._exit(3)
    hardware.wait()
    return {}


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_process_speaks(processes: int) -> None:
    if processes > 1:
        pytest.importorskip("lightning_fabric")
    told: list[ProgressEvent] = []

    found = in_processes(tell, {"asked": [1, 2]}, processes=processes, device="cpu", on_progress=told.append)

    assert (found["asked"], found["rank"], found["ranks"]) == ([1, 2], 0, processes)
    assert [(event.message, event.done) for event in told] == [("rank 0", step) for step in range(3)]


def test_what_is_read_there_is_told_here(tmp_path: Path) -> None:
    """As a recording of what a result in the store rests on wants it."""
    pytest.importorskip("lightning_fabric")
    (tmp_path / "classes.txt").write_text("a", encoding="utf-8")
    payload, seen, listening = {"asked": [], "file": str(tmp_path / "classes.txt")}, set[str](), True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event == "open":
            seen.add(str(arguments[0]))

    sys.addaudithook(hook)  # stays for as long as this process
    in_processes(tell, payload, processes=2, device="cpu", on_progress=lambda _: None)
    listening = False

    assert payload["file"] in seen


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_any_process_is_the_error(rank: int) -> None:
    pytest.importorskip("lightning_fabric")
    with pytest.raises(TrainingError, match=f"a fault of rank {rank}"):
        in_processes(fail, {"rank": rank}, processes=2, device="cpu", on_progress=lambda _: None)


def test_what_a_users_function_raises_is_told_in_a_line() -> None:
    pytest.importorskip("lightning_fabric")
    with pytest.raises(RuntimeError) as caught:
        in_processes(fail, {"rank": 1, "ours": False}, processes=2, device="cpu", on_progress=lambda _: None)
    assert str(caught.value) == "in a process of the training, ValueError: a fault of the user's"
    assert 'raise ValueError("a fault of the user\'s")' in "".join(caught.value.__notes__)


def chatter(payload: Mapping[str, Any], hardware: DistributedContext, on_progress: OnProgress) -> dict[str, Any]:
    del payload
    for step in range(2000):  # more than a pipe holds
        on_progress(ProgressEvent(stage="train", message="x" * 200, done=step, total=2000))
    hardware.wait()
    return {}


def test_who_can_not_hear_the_progress_ends_the_training() -> None:
    pytest.importorskip("lightning_fabric")

    def full(event: ProgressEvent) -> None:
        raise OSError(f"no space left for {event.done}")

    with pytest.raises(OSError, match="no space left for 0"):
        in_processes(chatter, {}, processes=2, device="cpu", on_progress=full)


def test_a_process_that_dies_ends_the_others() -> None:
    pytest.importorskip("lightning_fabric")
    with pytest.raises(Exception, match="exit code 3"):
        in_processes(die, {}, processes=2, device="cpu", on_progress=lambda _: None)


def test_a_gpu_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    pytest.importorskip("lightning_fabric")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="can use: 1"):
        in_processes(tell, {}, processes=2, device="cuda", on_progress=lambda _: None)
