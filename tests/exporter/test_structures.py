"""Dicts, tuples and dataclasses of tensors, in and out; values that are no tensors; sizes of free axes."""

import dataclasses

import numpy as np
import pytest
import torch

from edgeport.contracts import Outcome
from edgeport.errors import DynamicShapeError, RecipeError, SamplesError, VerificationError
from edgeport.exporter.dynamic_shape_check import AtSize, at_other_sizes
from edgeport.exporter.input_binding import bind_feeds, reference_outputs, run_eagerly
from edgeport.exporter.onnx_export import export_onnx
from edgeport.exporter.options import ExportOptions
from edgeport.exporter.verify import verify

RANDOM = np.random.default_rng(0)
A = RANDOM.standard_normal((2, 4)).astype(np.float32)
B = RANDOM.standard_normal((2, 6)).astype(np.float32)


@dataclasses.dataclass
class Pair:
    left: torch.Tensor
    right: torch.Tensor


@dataclasses.dataclass
class Scores:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...] = ()
    loss: torch.Tensor | None = None


class Nested(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 3)

    def forward(self, batch, pair: Pair, states, scale=1.0):
        seen = batch["a"] * scale + pair.right.sum(1, keepdim=True) - pair.left[:, :4]
        seen = seen + states[0] - states[1]
        return Scores(logits=self.head(seen), hidden=(seen, batch["inner"]["b"] * 2))


FEEDS = {
    "batch.inner.b": B,
    "states_1": A * 3,
    "pair.right": B,
    "batch.a": A,
    "states_0": A * 2,
    "pair.left": A,
}


def test_paths_lead_into_dicts_tuples_and_dataclasses_and_out_of_them(export_and_verify):
    result, checked = export_and_verify(Nested(), FEEDS)

    assert {spec.name for spec in result.model.inputs} == set(FEEDS)
    assert [spec.name for spec in result.model.outputs] == ["logits", "hidden_0", "hidden_1"]
    assert all(spec.shape[0] == "batch" for spec in result.model.inputs)
    assert checked.outcome is Outcome.PASS


def test_a_value_is_handed_over_and_is_no_input(tmp_path):
    options = ExportOptions(constants={"scale": 5.0})

    result = export_onnx(Nested().eval(), FEEDS, output=tmp_path / "m.onnx", options=options)

    assert "scale" not in {spec.name for spec in result.model.inputs}
    plain, scaled = (
        run_eagerly(module := Nested().eval(), bind_feeds(module, FEEDS, {}, constants), FEEDS)["hidden_0"]
        for constants in ({}, {"scale": 5.0})
    )
    np.testing.assert_allclose(scaled - plain, 4 * A, rtol=1e-4, atol=1e-5)


def test_a_value_of_no_parameter_is_refused():
    with pytest.raises(SamplesError, match="did you mean 'scale'"):
        bind_feeds(Nested(), FEEDS, {}, {"scal": 1})


class Mixed(torch.nn.Module):
    def forward(self, x):
        return {
            "y": x * 2,
            "count": 3,
            "none": None,
            "where": x.argmax(1),
            "large": x > 0,
            "empty": x[:, :0],
            "name": "mixed",
            "total": (x * x).sum(),
        }


def test_integers_booleans_numbers_and_nothing_come_out(export_and_verify):
    result, checked = export_and_verify(Mixed(), {"x": A})

    specs = {spec.name: spec for spec in result.model.outputs}
    assert list(specs) == ["y", "where", "large", "empty", "total"]
    assert (specs["where"].dtype, specs["large"].dtype) == ("int64", "bool")
    assert specs["empty"].shape[1] == 0
    assert specs["total"].shape == ()
    assert checked.outcome is Outcome.PASS
    assert "Output count is left out: it is 3 whatever is fed." in result.notes


def test_an_output_of_one_number_is_computed_sample_by_sample():
    found = reference_outputs(Mixed().eval(), {"x": A}, 2)

    np.testing.assert_allclose(found["total"], (A * A).sum(axis=1), rtol=1e-5)


class Mean(torch.nn.Module):
    """Works up to 8 steps, as a table of positions does."""

    def __init__(self):
        super().__init__()
        self.positions = torch.nn.Parameter(torch.randn(8, 4))

    def forward(self, x, mask):
        return (x * mask[:, :, None] + self.positions[: x.shape[1]]).mean(1)


MEAN = {"x": RANDOM.standard_normal((2, 3, 4)).astype(np.float32), "mask": np.ones((2, 3), np.float32)}


def free(high=None):
    ranges = {} if high is None else {"length": (1, high)}
    return ExportOptions(dynamic_axes={"x": {1: "length"}, "mask": {1: "length"}}, axis_ranges=ranges)


def test_an_axis_is_verified_at_both_ends_of_its_range(tmp_path, open_model):
    module, options = Mean().eval(), free(8)
    result = export_onnx(module, MEAN, output=tmp_path / "m.onnx", options=options)
    sizes = list(at_other_sizes(module, MEAN, options))

    assert [spec.shape[1] for spec in result.model.inputs] == ["length", "length"]
    assert [(one.axis, one.size) for one in sizes] == [("length", 1), ("length", 8)]
    assert all(one.feeds["x"].shape[1] == one.feeds["mask"].shape[1] == one.size for one in sizes)
    reference = reference_outputs(module, MEAN, 2)
    checked = verify(reference, MEAN, result.model.path, open_model, sizes=sizes)
    assert (checked.outcome, checked.sizes) == (Outcome.PASS, {"length": (1, 8)})
    wrong = [
        AtSize(axis=one.axis, size=one.size, feeds=one.feeds, outputs={"output": one.outputs["output"] + 1})
        for one in sizes
    ]
    with pytest.raises(VerificationError, match="length 1") as caught:
        verify(reference, MEAN, result.model.path, open_model, sizes=wrong)
    assert "axes.length" in caught.value.fix


def test_a_range_that_pytorch_itself_does_not_take_is_said_so():
    with pytest.raises(DynamicShapeError) as caught:
        list(at_other_sizes(Mean().eval(), MEAN, free(9)))

    assert "with length 9" in caught.value.asked
    assert "[axes.length]" in caught.value.fix


def test_sizes_that_nobody_declared_may_fail():
    feeds = {name: array.repeat(3, axis=1)[:, :8] for name, array in MEAN.items()}

    assert [one.size for one in at_other_sizes(Mean().eval(), feeds, free())] == [4]


class Stream(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 5, num_layers=2, batch_first=True)

    def forward(self, frame, states):
        y, (h, c) = self.lstm(frame[:, None], states)
        return {"y": y[:, 0], "next": (h, c)}


STATE = {"next_0": "states_0", "next_1": "states_1"}


def stream_feeds(rows, batch):
    zeros = np.zeros((2, batch, 5), np.float32)
    frames = np.random.default_rng(1).standard_normal((rows, 4)).astype(np.float32)
    return {"frame": frames, "states_0": zeros, "states_1": zeros}


def test_a_state_has_its_batch_where_it_is_and_is_fed_back(tmp_path, open_model):
    torch.manual_seed(0)
    module = Stream().eval()
    axes = {"states_0": {1: "batch"}, "states_1": {1: "batch"}}
    options = ExportOptions(dynamic_axes=axes, state=STATE)

    result = export_onnx(module, stream_feeds(2, 2), output=tmp_path / "m.onnx", options=options)

    shapes = {spec.name: spec.shape for spec in result.model.inputs}
    assert shapes == {"frame": ("batch", 4), "states_0": (2, "batch", 5), "states_1": (2, "batch", 5)}
    feeds = stream_feeds(6, 1)
    reference = reference_outputs(module, feeds, 4, state=STATE, starts=(0, 4))
    assert list(reference) == ["y"]
    with torch.no_grad():
        whole, _ = module.lstm(torch.from_numpy(feeds["frame"][None, :4]))
    np.testing.assert_allclose(reference["y"][:4], whole[0].numpy(), atol=1e-6)
    checked = verify(reference, feeds, result.model.path, open_model, state=STATE, starts=(0, 4))
    assert (checked.outcome, checked.batch_sizes) == (Outcome.PASS, (1,))


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"nxt_0": "states_0"}, "did you mean 'next_0'"),
        ({"next_0": "state_0"}, "did you mean 'states_0'"),
        ({"y": "states_0"}, "same dtype and shape"),
    ],
    ids=["output", "input", "shape"],
)
def test_a_state_that_does_not_fit_is_refused_before_the_export(tmp_path, state, says):
    with pytest.raises(RecipeError) as caught:
        export_onnx(Stream().eval(), stream_feeds(2, 2), output=tmp_path / "m.onnx", options=ExportOptions(state=state))

    assert says in caught.value.fix
