"""The loop on a model of a few numbers: what is learned, kept, stopped, and resumed."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from edgeport.contracts import ProgressEvent
from edgeport.errors import ContractError, SamplesError, TrainingError
from edgeport.exporter.train import Schedule, StepContext, TrainedModule, TrainingSettings
from edgeport.exporter.train.loop import BEST, CHECKPOINT, fit
from edgeport.exporter.train.sampler import ArrayBatches, Sampler

SETTINGS = TrainingSettings(epochs=3, batch_size=4, average=0.9, clip_norm=1.0, checkpoint_every=2, seed=3)


class Killed(Exception):
    pass


class Line:
    """y = 2 x by a network with dropout, which draws from all generators; two modules where there is a critic."""

    def __init__(self, *, kill_at: int | None = None, critic: bool = False, rate: float = 0.05) -> None:
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
        self.critic = torch.nn.Linear(1, 1) if critic else None
        self.kill_at, self.rate = kill_at, rate
        self.drawn: list[float] = []

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        made = {"net": TrainedModule(module=self.net, optimizer=torch.optim.AdamW(self.net.parameters(), lr=self.rate))}
        if self.critic is not None:
            optimizer = torch.optim.SGD(self.critic.parameters(), lr=0.1, momentum=0.9)
            made["critic"] = TrainedModule(module=self.critic, optimizer=optimizer)
        return made

    def step(self, batch: Mapping[str, torch.Tensor], context: StepContext) -> Mapping[str, float | torch.Tensor]:
        if context.step == self.kill_at:
            raise Killed
        self.drawn.append(random.random() + float(np.random.rand()))  # noqa: NPY002 (global state)
        noise = torch.randn_like(batch["x"]) * 0.01 * self.drawn[-1]
        made = context.module("net")(batch["x"] + noise)
        if self.critic is not None:
            context.update("critic", mse_loss(context.module("critic")(made.detach()), batch["y"]))
        loss = mse_loss(made.float(), batch["y"])
        context.update("net", loss)
        return {"loss": loss.detach()}

    def evaluate(self, modules: Mapping[str, torch.nn.Module]) -> Mapping[str, float]:
        net = modules["net"].eval()
        with torch.no_grad():
            error = float(mse_loss(net(X), 2 * X))
        net.train()
        return {"error": error}


X = torch.linspace(-1, 1, 22)[:, None]
BATCHES = ArrayBatches({"x": X.numpy(), "y": 2 * X.numpy()})


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.state_dict().values(), right.state_dict().values(), strict=True))


def smaller(settings: TrainingSettings = SETTINGS, **changes: object) -> TrainingSettings:
    return replace(settings, monitor="error", larger_is_better=False, **changes)


def test_learns_and_notes_it(tmp_path: Path) -> None:
    task, told = Line(), list[ProgressEvent]()

    trained = fit(task, BATCHES, smaller(epochs=20), tmp_path, on_progress=told.append)

    lines = [json.loads(line) for line in trained.log.read_text().splitlines()]
    assert trained.metrics["error"] < 0.5 * trained.first["error"]
    assert trained.steps == 100
    assert {line["of"] for line in lines} == {"step", "evaluation"}
    rates = [line["rate"] for line in lines if line["of"] == "step"]
    assert 0.9 * task.rate < max(rates) <= task.rate  # noted every ten steps
    assert told[-1].total == 100
    assert told[-1].time_left_s == 0
    if importlib.util.find_spec("tensorboard") is not None:
        assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("kill_at", [1, 5, 9, 14])
@pytest.mark.parametrize("critic", [False, True], ids=["alone", "two modules"])
def test_killed_and_resumed_is_the_same_bit_for_bit(tmp_path: Path, kill_at: int, critic: bool) -> None:
    whole, killed, resumed = Line(critic=critic), Line(critic=critic, kill_at=kill_at), Line(critic=critic)
    fit(whole, BATCHES, smaller(), tmp_path / "whole")
    with pytest.raises(Killed):
        fit(killed, BATCHES, smaller(), tmp_path / "cut")

    trained = fit(resumed, BATCHES, smaller(), tmp_path / "cut")

    assert same(whole.net, resumed.net)
    assert whole.drawn[-len(resumed.drawn) :] == resumed.drawn
    assert len(resumed.drawn) < 15 or kill_at < 2
    for name in (CHECKPOINT, BEST):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    assert trained.log.read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_finished_training_is_answered_from_its_folder(tmp_path: Path) -> None:
    first, second = Line(), Line(kill_at=0)
    fit(first, BATCHES, smaller(), tmp_path)

    trained = fit(second, BATCHES, smaller(), tmp_path)

    assert same(first.net, second.net)
    assert trained.steps == 15


def test_what_only_harms_gives_back_what_it_was_given(tmp_path: Path) -> None:
    task = Line(rate=100.0)
    before = {name: value.clone() for name, value in task.net.state_dict().items()}

    trained = fit(task, BATCHES, smaller(average=None, patience=2, epochs=9), tmp_path)

    assert trained.stopped_early
    assert (trained.best_step, trained.steps) == (0, 10)
    assert all(torch.equal(value, before[name]) for name, value in task.net.state_dict().items())


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss nan in the first step, before .*; find what is no finite number"):
        fit(Line(), ArrayBatches({"x": X.numpy() * np.nan, "y": X.numpy()}), smaller(), tmp_path / "first")
    with pytest.raises(TrainingError, match=r"loss (nan|inf) after \d+ steps; lower the learning rate"):
        fit(Line(rate=1e30), BATCHES, smaller(clip_norm=None), tmp_path / "later")


@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_of_one_sample_is_no_batch_to_a_norm(tmp_path: Path, size: int) -> None:
    task = Line()
    task.net.append(torch.nn.BatchNorm1d(1))
    settings = smaller(batch_size=size, epochs=1)

    if size > 1:
        assert fit(task, BATCHES, settings, tmp_path).steps == 11
        return
    with pytest.raises(TrainingError, match=r"batches of 1 in each process; found a norm .*2 samples or more"):
        fit(task, BATCHES, settings, tmp_path)


def test_a_loss_that_no_weight_enters_is_refused(tmp_path: Path) -> None:
    task = Line()
    task.net.requires_grad_(requires_grad=False)

    with pytest.raises(TrainingError, match="let net learn; found a loss that depends on none"):
        fit(task, BATCHES, smaller(), tmp_path)


def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    fit(Line(), BATCHES, smaller(epochs=1), tmp_path)

    with pytest.raises(TrainingError, match="other settings"):
        fit(Line(), BATCHES, smaller(epochs=2), tmp_path)

    (tmp_path / CHECKPOINT).write_bytes(b"junk")
    with pytest.raises(TrainingError, match="remove the file"):
        fit(Line(), BATCHES, smaller(epochs=1), tmp_path)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_too(tmp_path: Path, precision: str) -> None:
    task = Line()

    trained = fit(task, BATCHES, smaller(precision=precision, epochs=10), tmp_path)

    assert trained.metrics["error"] < trained.first["error"]
    assert all(value.dtype == torch.float32 for value in task.net.state_dict().values())


def test_processes_share_each_batch_and_epochs_differ() -> None:
    parts = [Sampler(10, 4, seed=1, rank=rank, processes=2) for rank in range(2)]
    whole = Sampler(10, 4, seed=1)

    assert sorted(parts[0].rows(1) + parts[1].rows(1)) == sorted(whole.rows(1))
    assert whole.rows(0) != whole.rows(2)
    assert whole.rows(0) == Sampler(10, 4, seed=1).rows(0)
    with pytest.raises(SamplesError, match="10 samples"):
        Sampler(10, 12, seed=1)
    with pytest.raises(SamplesError, match="multiple"):
        Sampler(10, 5, seed=1, processes=2)


def test_the_schedule_rises_and_falls() -> None:
    rates = [Schedule(warmup=0.2, floor=0.1).factor(step, 100) for step in range(100)]

    assert rates[0] == pytest.approx(1 / 21)
    assert max(rates) == rates[20] == 1.0
    assert rates == sorted(rates[:20]) + sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert Schedule(shape="linear", warmup=0.0).factor(50, 100) == 0.5
    assert Schedule(shape="constant", warmup=0.0).factor(99, 100) == 1.0


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"average": 1.0}, {"precision": "int8"}, {"clip_norm": -1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        TrainingSettings(**wrong)
