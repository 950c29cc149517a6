"""Two processes on the CPU, tied together by gloo, share each batch and end with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgeport.exporter.train import StepContext, TrainedModule, TrainingSettings
from edgeport.exporter.train.distributed import DistributedContext, launch, this_process
from edgeport.exporter.train.loop import CHECKPOINT, fit
from edgeport.exporter.train.sampler import ArrayBatches

SETTINGS = TrainingSettings(epochs=2, batch_size=8, checkpoint_every=2, monitor="error", larger_is_better=False)


class Slope:
    """y = 2 x by one weight; nothing is drawn, so that shares of a batch give the gradient of the whole.

    Another layer takes no part, as a head that no loss looks at.
    """

    def __init__(self) -> None:
        import torch

        self.net = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(self.net.weight, 0.5)
        torch.nn.init.constant_(self.net.bias, 0.1)
        self.net.add_module("spare", torch.nn.Linear(1, 1))

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        import torch

        return {
            "net": TrainedModule(
                module=self.net, optimizer=torch.optim.SGD(self.net.parameters(), lr=0.3, momentum=0.5)
            )
        }

    def step(self, batch: Mapping[str, object], context: StepContext) -> Mapping[str, object]:
        from torch.nn.functional import mse_loss

        loss = mse_loss(context.module("net")(batch["x"]), batch["y"])
        context.update("net", loss)
        return {"loss": loss.detach()}

    def evaluate(self, modules: Mapping[str, object]) -> Mapping[str, float]:
        return {"error": abs(modules["net"].weight.item() - 2.0)}


def train(folder: str, hardware: DistributedContext) -> None:
    x = np.linspace(-1, 1, 24, dtype=np.float32)[:, None]
    task = Slope()
    fit(task, ArrayBatches({"x": x, "y": 2 * x}), SETTINGS, Path(folder), hardware=hardware)
    Path(folder, f"rank{hardware.rank}.txt").write_text(repr(task.net.weight.item()), encoding="utf-8")


@pytest.mark.slow  # each process imports PyTorch and Fabric
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    train(str(tmp_path / "one"), this_process())

    launch(partial(train, str(tmp_path / "two")), processes=2, device="cpu")

    alone, first, second = (
        float((tmp_path / name).read_text()) for name in ("one/rank0.txt", "two/rank0.txt", "two/rank1.txt")
    )
    assert first == second
    assert first == pytest.approx(alone, rel=1e-6)
    assert (tmp_path / "two" / CHECKPOINT).is_file()
