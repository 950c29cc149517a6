"""What an export says about a file that is not all that its model was."""

from __future__ import annotations

import inspect

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from torch import nn  # noqa: E402 (after the skip)

from edgeport.contracts import Outcome  # noqa: E402
from edgeport.exporter.notes import notes_on_model  # noqa: E402
from edgeport.exporter.onnx_export import export_onnx  # noqa: E402

X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.fc(x))


class DropsAlways(nn.Module):
    """Monte-Carlo dropout: it stays on in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Block(), Block()

    def train(self, mode=True):
        super().train(mode)
        self.first.drop.train()
        self.second.drop.train()
        return self

    def forward(self, x):
        return self.second(self.first(x))


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Samples(nn.Module):
    def forward(self, x):
        return torch.bernoulli(torch.sigmoid(x)), torch.multinomial(x.softmax(-1), 1), torch.rand(x.shape)


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (DropsAlways, ["Dropout in first.drop", "second.drop"]),
        (Noise, ["RandomNormalLike in the model's own forward (", "test_notes.py:"]),
        (Samples, ["Bernoulli in", "Multinomial in", "RandomUniformLike in"]),
    ],
    ids=["dropout", "noise", "samples"],
)
def test_operators_that_draw_random_numbers_are_named_with_their_modules(module, named, tmp_path):
    result = export_onnx(module().eval(), {"x": X}, output=tmp_path / "m.onnx")

    (note,) = result.notes
    assert all(text in note for text in named), note
    assert "can't be verified" in note


def test_dropout_that_is_off_needs_no_note(tmp_path):
    assert export_onnx(Block().eval(), {"x": X}, output=tmp_path / "m.onnx").notes == ()


@pytest.mark.parametrize(
    ("inputs", "told"), [(["x"], 0), (["x", "ratio", "off"], 0), (["x", "ratio", "on"], 1)], ids=["none", "off", "on"]
)
def test_only_dropout_in_training_mode_draws(inputs, told):
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[batch, 4] x) => (float[batch, 4] y) <float ratio = {{0.5}}, bool on = {{1}}, bool off = {{0}}>
    {{ y = Dropout({", ".join(inputs)}) }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))

    assert len(notes_on_model(model, batch=True)) == told


class CountsInABuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count += 1
        return x + self.count


class CountsInAnAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Module()
        self.inner.count = torch.zeros(1)

    def forward(self, x):
        self.inner.count = self.inner.count + 1
        return x + self.inner.count


@pytest.mark.parametrize(
    ("module", "path"),
    [(CountsInABuffer, "own count:"), (CountsInAnAttribute, "own inner.count:")],
    ids=["buffer", "attribute"],
)
def test_state_that_forward_changes_is_told_and_starts_where_it_was(module, path, tmp_path, open_model):
    result = export_onnx(module().eval(), {"x": X}, output=tmp_path / "m.onnx")

    (note,) = result.notes
    assert path in note
    assert "starts from the exported values" in note
    with open_model(result.model.path) as run:
        np.testing.assert_array_equal(run({"x": X})["output"], X + 1)  # as PyTorch's first call


class FillsOnce(nn.Module):
    """What is computed by the first call and kept is no state."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.zeros(4))
        self.ready = False

    def forward(self, x):
        if not self.ready:
            self.scale.fill_(3.0)
            self.ready = True
        return x * self.scale


def test_what_the_first_call_computes_and_keeps_is_no_state(export_and_verify):
    result, checked = export_and_verify(FillsOnce(), {"x": X})

    assert result.notes == ()
    assert checked.outcome is Outcome.PASS


class Total(nn.Module):
    def forward(self, x):
        return {"rows": x * 2, "total": x.sum(), "columns": x.T}


def test_outputs_without_a_batch_are_told(tmp_path):
    result = export_onnx(Total().eval(), {"x": X}, output=tmp_path / "m.onnx")

    total, columns = result.notes
    assert "Axis 0 of output 'total' is not the batch (its shape is [])" in total
    assert "Axis 0 of output 'columns' is not the batch (its shape is [4, batch])" in columns


def test_a_fixed_batch_needs_no_such_note(tmp_path):
    from edgeport.exporter.options import ExportOptions

    options = ExportOptions(dynamic_batch=False)

    assert export_onnx(Total().eval(), {"x": X}, output=tmp_path / "m.onnx", options=options).notes == ()


def test_the_line_that_draws_is_named(tmp_path):
    lines, start = inspect.getsourcelines(Noise)
    number = start + next(index for index, line in enumerate(lines) if "randn_like" in line)

    (note,) = export_onnx(Noise().eval(), {"x": X}, output=tmp_path / "m.onnx").notes

    assert f"test_notes.py:{number})" in note
