"""Inputs that are found by looking at a module: the shapes of its layers, what its collection says, what runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport.contracts import ModelSource  # noqa: E402 (after the skip)
from edgeport.errors import ExportError, GraphBreakError, SamplesError, SourceError  # noqa: E402
from edgeport.exporter.loaders.model_source import load_module  # noqa: E402
from edgeport.exporter.silence import quiet  # noqa: E402
from edgeport.recipe_init.assign import feeds_for  # noqa: E402
from edgeport.recipe_init.collection_inputs import known_inputs  # noqa: E402
from edgeport.recipe_init.input_spec import Guess, Kind, draw, guess_from_json  # noqa: E402
from edgeport.recipe_init.inspect_module import look_at_module  # noqa: E402
from edgeport.recipe_init.state_detection import likely_links  # noqa: E402


@pytest.fixture
def look(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Looks in this process; exports are left to other tests."""
    from edgeport.recipe_init import inspect_module as module

    monkeypatch.setattr(module, "_exported", lambda *_, **__: ([], {}))

    def looked(name: str, **arrays: np.ndarray):
        payload: dict[str, object] = {"source": {"location": f"nets:{name}", "search_path": str(folder)}}
        if arrays:
            np.savez(folder / "first.npz", **arrays)
            payload["samples"] = str(folder / "first.npz")
        return look_at_module(payload)

    return looked


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    inputs: dict[str, tuple[str, list[int | str]]]
    outputs: dict[str, list[int]]


CASES = [
    Case(
        name="TwoInputs",
        inputs={"image": ("float32", ["batch", 3, 224, 224]), "facts": ("float32", ["batch", 5])},
        outputs={"output": [4]},
    ),
    Case(name="Gestures", inputs={"frames": ("float32", ["batch", "time", 6])}, outputs={"output": [3]}),
    Case(name="Filter", inputs={"x": ("float32", ["batch", 16])}, outputs={"output": [16]}),
    Case(
        name="Tokens",
        inputs={"input_ids": ("int64", ["batch", "time"]), "attention_mask": ("bool", ["batch", "time"])},
        outputs={"output": [2]},
    ),
    Case(name="Small", inputs={"image": ("float32", ["batch", 1, 28, 28])}, outputs={"output": [10]}),
    Case(name="Example", inputs={"x": ("float32", ["batch", 7, 9])}, outputs={"output": [7]}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_module_takes_is_found(case: Case, look) -> None:
    found = look(case.name)

    guesses = {one["name"]: one for one in found["inputs"]}
    shapes = {
        name: (one["dtype"], ["batch", *(one["axes"].get(str(i + 1), size) for i, size in enumerate(one["shape"]))])
        for name, one in guesses.items()
    }
    assert shapes == case.inputs
    assert found["outputs"] == case.outputs


def test_an_axis_has_the_range_that_a_table_of_the_model_allows(folder: Path) -> None:
    found = look_at_module({"source": {"location": "nets:Positions", "search_path": str(folder)}})

    assert [one["axes"] for one in found["inputs"]] == [{"1": "time"}]
    assert found["ranges"] == {"time": [2, 24]}
    assert found["dynamic_batch"]
    assert not found["notes"]


def test_a_model_that_runs_with_no_likely_shape_says_how_to_give_it(look) -> None:
    with pytest.raises(SourceError, match=r"ValueError at .*nets\.py:\d+: .*--input NAME=batch"):
        look("Riddle")


def test_outputs_without_a_batch_are_refused_before_anything_is_written(look) -> None:
    with pytest.raises(ExportError, match="axis 0 of every output"):
        look("States")


def test_code_that_depends_on_values_is_not_fixed_as_the_first_samples_took_it(folder: Path) -> None:
    with pytest.raises(GraphBreakError, match=r"nets\.py:\d+: if x\.mean\(\) > 0"):
        look_at_module({"source": {"location": "nets:Branches", "search_path": str(folder)}})


class TestArrays:
    ARRAYS: ClassVar = {
        "frames": np.zeros((2, 20, 6), np.float32),
        "label": np.array([0, 2]),
    }

    def test_arrays_are_inputs_by_name_and_the_others_are_labels(self) -> None:
        inputs, labels = feeds_for(self.ARRAYS, ["frames", "mask"], ["frames"])

        assert [(one.name, one.shape, one.axes) for one in inputs] == [("frames", (20, 6), {1: "time"})]
        assert labels == ["label"]

    def test_where_no_name_fits_whole_numbers_per_sample_are_labels(self) -> None:
        inputs, labels = feeds_for(self.ARRAYS, ["x"], ["x"])

        assert ([one.name for one in inputs], labels) == (["frames"], ["label"])

    def test_too_few_arrays_are_refused(self) -> None:
        with pytest.raises(SamplesError, match="it takes a, b, c"):
            feeds_for(self.ARRAYS, ["a", "b", "c"], ["a", "b", "c"])


def test_drawn_samples_are_the_same_for_a_seed_and_keep_to_the_range() -> None:
    inputs = (
        Guess(name="ids", dtype="int64", shape=(9,), kind=Kind.INTEGERS, low=3, high=5),
        Guess(name="mask", dtype="bool", shape=(9,), kind=Kind.MASK),
        Guess(name="x", shape=(3,), low=-1.0, high=2.0),
    )

    one, same, other = draw(inputs, 40, 1), draw(inputs, 40, 1), draw(inputs, 40, 2)

    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["x"], other["x"])
    assert set(np.unique(one["ids"])) == {3, 4, 5}
    assert one["mask"][:, :4].all()
    assert not one["mask"].all()
    assert one["x"].min() >= -1
    assert one["x"].max() <= 2


class TestCollections:
    def test_timm_says_the_size_and_the_range(self) -> None:
        source = ModelSource(location="timm:test_vit")
        with quiet():
            (image,) = known_inputs(source, load_module(source))

        assert (image.name, image.shape[0]) == ("x", 3)
        assert image.low == pytest.approx(-image.high, abs=0.7)

    def test_torchvision_says_what_its_weights_were_trained_with(self) -> None:
        source = ModelSource(location="torchvision:squeezenet1_1")
        with quiet():
            (image,) = known_inputs(source, load_module(source))

        assert (image.shape, image.low, image.high) == ((3, 224, 224), -2.118, 2.64)

    def test_detectors_of_torchvision_are_refused_with_what_to_do(self) -> None:
        source = ModelSource(location="torchvision:ssd300_vgg16")

        with pytest.raises(SourceError, match="a list of images"):
            known_inputs(source, torch.nn.Identity())

    def test_transformers_take_tokens_of_the_vocabulary_and_a_mask(self, tmp_path: Path) -> None:
        with quiet():
            pytest.importorskip("transformers", reason="the extra hf")
        (tmp_path / "config.json").write_text(
            '{"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 60, "hidden_size": 16, '
            '"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 12}'
        )
        source = ModelSource(location=f"hf:{tmp_path}")

        tokens, mask = known_inputs(source, load_module(source))

        assert (tokens.name, tokens.shape, tokens.low, tokens.high) == ("input_ids", (12,), 5, 59)
        assert (mask.name, mask.kind, mask.axes) == ("attention_mask", Kind.MASK, {1: "sequence"})


@pytest.mark.parametrize(
    ("name", "shapes", "state"),
    [
        pytest.param(
            "Stream",
            {"frame": ["batch", 8], "states_0": [2, "batch", 12], "states_1": [2, "batch", 12]},
            {"output_1_0": "states_0", "output_1_1": "states_1"},
            id="a-tuple-of-an-lstm",
        ),
        pytest.param("Cell", {"x": ["batch", 6], "prev_h": ["batch", 4]}, {"next_h": "prev_h"}, id="a-cell"),
    ],
)
def test_states_are_found_with_the_outputs_that_they_come_from(look, name, shapes, state) -> None:
    found = look(name)

    guesses = [guess_from_json(one) for one in found["inputs"]]
    assert {one.name: list(one.declared) for one in guesses} == shapes
    assert found["state"] == state
    assert not set(found["outputs"]) & set(state)


@pytest.mark.parametrize(
    ("inputs", "outputs", "clear", "possible"),
    [
        pytest.param(
            {"x": [2, 3], "state": [2, 1]}, {"y": [2, 5], "stateN": [2, 1]}, {"stateN": "state"}, {}, id="vad"
        ),
        pytest.param(
            {"x": [2, 3], "h0": [1, 2, 4], "c0": [1, 2, 4]},
            {"y": [2, 3], "hn": [1, 2, 4], "cn": [1, 2, 4]},
            {"hn": "h0", "cn": "c0"},
            {},
            id="lstm",
        ),
        pytest.param({"x": [2, 4], "h": [2, 4]}, {"o0": [2, 4], "o1": [2, 4]}, {"o1": "h"}, {}, id="states-come-last"),
        pytest.param({"x": [2, 4]}, {"y": [2, 4]}, {}, {}, id="a-denoiser"),
        pytest.param({"input": [2, 4]}, {"output": [2, 4], "z": [2]}, {}, {}, id="plain-names"),
        pytest.param({"x": [2, 4]}, {"x_out": [2, 4], "y": [1]}, {}, {"x_out": "x"}, id="perhaps"),
        pytest.param({"x": [2, 4], "state": [2, 4]}, {"y": [2, 5]}, {}, {}, id="no-such-shape"),
        pytest.param({"state": [2, 4]}, {"state_out": [2, 4]}, {}, {"state_out": "state"}, id="nothing-left-to-judge"),
    ],
)
def test_links_are_clear_by_name_and_shape(inputs, outputs, clear, possible) -> None:
    assert likely_links(inputs, outputs) == (clear, possible)


def test_a_wrong_dtype_of_samples_is_no_wrong_shape(look) -> None:
    """numpy's own float is float64, which few models run with: that is the same number in another width."""
    found = look("Gestures", frames=np.ones((2, 9, 6)))
    assert [one["dtype"] for one in found["inputs"]] == ["float32"]

    with pytest.raises(SamplesError, match=r"ids of dtype float32.*it runs with int64; convert it"):
        look("Positions", input_ids=np.ones((2, 9), np.float32))
    with pytest.raises(SourceError, match="give samples of the dtypes and shapes that forward takes"):
        look("Small", image=np.ones((2, 1, 27, 28), np.float32))
