"""Where a training runs: this process alone, or several that share each batch.

Several are started and tied together by Lightning Fabric (extra `train`): one process per GPU, or on the CPU with gloo;
gradients are averaged by DistributedDataParallel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from edgeport.errors import DependencyError, UsageError

__all__ = ["DistributedContext", "launch", "this_process"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DistributedContext:
    """What one process of a training has.

    Attributes:
        device: That it computes on.
        rank: Its number, from 0.
        processes: How many there are.
        fabric: Of Lightning; None for a process alone.

    """

    device: torch.device
    rank: int = 0
    processes: int = 1
    fabric: Any = None

    def place(self, module: torch.nn.Module, *, learns: bool) -> torch.nn.Module:
        """The module as it is to be called here; `module` itself is moved to the device."""
        module.to(self.device)
        if self.fabric is None or not learns:
            return module
        placed: torch.nn.Module = self.fabric.setup_module(module, move_to_device=False)
        return placed

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        """The context of a forward pass in "fp32", "bf16" or "fp16"."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients, averaged over the processes."""
        if self.fabric is None:
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        else:
            self.fabric.backward(loss)

    def gather(self, values: Mapping[str, torch.Tensor]) -> list[Mapping[str, torch.Tensor]]:
        """The tensors of each process, of the same shapes in all of them, in the order of their ranks."""
        if self.fabric is None:
            return [values]
        joined = {name: self.fabric.all_gather(value.to(self.device)).cpu() for name, value in values.items()}
        return [{name: each[rank] for name, each in joined.items()} for rank in range(self.processes)]

    def from_first(self, values: T) -> T:
        """What the first process has."""
        if self.fabric is None:
            return values
        found: T = self.fabric.broadcast(values)
        return found

    def wait(self) -> None:
        """Until every process is here."""
        if self.fabric is not None:
            self.fabric.barrier()


def this_process(device: str = "cpu") -> DistributedContext:
    """Alone, on "cpu", "cuda" or "auto" (a GPU where there is one).

    Raises:
        UsageError: No such device here.

    """
    here = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if here else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not here):
        raise UsageError(
            asked=f"train on {device!r}",
            found="no GPU that PyTorch can use" if device == "cuda" else "no such device",
            fix="take cpu, or auto",
        )
    return DistributedContext(device=torch.device(device))


def launch(work: Callable[[DistributedContext], None], *, processes: int, device: str = "auto") -> None:
    """Does `work` once in each of several new processes, each of which gets its own `DistributedContext`.

    Args:
        work: A function that other processes can import, or a `functools.partial` of one with plain arguments.
        processes: One per GPU; on the CPU any number.
        device: As in `this_process`.

    Raises:
        UsageError: No such device, or fewer GPUs than processes.
        DependencyError: Lightning Fabric is not installed.

    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise DependencyError(
            asked=f"train in {processes} processes",
            found=f"no Lightning Fabric ({error})",
            fix='install it: pip install "edgeport[train]"',
            details={"extra": "train"},
        ) from error
    kind = this_process(device).device.type
    _require_gpus(kind, processes)
    # A head that no loss looks at has no gradients: alone it stays as it is, and so it must here.
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True)
    fabric = Fabric(accelerator=kind, devices=processes, strategy=strategy, precision="32-true")
    fabric.launch(partial(_in_process, work))


def _require_gpus(kind: str, processes: int) -> None:
    if kind == "cuda" and processes > torch.cuda.device_count():
        raise UsageError(
            asked=f"train in {processes} processes, one per GPU",
            found=f"GPUs that PyTorch can use: {torch.cuda.device_count()}",
            fix="take fewer processes, or the CPU",
        )


def _in_process(work: Callable[[DistributedContext], None], fabric: Any) -> None:
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // fabric.world_size))
    work(DistributedContext(device=fabric.device, rank=fabric.global_rank, processes=fabric.world_size, fabric=fabric))
