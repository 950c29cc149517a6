"""Small modules: exported, verified on three batch sizes, and every input and output kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from torch import nn  # noqa: E402 (after the skip)

from edgeport.contracts import Outcome  # noqa: E402
from edgeport.errors import ExportError  # noqa: E402
from edgeport.exporter.onnx_export import export_onnx  # noqa: E402
from edgeport.exporter.options import ExportOptions  # noqa: E402
from edgeport.onnx_files import read_ir  # noqa: E402


class SharedConv(nn.Module):
    """One convolution, two norms: each use needs folded weights of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.second(self.conv(self.first(self.conv(x))))


class DictOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"boxes": nn.Linear(8, 4), "scores": nn.Linear(8, 2)})

    def forward(self, x):
        scores = self.heads["scores"](x)
        return {"boxes": self.heads["boxes"](x), "scores": (scores.softmax(-1), None, scores)}


class Sequence3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 8, bias=False)

    def forward(self, x):
        return self.down(torch.nn.functional.gelu(self.norm(self.up(x))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0][:, -1]


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(11, 8), nn.Linear(8, 3)

    def forward(self, ids):
        return self.head(self.table(ids).mean(1))


class StandardisedWeight(nn.Module):
    """A weight that forward computes from a parameter; it is constant all the same."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 3, 9, 9))

    def forward(self, x):
        weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)
        return torch.nn.functional.conv2d(x, weight)


def _random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


IMAGES = {"x": _random(2, 3, 16, 16)}


@dataclass(frozen=True, kw_only=True)
class Case:
    """`operators` are the nodes that must be there, no more and no fewer of each; `module` may be one of `networks`."""

    id: str
    module: Callable[[], nn.Module] | str
    feeds: dict[str, np.ndarray]
    operators: dict[str, int]
    outputs: list[str] = field(default_factory=lambda: ["output"])


CASES = [
    Case(
        id="conv-bn-relu", module="ConvBlock", feeds=IMAGES, operators={"Conv": 1, "BatchNormalization": 0, "Relu": 1}
    ),
    Case(
        id="residual",
        module="Residual",
        feeds=IMAGES,
        operators={"Conv": 2, "BatchNormalization": 0, "Add": 1, "Relu": 3, "Gemm": 1, "MatMul": 0},
    ),
    Case(id="shared-conv", module=SharedConv, feeds=IMAGES, operators={"Conv": 2, "BatchNormalization": 0}),
    Case(
        id="transposed-conv-in-groups",
        module="Upsampling",
        feeds=IMAGES,
        operators={"ConvTranspose": 1, "BatchNormalization": 0},
    ),
    Case(
        id="two-inputs",
        module="TwoInputs",
        feeds={"image": _random(2, 8), "text": _random(2, 6)},
        operators={"Gemm": 2, "Sub": 1},
    ),
    Case(
        id="dict-output",
        module=DictOutput,
        feeds={"x": _random(2, 8)},
        operators={"Gemm": 2, "Softmax": 1},
        outputs=["boxes", "scores_0", "scores_2"],
    ),
    Case(
        id="linear-on-3d",
        module=Sequence3d,
        feeds={"x": _random(2, 5, 8)},
        operators={"MatMul": 2, "Add": 1, "Transpose": 0, "Gelu": 1},
    ),
    Case(id="lstm", module=Recurrent, feeds={"x": _random(2, 5, 8)}, operators={"LSTM": 1, "Loop": 0}),
    Case(
        id="attention",
        module="Attention",
        feeds={"x": _random(2, 5, 8)},
        operators={"MatMul": 4, "Shape": 0, "Softmax": 1},
    ),
    Case(
        id="attention-with-a-bias",
        module="BiasedAttention",
        feeds={"x": _random(2, 5, 8)},
        operators={"MatMul": 4, "Shape": 0, "Softmax": 1, "Identity": 0},
    ),
    Case(id="token-ids", module=Tokens, feeds={"ids": np.arange(10).reshape(2, 5) // 2}, operators={"Gather": 1}),
    Case(id="computed-weight", module=StandardisedWeight, feeds=IMAGES, operators={"Conv": 1, "Sub": 0, "Div": 0}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_small_module_computes_the_same_on_three_batch_sizes(case, export_and_verify, filled, networks):
    make = getattr(networks, case.module) if isinstance(case.module, str) else case.module
    result, checked = export_and_verify(filled(make()), case.feeds)

    assert checked.outcome is Outcome.PASS, checked.outputs
    assert checked.batch_sizes == (2, 1, 3)
    assert [output.name for output in result.model.outputs] == case.outputs
    assert [output.name for output in checked.outputs] == case.outputs
    found = [node.op_type for node in read_ir(result.model.path).graph]
    assert {operator: found.count(operator) for operator in case.operators} == case.operators


class UnusedInput(nn.Module):
    def forward(self, x, mask):
        del mask
        return x * 2


class SameTwice(nn.Module):
    def forward(self, x):
        y = x * 2
        return {"x": y, "second": y, "untouched": x}


@pytest.mark.parametrize(
    ("module", "inputs", "outputs"),
    [
        (UnusedInput, ["x", "mask"], ["output"]),
        (SameTwice, ["x"], ["x_out", "second", "untouched"]),
    ],
    ids=["unused-input", "repeated-and-untouched-outputs"],
)
def test_inputs_and_outputs_are_all_kept(module, inputs, outputs, export_and_verify):
    result, checked = export_and_verify(module(), {name: _random(2, 3) for name in inputs})

    assert [spec.name for spec in result.model.inputs] == inputs
    assert [spec.name for spec in result.model.outputs] == outputs
    assert checked.outcome is Outcome.PASS


def test_an_output_may_not_be_named_as_an_input(tmp_path):
    with pytest.raises(ExportError, match="an input of that name"):
        export_onnx(
            UnusedInput().eval(),
            {"x": _random(2, 3), "mask": _random(2, 3)},
            output=tmp_path / "m.onnx",
            options=ExportOptions(output_names=("mask",)),
        )
