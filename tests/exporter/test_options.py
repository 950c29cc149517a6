"""What can be asked of an export: opset, feeds, free axes, ways, and what is refused at once."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from torch import nn  # noqa: E402 (after the skip)

from edgeport.contracts import Outcome  # noqa: E402
from edgeport.errors import DynamicShapeError, OutputError, SamplesError  # noqa: E402
from edgeport.exporter.onnx_export import export_onnx  # noqa: E402
from edgeport.exporter.options import Capture, ExportOptions  # noqa: E402
from edgeport.onnx_files import read_ir  # noqa: E402


def _random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


IMAGES = {"x": _random(2, 3, 16, 16)}


@pytest.mark.parametrize("opset", [18, 23])
def test_other_opsets_are_written_as_asked(opset, export_and_verify, filled, networks):
    result, checked = export_and_verify(filled(networks.Attention()), {"x": _random(2, 5, 8)}, opset=opset)

    assert result.model.opset == opset
    assert checked.outcome is Outcome.PASS


def test_feeds_may_have_names_of_their_own(export_and_verify, filled, networks):
    result, checked = export_and_verify(filled(networks.ConvBlock()), {"picture": IMAGES["x"]})

    assert [spec.name for spec in result.model.inputs] == ["picture"]
    assert checked.outcome is Outcome.PASS


def test_feeds_are_matched_by_name_not_by_order(export_and_verify, filled, networks):
    result, checked = export_and_verify(filled(networks.TwoInputs()), {"text": _random(2, 6), "image": _random(2, 8)})

    assert {spec.name for spec in result.model.inputs} == {"image", "text"}
    assert checked.outcome is Outcome.PASS


def test_a_map_tells_which_feed_is_which_parameter(export_and_verify, filled, networks):
    result, checked = export_and_verify(
        filled(networks.TwoInputs()),
        {"b": _random(2, 6), "a": _random(2, 8)},
        parameters={"a": "image", "b": "text"},
        output_names=("difference",),
    )

    assert {spec.name: spec.shape for spec in result.model.inputs} == {"a": ("batch", 8), "b": ("batch", 6)}
    assert [spec.name for spec in result.model.outputs] == ["difference"]
    assert checked.outcome is Outcome.PASS


def test_more_axes_may_be_free(export_and_verify, tmp_path, open_model, filled, networks):
    result, _ = export_and_verify(
        filled(networks.ConvBlock()), IMAGES, dynamic_axes={"x": {2: "height", 3: "width"}}, capture=Capture.STRICT
    )

    assert result.model.inputs[0].shape == ("batch", 3, "height", "width")
    assert result.model.outputs[0].shape == ("batch", 4, "height", "width")
    assert result.capture == "strict"
    with open_model(result.model.path) as run:
        assert run({"x": _random(1, 3, 7, 9)})["output"].shape == (1, 4, 7, 9)


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.reshape(2, -1) * 2


def test_a_fixed_batch_is_an_error_unless_asked_for(export_and_verify):
    with pytest.raises(DynamicShapeError):
        export_and_verify(FixedBatch(), IMAGES)

    result, checked = export_and_verify(FixedBatch(), IMAGES, static_batch_fallback=True)

    assert result.model.inputs[0].shape == (2, 3, 16, 16)
    assert "The batch is fixed to 2" in result.notes[0]
    assert checked.outcome is Outcome.PASS


def test_a_static_batch_may_be_1(export_and_verify, filled, networks):
    result, checked = export_and_verify(filled(networks.ConvBlock()), {"x": _random(1, 3, 16, 16)}, dynamic_batch=False)

    assert result.model.inputs[0].shape == (1, 3, 16, 16)
    assert checked.outcome is Outcome.PASS


class Counting(nn.Module):
    """numpy in the middle: only the strict way follows it."""

    def forward(self, x):
        return torch.from_numpy(np.tanh(x.detach().numpy()))


def test_the_strict_way_is_tried_and_told(export_and_verify):
    result, checked = export_and_verify(Counting(), IMAGES)

    assert result.capture == "strict"
    assert "np.tanh" in result.notes[0]
    assert checked.outcome is Outcome.PASS


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        if x.sum() > 0:
            return self.fc(x)
        return x


def test_the_older_exporter_is_used_only_where_allowed_and_told(export_and_verify, filled):
    feeds = {"x": np.abs(_random(2, 8))}
    result, checked = export_and_verify(filled(Branching()), feeds, allow_legacy_exporter=True)

    assert result.exporter == "TorchScript"
    assert result.capture == ""
    assert "older TorchScript exporter" in result.notes[0]
    assert "x.sum() > 0" in result.notes[0]
    assert result.model.inputs[0].shape == ("batch", 8)
    assert checked.outcome is Outcome.PASS
    assert [node.name for node in read_ir(result.model.path).graph] == ["fc/Gemm"]


def test_a_batch_of_one_is_refused_where_the_batch_is_free(tmp_path, networks):
    with pytest.raises(SamplesError, match="give an example of 2 or more samples"):
        export_onnx(networks.ConvBlock().eval(), {"x": _random(1, 3, 8, 8)}, output=tmp_path / "m.onnx")


def test_another_ending_is_refused(tmp_path, networks):
    with pytest.raises(OutputError, match=r"name the file \.onnx"):
        export_onnx(networks.ConvBlock().eval(), IMAGES, output=tmp_path / "m.pb")


def test_a_failed_export_leaves_no_file(tmp_path):
    with pytest.raises(DynamicShapeError):
        export_onnx(FixedBatch().eval(), IMAGES, output=tmp_path / "m.onnx", options=ExportOptions())

    assert list(tmp_path.iterdir()) == []
