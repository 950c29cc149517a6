"""Pruning from end to end, in children: what is written loads again, exports, and computes the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from safetensors import safe_open

from edgeport import api
from edgeport.contracts import (
    Change,
    Interval,
    ModelSource,
    OnProgress,
    Outcome,
    ProgressEvent,
    PruneStep,
    to_jsonable,
)
from edgeport.errors import EdgeportError, SamplesError, UsageError
from edgeport.exporter.prune.cost_model import Costs, GroupSpec, LayerCost, RemovedUnits
from edgeport.exporter.prune.latency_search import Budgeted, Losses
from edgeport.pipeline.compression import prune, workbench
from edgeport.pipeline.compression.prune import Pruner, judge_final
from edgeport.pipeline.compression.reports import PruneReport
from edgeport.pipeline.compression.workbench import Workbench

NET = """
import torch
from torch import nn


def create(width=16):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 24, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4),
    )


def tune(module, step):
    module[0].weight.data[:] = step + 1.0
"""


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    (tmp_path / "prunednet.py").write_text(NET, encoding="utf-8")
    random = np.random.default_rng(0)
    images = random.normal(size=(8, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=images, label=random.integers(0, 4, 8))
    np.savez(tmp_path / "inputs.npz", x=images)
    return ModelSource(location="prunednet:create", search_path=tmp_path)


def test_a_pruned_model_is_exported_and_verified_as_any_other(source: ModelSource, tmp_path: Path) -> None:
    report = api.prune(
        source,
        tmp_path / "samples.npz",
        output=tmp_path / "small.safetensors",
        target="label",
        options=api.PruneOptions(by="taylor", amount=0.5, schedule="iterative:2", fine_tune="prunednet:tune"),
    )
    assert report.outcome is Outcome.PASS
    assert report.macs[1] <= 0.5 * report.macs[0]
    assert report.left == {"7": "its units are an output of the network"}

    pruned = ModelSource(location=source.location, search_path=tmp_path, weights=report.file)
    exported = api.export(pruned, example=tmp_path / "inputs.npz", output=tmp_path / "small.onnx")
    checked = api.verify(pruned, exported.model.path, tmp_path / "inputs.npz")
    assert checked.outcome is Outcome.PASS
    weights = _convolution(exported.model.path)
    gone = {name: units for name, (units, _) in report.removed.items()}
    assert len(weights) == 16 - gone.get("0", 0)
    assert sum(gone.values()) % 8 == 0 < sum(gone.values())
    # Trained after the second step: all ones times two, with the norm folded into them.
    assert np.ptp(weights[0]) < 1e-6


def _convolution(path: Path) -> np.ndarray:
    import onnx

    graph = onnx.load(path).graph
    return onnx.numpy_helper.to_array(next(one for one in graph.initializer if one.name == "0.weight"))


def test_a_program_needs_no_code(source: ModelSource, tmp_path: Path) -> None:
    report = api.prune(
        source, tmp_path / "inputs.npz", output=tmp_path / "small.pt2", options=api.PruneOptions(amount=0.3)
    )
    (tmp_path / "prunednet.py").unlink()
    exported = api.export(
        ModelSource(location=str(report.file)), example=tmp_path / "inputs.npz", output=tmp_path / "small.onnx"
    )
    assert exported.model.inputs[0].shape[0] == "batch"


def test_what_was_pruned_is_trained_on_after_each_step(source: ModelSource, tmp_path: Path) -> None:
    """Stopped in the second training, the same call goes on there."""

    def pruned(on_progress: OnProgress) -> PruneReport:
        return api.prune(
            source,
            tmp_path / "samples.npz",
            output=tmp_path / "small.safetensors",
            target="label",
            store=tmp_path / "store",
            on_progress=on_progress,
            options=api.PruneOptions(
                amount=0.5,
                schedule="iterative:2",
                device="cpu",
                epochs=4,
                batch_size=2,
                rate=0.02,
                teacher=0.5,
                held_out=0.25,
            ),
        )

    def stop(event: ProgressEvent) -> None:
        if event.stage == "train" and (event.done, event.total) == (9, 12):
            with pytest.raises(UsageError, match="another process, which trains the very same"):
                pruned(lambda _: pytest.fail("trained by two"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pruned(stop)
    told = list[ProgressEvent]()
    report = pruned(told.append)

    # None is told where the child was at its end before it was stopped: on a busy machine events come late.
    assert min((event.done for event in told if event.stage == "train" and event.total == 12), default=12) >= 6
    assert not list((tmp_path / "store" / "training").iterdir())
    course = [json.loads(line) for line in (tmp_path / "small.metrics.jsonl").read_text().splitlines()]
    assert report.log == tmp_path / "small.metrics.jsonl"
    assert [one["step"] for one in course if one["of"] == "evaluation"] == [0, 3, 0, 3, 6, 9, 12]
    assert [one["after"] for one in course if one["of"] == "evaluation"] == [0, 0, 1, 1, 1, 1, 1]
    assert [one.steps for one in report.trained] == [1 * 3, 4 * 3]  # one epoch between, of three batches of two
    for one in report.trained:
        assert one.after["loss"] <= one.before["loss"]
    # BatchNorm's statistics are of the samples now: the network learned in training mode.
    with safe_open(report.file, framework="numpy") as file:
        assert file.get_tensor("1.num_batches_tracked") == sum(one.best_step for one in report.trained)


@pytest.mark.parametrize(
    ("location", "output", "says"),
    [("net.onnx", "small.safetensors", "a graph"), ("net:create", "small.onnx", "another kind of file")],
)
def test_what_can_not_be_pruned_is_said_at_once(location: str, output: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        api.prune(
            ModelSource(location=location),
            tmp_path / "no.npz",
            output=tmp_path / output,
            options=api.PruneOptions(amount=0.5),
        )


def test_one_sample_is_too_few(source: ModelSource, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=np.zeros((1, 3, 12, 12), np.float32))
    with pytest.raises(SamplesError, match="one sample"):
        api.prune(
            source, tmp_path / "one.npz", output=tmp_path / "small.safetensors", options=api.PruneOptions(amount=0.5)
        )


def test_two_goals_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 goals"):
        api.prune(
            ModelSource(location="net:create"),
            tmp_path / "no.npz",
            output=tmp_path / "small.safetensors",
            options=api.PruneOptions(amount=0.5, latency_ns=5e6),
        )


def test_a_criterion_that_has_no_answer_names_what_has_one(source: ModelSource, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", x=np.zeros((4, 3, 12, 12), np.float32), label=np.zeros((4, 2), np.float32))
    with pytest.raises(EdgeportError, match="no built-in loss"):
        api.prune(
            source,
            tmp_path / "odd.npz",
            output=tmp_path / "small.safetensors",
            target="label",
            options=api.PruneOptions(by="fisher", amount=0.5),
        )


@dataclass(frozen=True)
class _FinalBench:
    """A device that tells one speed of whatever is compared in the end."""

    speedup: Interval
    change: Change = Change.FASTER

    def compare(self, old: Path, new: Path) -> SimpleNamespace:
        del old, new
        return SimpleNamespace(comparison=SimpleNamespace(speedup=self.speedup, change=self.change))


@dataclass(frozen=True)
class _FinalPruner:
    """Of a network that is measured once more; what it takes is nothing."""

    bench: _FinalBench
    whole: Path
    file: str = "whole.safetensors"

    def take(self, counts: RemovedUnits, *, fine_tuned: bool) -> tuple[Path, dict[str, Any]]:
        assert not counts
        assert not fine_tuned
        (self.whole.parent / self.file).write_bytes(b"whole")
        told = {"weights": (20, 20), "macs": (100.0, 100.0), "zeros": 0.0, "removed": {}, "blocks": (), "left": {}}
        return self.whole.parent, {**told, "trained": ()}


def final_pruner(folder: Path, speedup: Interval, change: Change = Change.FASTER) -> Pruner:
    bench = _FinalBench(speedup=speedup, change=change)
    return cast("Pruner", _FinalPruner(bench=bench, whole=folder / "whole.onnx"))


@pytest.fixture
def searched() -> Budgeted:
    """What a search measured met the goal."""
    return Budgeted(counts={"g": 50}, latency_ns=4.9e6, before_ns=10e6, goal_ns=5e6, reached=True, trials=())


@pytest.fixture
def report(tmp_path: Path) -> PruneReport:
    return PruneReport(
        file=tmp_path / "small.safetensors",
        step=PruneStep(speedup=2.0),
        weights=(20, 10),
        macs=(100.0, 50.0),
        size_bytes=1,
        zeros=0.0,
    )


COSTS = Costs(layers=(LayerCost(name="l", macs=100.0, weights=10, axes=({"g": 0.01},)),))


@pytest.mark.parametrize(("speedup", "outcome"), [(2.05, Outcome.PASS), (1.98, Outcome.FAIL)])
def test_what_is_measured_in_the_end_is_held_to_the_goal(
    speedup: float, outcome: Outcome, searched: Budgeted, report: PruneReport, tmp_path: Path
) -> None:
    last = Interval(low=speedup - 0.02, estimate=speedup, high=speedup + 0.02)

    judged = judge_final(final_pruner(tmp_path, last), searched, COSTS, tmp_path / "small.onnx", report)

    assert judged.outcome is outcome
    assert judged.latency_ns == (10e6, 10e6 / speedup)
    assert ("1.010 of the latency that was asked" in judged.reason) is (outcome is Outcome.FAIL)


def test_of_what_is_not_surely_faster_no_latency_is_told(
    searched: Budgeted, report: PruneReport, tmp_path: Path
) -> None:
    last = Interval(low=0.9, estimate=2.1, high=3.0)

    judged = judge_final(final_pruner(tmp_path, last, Change.UNKNOWN), searched, COSTS, tmp_path / "small.onnx", report)

    assert (judged.outcome, judged.weights, judged.speedup) == (Outcome.FAIL, (20, 20), last)
    assert judged.latency_ns == (10e6, 10e6)  # what is written is the model as it was
    assert report.file.read_bytes() == b"whole"


class Judged(Exception):
    """Ends a search once its proposals were judged."""


def test_what_a_search_proposes_is_judged_by_a_child(
    source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group_specs = to_jsonable([GroupSpec(name="g", kind="channels", units=2, scores=(1.0, 2.0))])
    costs = to_jsonable(Costs(layers=(LayerCost(name="l", macs=100.0, weights=10, axes=({"g": 0.5},)),)))
    told: dict[str, Any] = {}

    def run(function: str, payload: Mapping[str, Any], **_: object) -> dict[str, Any]:
        if function.endswith(":look_in_child"):
            return {"group_specs": group_specs, "costs": costs, "left": {}}
        told.update(payload, function=function)
        return {"losses": [0.5, 0.25]}

    def search(*_: object, losses: Losses, **__: object) -> Budgeted:
        raise Judged(losses([{"g": 1}, {"g": 0}]))

    monkeypatch.setattr(workbench, "run_isolated", run)
    monkeypatch.setattr(prune, "prune_to_latency", search)
    with pytest.raises(Judged, match=r"\[0.5, 0.25\]"):
        api.prune(
            source,
            tmp_path / "samples.npz",
            output=tmp_path / "small.safetensors",
            target="label",
            options=api.PruneOptions(speedup=1.3),
        )

    assert told["function"].endswith(":judge_in_child")
    assert told["group_specs"] == group_specs
    assert told["several"] == [{"g": 1}, {"g": 0}]


def test_a_training_goes_on_with_the_network_that_was_found(
    source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search finds another one each time; the first is kept until its training is done, and no longer."""
    measured: list[dict[str, int]] = []

    def search(*arguments: Any, **_: object) -> Budgeted:
        measure = arguments[2]
        before_ns, latency_ns = measure({}), measure({"0": 8})
        return Budgeted(
            counts={"0": 8}, latency_ns=latency_ns, before_ns=before_ns, goal_ns=5e6, reached=True, trials=()
        )

    def speedup(_: Pruner, counts: RemovedUnits) -> float:
        measured.append(dict(counts))
        return 2.0

    def stop(event: ProgressEvent) -> None:
        if event.stage == "train" and event.done >= 9:
            raise KeyboardInterrupt

    def pruned(on_progress: OnProgress) -> PruneReport:
        return api.prune(
            source,
            tmp_path / "samples.npz",
            output=tmp_path / "small.safetensors",
            target="label",
            store=tmp_path / "store",
            on_progress=on_progress,
            options=api.PruneOptions(speedup=1.2, device="cpu", epochs=200, batch_size=2, held_out=0.25),
        )

    last = Interval(low=1.9, estimate=2.0, high=2.1)
    final = _FinalBench(speedup=last)
    monkeypatch.setattr(prune, "prune_to_latency", search)
    monkeypatch.setattr(Pruner, "whole", tmp_path / "whole.onnx")
    monkeypatch.setattr(Pruner, "whole_ns", lambda _: 10e6)
    monkeypatch.setattr(Pruner, "speedup", speedup)
    monkeypatch.setattr(Workbench, "compare", lambda _, old, new: final.compare(old, new))

    with pytest.raises(KeyboardInterrupt):
        pruned(stop)
    told = list[ProgressEvent]()
    report = pruned(told.append)

    assert report.outcome is Outcome.PASS
    assert measured == [{"0": 8}]
    assert min(event.done for event in told if event.stage == "train") >= 6
    assert not list((tmp_path / "store" / "training").iterdir())
