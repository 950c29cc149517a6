"""Two processes on the CPU, tied together by gloo, distil what one does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.distributed import DistributedContext, launch, this_process

BOUND = 1e-5
"""Of each weight, over the largest one of its tensor: float32 sums in another order, over a dozen steps."""


def train(folder: str, hardware: DistributedContext) -> None:
    import torch

    from edgeport.exporter.distill.distilling import distill
    from edgeport.exporter.distill.losses.feature import Attention, Hints
    from edgeport.exporter.distill.losses.regularizers import ConfidencePenalty
    from edgeport.exporter.distill.losses.response import SoftTargets
    from edgeport.exporter.distill.losses.task import CrossEntropy
    from edgeport.exporter.distill.objective import Objective, Tap
    from edgeport.exporter.distill.options import DistillOptions
    from edgeport.exporter.distill.teacher_student import Network
    from edgeport.exporter.train.samples import LearningSamples

    def net(width: int, seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, width, 3, 2), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(9 * width, 3)
        )

    student, teacher = net(2, 0), net(6, 1)
    images = np.random.default_rng(0).standard_normal((100, 1, 8, 8)).astype(np.float32)
    labels = np.arange(100) % 3
    taps = (Tap(student="1", teacher="1"),)
    objective = Objective(
        L=(CrossEntropy(weight=0.5), SoftTargets(), Hints(taps=taps, relative=False), Attention(taps=taps)),
        R=(ConfidencePenalty(),),
        lambda_=0.1,
    )
    options = DistillOptions(
        training=TrainingSettings(epochs=2, batch_size=12, seed=1, monitor="loss"), rate=0.05, optimizer="sgd"
    )
    distill(
        Network(module=student),
        Network(module=teacher),
        LearningSamples(feeds={"image": images}, labels=labels),
        objective,
        folder=Path(folder) / "training",
        options=options,
        hardware=hardware,
    )
    torch.save(student.state_dict(), Path(folder) / f"rank{hardware.rank}.pt")


@pytest.mark.slow  # each process imports PyTorch and Fabric
def test_two_processes_distil_what_one_does(tmp_path: Path) -> None:
    import torch

    pytest.importorskip("lightning_fabric")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    train(str(tmp_path / "one"), this_process())

    launch(partial(train, str(tmp_path / "two")), processes=2, device="cpu")

    alone, first, second = (
        torch.load(tmp_path / name, weights_only=True) for name in ("one/rank0.pt", "two/rank0.pt", "two/rank1.pt")
    )
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        assert float((first[name] - value).abs().max() / value.abs().max()) < BOUND
