"""What can't be exported is refused with the user's own line, the reason and a next step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from torch import nn  # noqa: E402 (after the skip)

from edgeport.errors import (  # noqa: E402
    ContractError,
    DataDependentShapeError,
    DynamicShapeError,
    ExportError,
    GraphBreakError,
    SamplesError,
    UnsupportedOperatorError,
)
from edgeport.exporter.onnx_export import export_onnx  # noqa: E402
from edgeport.exporter.options import Capture, ExportOptions  # noqa: E402


class _WithLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)


class Branch(_WithLayer):
    def forward(self, x):
        if x.sum() > 0:
            return self.fc(x)
        return x


class CountedLoop(_WithLayer):
    def forward(self, x):
        for _ in range(int(x.sum().item())):
            x = self.fc(x)
        return x


class BranchOnCount(_WithLayer):
    def forward(self, x):
        found = torch.nonzero(x)
        if found.shape[0] > 4:
            return found * 2
        return found


class SizeFromValue(_WithLayer):
    def forward(self, x):
        count = int(x.sum().item())
        return self.fc(x)[:count]


class Eigenvalues(_WithLayer):
    def forward(self, x):
        return torch.linalg.svd(self.fc(x))[1]


@torch.library.custom_op("edgeport_tests::own", mutates_args=())
def own_operator(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@own_operator.register_fake
def _(x):
    return torch.empty_like(x)


class OwnOperator(_WithLayer):
    def forward(self, x):
        return own_operator(self.fc(x))


class NumberedBatch(_WithLayer):
    def forward(self, x):
        return self.fc(x).view(2, 2, 4)


class LoopOverBatch(_WithLayer):
    def forward(self, x):
        return torch.stack([self.fc(x[i]) for i in range(x.shape[0])])


class Numpy(_WithLayer):
    def forward(self, x):
        return torch.from_numpy(np.tanh(x.detach().numpy()))


class WrongShape(_WithLayer):
    def forward(self, x):
        return self.fc(x) @ x


class TextOutput(_WithLayer):
    def forward(self, x):
        return self.fc(x), "done"


class SetOutput(_WithLayer):
    def forward(self, x):
        return self.fc(x), {"done"}


class NothingOut(_WithLayer):
    def forward(self, x):
        del x


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    module: Callable[[], nn.Module]
    error: type[ExportError]
    line: str
    found: str
    fix: str
    capture: Capture = Capture.AUTO


CASES = [
    Case(
        id="branch",
        module=Branch,
        error=GraphBreakError,
        line="if x.sum() > 0:",
        found="control flow that depends on the values of a tensor",
        fix="torch.where",
    ),
    Case(
        id="branch-strict",
        module=Branch,
        capture=Capture.STRICT,
        error=GraphBreakError,
        line="if x.sum() > 0:",
        found="control flow that depends on the values of a tensor",
        fix="torch.cond",
    ),
    Case(
        id="counted-loop",
        module=CountedLoop,
        error=GraphBreakError,
        line="for _ in range(int(x.sum().item())):",
        found="control flow",
        fix="loops need a fixed count",
    ),
    Case(
        id="branch-on-a-count",
        module=BranchOnCount,
        error=DataDependentShapeError,
        line="if found.shape[0] > 4:",
        found="a size that depends on the values of a tensor",
        fix="pad to the largest size",
    ),
    Case(
        id="size-from-a-value",
        module=SizeFromValue,
        capture=Capture.NON_STRICT,
        error=DataDependentShapeError,
        line="count = int(x.sum().item())",
        found="a size that depends on the values of a tensor",
        fix="do this step after the model",
    ),
    Case(
        id="operator-of-pytorch",
        module=Eigenvalues,
        error=UnsupportedOperatorError,
        line="return torch.linalg.svd(self.fc(x))[1]",
        found="no translation for aten._linalg_svd",
        fix="compute it outside of the model",
    ),
    Case(
        id="operator-of-the-user",
        module=OwnOperator,
        error=UnsupportedOperatorError,
        line="return own_operator(self.fc(x))",
        found="no translation for edgeport_tests.own",
        fix="with PyTorch's own operators",
    ),
    Case(
        id="numbered-batch",
        module=NumberedBatch,
        error=DynamicShapeError,
        line="return self.fc(x).view(2, 2, 4)",
        found="fixes axis 'batch' to the example's 2",
        fix="use x.shape[0] or -1",
    ),
    Case(
        id="loop-over-batch",
        module=LoopOverBatch,
        error=DynamicShapeError,
        line="return torch.stack([self.fc(x[i]) for i in range(x.shape[0])])",
        found="fixes axis 'batch'",
        fix="--fixed-batch keeps the example's",
    ),
    Case(
        id="numpy",
        module=Numpy,
        capture=Capture.NON_STRICT,
        error=ExportError,
        line="return torch.from_numpy(np.tanh(x.detach().numpy()))",
        found="leaves PyTorch (numpy)",
        fix="use the torch function of the same name",
    ),
    Case(
        id="fails-in-plain-pytorch",
        module=WrongShape,
        error=ExportError,
        line="return self.fc(x) @ x",
        found="mat1 and mat2 shapes cannot be multiplied",
        fix="this is PyTorch alone, before any export",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_failure_names_line_reason_and_next_step(case, tmp_path):
    options = ExportOptions(capture=case.capture)
    with pytest.raises(ExportError) as caught:
        export_onnx(
            case.module().eval(),
            {"x": np.full((2, 8), 0.1, np.float32)},
            output=tmp_path / "model.onnx",
            options=options,
        )

    error = caught.value
    assert type(error) is case.error
    assert case.line in error.found
    assert f"{__file__}:" in error.found
    assert error.details["code"] == case.line
    assert case.found in error.found
    assert case.fix in error.fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "found"),
    [(SetOutput, "{'done'} (set) as output_1, which is no tensor"), (NothingOut, "no tensor")],
    ids=["set", "nothing"],
)
def test_outputs_that_are_no_tensors_are_refused(module, found, tmp_path):
    with pytest.raises(ExportError, match="tensor") as caught:
        export_onnx(module().eval(), {"x": np.ones((2, 8), np.float32)}, output=tmp_path / "model.onnx")

    assert found in caught.value.found


def test_a_text_beside_tensors_is_left_out_and_said(tmp_path):
    result = export_onnx(TextOutput().eval(), {"x": np.ones((2, 8), np.float32)}, output=tmp_path / "model.onnx")

    assert [spec.name for spec in result.model.outputs] == ["output_0"]
    assert any("output_1" in note and "done" in note for note in result.notes)


def test_training_mode_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"call module\.eval\(\) first"):
        export_onnx(Branch().train(), {"x": np.ones((2, 8), np.float32)}, output=tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("feeds", "found"),
    [
        ({"x": np.ones((2, 8), np.float32), "y": np.ones((2, 8), np.float32)}, "y fits no input; x does"),
        ({"x": np.ones((2, 8), np.float32), "y": np.ones((3, 8), np.float32)}, "batches of"),
        ({}, "batches of"),
    ],
    ids=["one-too-many", "unequal-batches", "none"],
)
def test_an_example_that_does_not_fit_is_refused(feeds, found, tmp_path):
    with pytest.raises(SamplesError) as caught:
        export_onnx(Branch().eval(), feeds, output=tmp_path / "model.onnx")

    assert found in caught.value.found


def test_the_older_exporter_that_fails_too_leaves_the_first_error(tmp_path):
    options = ExportOptions(allow_legacy_exporter=True)
    with pytest.raises(UnsupportedOperatorError) as caught:
        export_onnx(
            Eigenvalues().eval(), {"x": np.ones((2, 8), np.float32)}, output=tmp_path / "m.onnx", options=options
        )

    assert "The TorchScript exporter failed too" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"opset": 17},
        {"opset": 99},
        {"dynamic_axes": {"x": {0: "batch"}}},
        {"dynamic_axes": {"x": {2: "2 heights"}}},
        {"output_names": ("y", "y")},
    ],
    ids=str,
)
def test_impossible_options_are_refused(settings):
    with pytest.raises(ContractError):
        ExportOptions(**settings)


def test_a_multiple_that_the_model_needs_is_named(tmp_path):
    class Halving(nn.Module):
        def forward(self, x):
            return x.reshape(x.shape[0], 2, x.shape[1] // 2)

    options = ExportOptions(dynamic_axes={"x": {1: "length"}})
    with pytest.raises(DynamicShapeError) as caught:
        export_onnx(Halving().eval(), {"x": np.ones((2, 8), np.float32)}, output=tmp_path / "m.onnx", options=options)
    assert "2*" in caught.value.fix

    options = ExportOptions(dynamic_axes={"x": {1: "2*length"}})
    result = export_onnx(
        Halving().eval(), {"x": np.ones((2, 8), np.float32)}, output=tmp_path / "m.onnx", options=options
    )
    assert result.model.inputs[0].shape == ("batch", "2*length")
