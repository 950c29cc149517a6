"""LSTM and GRU stay whole operators, and compute what PyTorch does for every length and batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeport.contracts import Arrays, OpenModel
from edgeport.exporter.onnx_export import export_onnx
from edgeport.exporter.options import ExportOptions
from edgeport.onnx_files import read_ir

FEATURES, HIDDEN = 5, 4
SHAPES = [(2, 3), (1, 1), (3, 1), (1, 7), (4, 12)]
"""Batch and length; the first is the one that is exported."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A layer, and how many operators it is: one for each of its layers."""

    id: str
    layer: Callable[..., Any]
    operators: list[str]
    settings: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case(id="lstm", layer=torch.nn.LSTM, operators=["LSTM"], settings={"batch_first": True}),
    Case(
        id="lstm-two-layers-both-ways",
        layer=torch.nn.LSTM,
        operators=["LSTM", "LSTM"],
        settings={"num_layers": 2, "bidirectional": True},
    ),
    Case(
        id="gru-without-bias",
        layer=torch.nn.GRU,
        operators=["GRU"],
        settings={"batch_first": True, "bias": False},
    ),
    Case(
        id="gru-two-layers-both-ways",
        layer=torch.nn.GRU,
        operators=["GRU", "GRU"],
        settings={"num_layers": 2, "bidirectional": True, "batch_first": True},
    ),
]


class Given(torch.nn.Module):
    """x float32 [N, T, 5], and the state of before; to all steps and the states after the last one.

    `begin` is float32 [N, 4]: what each layer and direction begins with, times its number, so that no two are equal.
    """

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.layer = case.layer(FEATURES, HIDDEN, **case.settings)
        self.pairs = case.layer is torch.nn.LSTM
        self.count = self.layer.num_layers * (2 if self.layer.bidirectional else 1)

    def forward(self, x: Any, begin: Any) -> dict[str, Any]:
        state = torch.stack([begin * (number + 1) for number in range(self.count)])
        flow = x if self.layer.batch_first else x.transpose(0, 1)
        steps, ends = self.layer(flow, (state, state * 0.5) if self.pairs else state)
        steps = steps if self.layer.batch_first else steps.transpose(0, 1)
        each = ends if self.pairs else (ends,)
        return {"steps": steps, "ends": torch.cat(each).transpose(0, 1)}


def feeds(batch: int, length: int) -> Arrays:
    random = np.random.default_rng(10 * batch + length)
    return {
        "x": random.standard_normal((batch, length, FEATURES)).astype(np.float32),
        "begin": random.standard_normal((batch, HIDDEN)).astype(np.float32),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_is_one_operator_that_takes_every_length(case: Case, tmp_path: Path, open_model: OpenModel) -> None:
    torch.manual_seed(0)
    module = Given(case).eval()
    options = ExportOptions(dynamic_axes={"x": {1: "length"}})

    result = export_onnx(module, feeds(*SHAPES[0]), output=tmp_path / "model.onnx", options=options)

    kinds = [node.op_type for node in read_ir(result.model.path).graph]
    assert [kind for kind in kinds if kind in {"LSTM", "GRU", "Loop", "Scan"}] == case.operators
    assert {spec.name: spec.shape for spec in result.model.inputs}["x"] == ("batch", "length", FEATURES)
    with open_model(result.model.path) as run, torch.no_grad():
        for batch, length in SHAPES:
            given = feeds(batch, length)
            expected = module(*(torch.from_numpy(array) for array in given.values()))
            found = run(given)
            for name, tensor in expected.items():
                np.testing.assert_allclose(found[name], tensor.numpy(), rtol=0, atol=1e-5, err_msg=f"{batch}, {length}")


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_what_no_operator_of_onnx_is_is_left_to_pytorch() -> None:
    """A projection of the state has no place in ONNX's LSTM."""
    from edgeport.exporter.rnn_operators import as_operators, has_recurrence

    projected = torch.nn.LSTM(FEATURES, HIDDEN, proj_size=2).eval()
    x = torch.randn(3, 2, FEATURES)
    plain = projected(x)[0]

    assert not has_recurrence(projected)
    with as_operators(), torch.no_grad():
        torch.testing.assert_close(projected(x)[0], plain)


def test_pytorch_is_as_before_once_it_is_left() -> None:
    from edgeport.exporter.rnn_operators import as_operators

    before = torch._VF.lstm, torch._VF.gru
    with as_operators():
        assert torch._VF.lstm is not before[0]

    assert (torch._VF.lstm, torch._VF.gru) == before
