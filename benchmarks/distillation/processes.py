"""Two processes that share each batch, tied together by gloo, distil what one process distils from the whole batch.

WideResNet-40-2 teaches a small network of convolutions by soft targets and attention maps. The student has no
BatchNorm layers: each process would take their statistics over its own share of a batch, which is another training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.distillation.wide import teacher
from benchmarks.harness import Arguments, Check, PartResult, Table, at_least, at_most, cifar, kept_by_key
from benchmarks.harness.training import seeded
from edgeport.exporter.distill.distilling import distill
from edgeport.exporter.distill.loss_factory import make_objective
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.distill.teacher_student import Network
from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.distributed import DistributedContext, launch, this_process
from edgeport.exporter.train.samples import LearningSamples

BOUND = 1e-5
"""Of each weight, over the largest one of its tensor: float32 sums in another order, over some dozen steps."""

PROCESSES = 2
_TERMS = ("0.5 cross-entropy", "0.5 soft-targets:1", "10 attention:1=layers.11,3=layers.17")
_SIZE = {"images": 640, "batch": 32, "epochs": 3}


@dataclass(frozen=True, kw_only=True)
class ProcessesRow:
    """What came of it.

    Attributes:
        steps: Of each training.
        moved: How far the furthest weight has gone in them, over the largest one of its tensor; else nothing is shown.
        between: The largest difference between the two processes' weights, in the same unit.
        alone: Of their weights and those of a process alone.

    """

    steps: int
    moved: float
    between: float
    alone: float


def student() -> torch.nn.Module:
    """Images float32 [N, 3, 32, 32] to scores [N, 10]; weights at random, the same each time."""
    with seeded(0):
        return nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.Tanh()),
            *(nn.Conv2d(16, 32, 3, 2, 1), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(32 * 64, 10)),
        )


def learn(folder: str, hardware: DistributedContext) -> None:
    """One training, or one process of it; leaves `rank0.pt` and so on in the folder."""
    images, learner = cifar.training(_SIZE["images"]), student()
    settings = TrainingSettings(
        epochs=_SIZE["epochs"], batch_size=_SIZE["batch"], evaluate_every=_SIZE["epochs"], monitor="loss"
    )
    distill(
        Network(module=learner),
        Network(module=teacher()),
        LearningSamples(feeds={"images": images.floats()}, labels=images.labels),
        make_objective(_TERMS, (), 0.0),
        folder=Path(folder) / "training",
        options=DistillOptions(training=settings, optimizer="sgd", rate=0.02),
        hardware=hardware,
    )
    torch.save(learner.state_dict(), Path(folder) / f"rank{hardware.rank}.pt")


def processes_part(common: Arguments) -> PartResult:
    """Trains alone and in two processes; `--short` is no shorter, and no accuracy is looked at."""
    key = {"size": _SIZE, "L": _TERMS, "processes": PROCESSES}
    row = ProcessesRow(**kept_by_key(common.out.resolve(), "processes", key, _row))
    return PartResult(figures=asdict(row), checks=processes_checks(row), tables=(_table(row),))


def _row(folder: Path) -> dict[str, Any]:
    for name in ("one", "two"):
        (folder / name).mkdir(exist_ok=True)
    learn(str(folder / "one"), this_process())
    launch(partial(learn, str(folder / "two")), processes=PROCESSES, device="cpu")
    alone, first, second = (
        torch.load(folder / name, weights_only=True) for name in ("one/rank0.pt", "two/rank0.pt", "two/rank1.pt")
    )
    return {
        "steps": _SIZE["epochs"] * (int(0.9 * _SIZE["images"]) // _SIZE["batch"]),
        "moved": difference(alone, student().state_dict()),
        "between": difference(first, second),
        "alone": max(difference(first, alone), difference(second, alone)),
    }


def difference(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> float:
    """The largest of any weight, over the largest weight of its tensor in `found`."""
    return max(float((one - expected[name]).abs().max() / one.abs().max()) for name, one in found.items())


def processes_checks(row: ProcessesRow) -> list[Check]:
    """What is claimed, from figures alone; of weights that have not moved it would say nothing."""
    return [
        at_least("processes: how far the furthest weight has gone", row.moved, 0.01),
        at_most("processes: weights of two processes apart", row.between, 0.0),
        at_most("processes: weights of two processes from those of one, same global batch", row.alone, BOUND),
    ]


def _table(row: ProcessesRow) -> Table:
    lines = (
        ("how far the furthest weight has gone", f"{row.moved:.3g}"),
        ("between the two processes", f"{row.between:.3g}"),
        ("between either and one alone", f"{row.alone:.3g}"),
    )
    title = f"Two gloo processes and one, {row.steps} steps of {_SIZE['batch']} images"
    return Table(title=title, columns=("largest difference, over the largest weight of its tensor", ""), rows=lines)
