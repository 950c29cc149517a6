"""What another method needs: its own file, and a row in each of the tables that ARCHITECTURE.md names; nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.calibration.plan import float_plan
from edgeport.calibration.recovery import methods, refine
from edgeport.calibration.recovery.model_edit import RecoveryResult
from edgeport.contracts import Precision
from edgeport.onnx_files import open_onnx


@dataclass(frozen=True)
class LastFirst:
    """A pruning criterion: the later a unit stands, the sooner it goes."""


class LastFirstScorer:
    def __init__(self, criterion):
        assert isinstance(criterion, LastFirst)

    def weights(self, module, samples):
        raise AssertionError("asked for single weights")

    def units(self, module, samples, groups):
        import torch

        return {group.name: torch.arange(group.units, 0, -1, dtype=torch.float64) for group in groups}


def test_a_pruning_criterion_takes_two_tables(monkeypatch):
    torch = pytest.importorskip("torch", reason="pruning needs the torch extra")
    from edgeport.exporter.prune.config import Units
    from edgeport.exporter.prune.importance import criteria, scorers
    from edgeport.exporter.prune.pruning import prune
    from edgeport.exporter.prune.samples import Samples

    row = criteria.Row(make=LastFirst, fixed={}, form="last-first", of_weights=False)
    monkeypatch.setitem(criteria.CRITERIA, "last-first", row)
    monkeypatch.setitem(scorers._SCORERS, LastFirst, LastFirstScorer)

    module = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)).eval()
    first = module[0].weight[:8].detach().clone()
    samples = Samples(feeds={"input": np.ones((2, 4), np.float32)})
    prune(module, Units(macs=0.5, round_to=1), criteria.criterion_named("last-first"), samples)
    kept = module[0].weight.detach()
    assert len(kept) < 16
    assert torch.equal(kept[:4], first[:4])


@dataclass(frozen=True)
class Nothing:
    """A recovery method that leaves the model as it is."""


def test_a_recovery_method_takes_two_tables(monkeypatch, tmp_path):
    monkeypatch.setitem(methods.RECOVERIES, Nothing, methods.Row(name="nothing", form="nothing"))
    monkeypatch.setitem(
        refine._APPLIED, Nothing, lambda method, model, plan, bench, to: RecoveryResult(model=model, said="nothing")
    )
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "x.onnx")
    model = open_onnx(tmp_path / "x.onnx")
    named = methods.recoveries_named(["nothing"])
    _, plan = refine.refine(model, float_plan(model, Precision.FP32), named, None, tmp_path)
    assert plan.recovered_by == ("nothing",)
