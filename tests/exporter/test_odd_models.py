"""Models as they lie around: wrapped, scripted, half in training mode, for one batch size only."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from torch import nn  # noqa: E402 (after the skip)

from edgeport.contracts import ModelSource, Outcome  # noqa: E402
from edgeport.errors import DynamicShapeError, ExportError, SamplesError  # noqa: E402
from edgeport.exporter.loaders.model_source import load_module  # noqa: E402
from edgeport.exporter.onnx_export import export_onnx  # noqa: E402
from edgeport.exporter.options import ExportOptions  # noqa: E402
from edgeport.onnx_files import read_ir  # noqa: E402

JIT_WARNS = pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
"""TorchScript warns of itself, and torch.compile imports it; old models are made of it all the same."""

X = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(8, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.fc(x))


WRAPPED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(x)


def parallel():
    return nn.DataParallel(Net())


def compiled():
    return torch.compile(Net())


def both():
    return torch.compile(nn.DataParallel(Net()))
"""


@JIT_WARNS
@pytest.mark.parametrize("factory", ["parallel", "compiled", "both"])
def test_a_wrapper_is_taken_off(factory, tmp_path):
    from safetensors.torch import save_file

    name = f"wrapped_{factory}"
    (tmp_path / f"{name}.py").write_text(WRAPPED)
    weights = {"fc.weight": torch.ones(4, 8), "fc.bias": torch.zeros(4)}
    save_file(weights, tmp_path / "w.safetensors")
    source = ModelSource(location=f"{name}:{factory}", weights=tmp_path / "w.safetensors", search_path=tmp_path)

    module = load_module(source)
    result = export_onnx(module, {"x": X}, output=tmp_path / "m.onnx")

    assert type(module).__name__ == "Net"
    assert [node.name for node in read_ir(result.model.path).graph] == ["fc/Gemm"]
    assert bool((module.fc.weight == 1).all())


def _scripted():
    return torch.jit.script(Plain().eval())


def _traced():
    return torch.jit.trace(Plain().eval(), torch.from_numpy(X))


@JIT_WARNS
@pytest.mark.parametrize("make", [_scripted, _traced], ids=["scripted", "traced"])
def test_torchscript_is_named_and_left_to_the_older_exporter(make, tmp_path, export_and_verify):
    module = make().eval()
    with pytest.raises(ExportError) as caught:
        export_onnx(module, {"x": X}, output=tmp_path / "m.onnx")
    assert caught.value.asked == "export Plain to ONNX"
    assert "TorchScript (torch.jit.script or torch.jit.trace), which" in caught.value.found
    assert "--allow-legacy-exporter" in caught.value.fix

    result, checked = export_and_verify(module, {"x": X}, allow_legacy_exporter=True)

    assert result.exporter == "TorchScript"
    assert ".. It" not in result.notes[0]
    assert checked.outcome is Outcome.PASS


class ScriptedInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = _scripted()

    def forward(self, x):
        return self.inner(x) * 2


@JIT_WARNS
def test_torchscript_inside_of_a_model_is_named(tmp_path):
    with pytest.raises(ExportError) as caught:
        export_onnx(ScriptedInside().eval(), {"x": X}, output=tmp_path / "m.onnx")

    assert "TorchScript (torch.jit.script or torch.jit.trace) in inner, which" in caught.value.found
    assert caught.value.fix == "let the factory build the plain module there"


class NormStaysInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Plain()

    def train(self, mode=True):
        super().train(mode)
        self.body.norm.train()
        return self

    def forward(self, x):
        return self.body(x)


def test_a_norm_that_still_learns_is_refused(tmp_path):
    with pytest.raises(ExportError) as caught:
        export_onnx(NormStaysInTraining().eval(), {"x": X}, output=tmp_path / "m.onnx")

    assert "the batch norm body.norm in training mode" in caught.value.found
    assert "call eval() on it too" in caught.value.fix


def test_a_norm_without_running_statistics_is_exported_as_it_is(tmp_path, open_model):
    module = nn.BatchNorm1d(8, track_running_stats=False).eval()

    result = export_onnx(module, {"input": X}, output=tmp_path / "m.onnx")

    with open_model(result.model.path) as run, torch.no_grad():
        np.testing.assert_allclose(run({"input": X})["output"], module(torch.from_numpy(X)).numpy(), atol=1e-5)


class Scaled(nn.Module):
    def forward(self, x, scale):
        return x * scale


def test_a_single_number_is_no_sample(tmp_path):
    with pytest.raises(SamplesError) as caught:
        export_onnx(Scaled().eval(), {"x": X, "scale": np.float32(2)}, output=tmp_path / "m.onnx")

    assert "a single number for scale" in caught.value.found
    assert "shape [N] or [N, 1]" in caught.value.fix


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids):
        return self.table(ids)


def test_floats_for_a_model_of_integers_are_explained(tmp_path):
    with pytest.raises(ExportError) as caught:
        export_onnx(Tokens().eval(), {"ids": X}, output=tmp_path / "m.onnx")

    assert "(ids: float32 [2, 8])" in caught.value.asked
    assert "the model takes integers there" in caught.value.fix


class OneSample(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(x).reshape(1, 4)


def test_a_model_for_one_sample_is_told_from_a_broken_one(tmp_path):
    with pytest.raises(DynamicShapeError) as caught:
        export_onnx(OneSample().eval(), {"x": X}, output=tmp_path / "m.onnx")

    error = caught.value
    assert "takes one sample only" in error.found
    assert error.details["code"] == "return self.fc(x).reshape(1, 4)"
    assert f"{__file__}:{error.details['line']}" in error.found
    assert "--fixed-batch" in error.fix


@pytest.mark.parametrize(
    "options",
    [ExportOptions(dynamic_batch=False), ExportOptions(static_batch_fallback=True)],
    ids=["fixed-batch", "fallback"],
)
def test_a_model_for_one_sample_is_exported_where_the_batch_may_be_fixed(options, tmp_path, open_model):
    module = OneSample().eval()

    result = export_onnx(module, {"x": X}, output=tmp_path / "m.onnx", options=options)

    assert result.model.inputs[0].shape == (1, 8)
    (note,) = result.notes
    assert "The batch is fixed to 1, because the model takes no batch of 2" in note
    assert "return self.fc(x).reshape(1, 4)" in note
    with open_model(result.model.path) as run, torch.no_grad():
        np.testing.assert_allclose(run({"x": X[:1]})["output"], module(torch.from_numpy(X[:1])).numpy(), atol=1e-6)
