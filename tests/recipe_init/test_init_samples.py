"""Samples without names: tables, folders of images and of sounds, one array; what `edgeport init` makes of them."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from scipy.io import wavfile

pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport.accuracy import METRICS, evaluate
from edgeport.contracts import Preprocessing, PreprocessingFunction
from edgeport.contracts.recipe import SamplesFolder, SamplesTable
from edgeport.errors import SamplesError
from edgeport.pipeline.datasets.sources import open_samples
from edgeport.recipe import load_recipe
from edgeport.recipe_init import Draft, InitRequest, draft_recipe
from edgeport.recipe_init.columns import ways_of_columns
from edgeport.recipe_init.sample_formats import look_at_samples


def save_mean(folder: Path, shape: list[int | str], classes: int = 2) -> None:
    """`net.onnx`: input x of this shape to scores [N, classes], which rest on the mean of a sample."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Mul", ["column", "ramp"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", classes])],
        [
            onnx.numpy_helper.from_array(np.arange(1, len(shape), dtype=np.int64), "axes"),
            onnx.numpy_helper.from_array(np.array([1], np.int64), "one"),
            onnx.numpy_helper.from_array(np.linspace(-1, 1, classes, dtype=np.float32), "ramp"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "net.onnx")


def drafted(**asked: object) -> Draft:
    return draft_recipe(InitRequest(model="net.onnx", backends=("onnxruntime",), **asked))


def sets_of(draft: Draft) -> dict[str, list]:
    """Both sets as a run opens them: batches by name."""
    sys.modules.pop("edgeport_samples", None)
    recipe = load_recipe(draft.recipe)
    data = recipe.data
    return {
        name: list(open_samples(where, data.target, inputs=recipe.inputs))
        for name, where in (("calibration", data.calibration), ("evaluation", data.evaluation))
    }


def counts(sets: dict[str, list]) -> dict[str, int]:
    return {name: sum(map(len, batches)) for name, batches in sets.items()}


def write_table(path: Path, count: int = 20) -> None:
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "height", "width", "kind"])
        for row in range(count):
            writer.writerow([row, *random.normal(size=2).round(4), ["cat", "dog"][row % 2]])


class TestTables:
    def test_a_table_is_split_and_its_text_becomes_class_indices(self, folder: Path) -> None:
        save_mean(folder, ["batch", 2])
        write_table(folder / "data.csv")

        draft = drafted(samples="data.csv")

        assert load_recipe(draft.recipe).data.metric == "top1"
        assert any("Columns that feed nothing: id." in one for one in draft.guessed)
        sets = sets_of(draft)
        assert counts(sets) == {"calibration": 5, "evaluation": 15}
        every = [one for batches in sets.values() for one in batches]
        assert {one.feeds["x"].dtype.name for one in every} == {"float32"}
        assert sorted(np.concatenate([one.target for one in every])) == [0] * 10 + [1] * 10

    def test_two_tables_are_named_with_their_columns(self, folder: Path) -> None:
        save_mean(folder, ["batch", 2])
        write_table(folder / "c.csv", 8)
        write_table(folder / "e.csv", 12)

        draft = drafted(calibration="c.csv", evaluation="e.csv")

        data = load_recipe(draft.recipe).data
        assert isinstance(data.evaluation, SamplesTable)
        assert dict(data.evaluation.columns) == {"x": ("height", "width")}
        assert (data.target, data.metric) == ("kind", "top1")
        assert draft.files == (folder / "edgeport.toml",)

    def test_a_table_that_does_not_fit_says_what_the_model_takes(self, folder: Path) -> None:
        save_mean(folder, ["batch", 7])
        write_table(folder / "data.csv")

        with pytest.raises(SamplesError, match=r"it takes x float32 \['batch', 7\]"):
            drafted(samples="data.csv")

    @pytest.mark.parametrize(
        ("kinds", "names", "inputs", "target"),
        [
            pytest.param(
                {"age": "whole", "facts_0": "number", "facts_1": "number", "y": "whole"},
                ["age", "facts"],
                {"age": "age", "facts": ("facts_0", "facts_1")},
                "y",
                id="by-name",
            ),
            pytest.param({"a": "number", "b": "whole"}, ["x"], {"x": ("a", "b")}, "", id="a-vector"),
            pytest.param({"": "whole", "a": "number"}, ["x"], {"x": ("a",)}, "", id="counted-rows"),
            pytest.param(
                {"t0": "whole", "t1": "whole", "lengths": "whole"}, ["t"], {"t": ("t0", "t1")}, "", id="lengths"
            ),
        ],
    )
    def test_columns_go_where_their_names_say(self, kinds, names, inputs, target) -> None:
        first = next(ways_of_columns(kinds, names))

        assert (dict(first.inputs), first.target, first.lengths) == (inputs, target, "lengths" in kinds)

    @pytest.mark.parametrize(
        ("kinds", "says"),
        [
            pytest.param({"a;b": "text"}, "separate cells by commas", id="semicolons"),
            pytest.param({"a": "text", "b": "text"}, "a (text or empty cells)", id="empty-cells"),
            pytest.param({"a": "gaps", "b": "number", "y": "number"}, "fill the empty cells of a as", id="gaps"),
        ],
    )
    def test_a_table_without_numbers_is_answered_with_what_to_mend(self, kinds, says) -> None:
        with pytest.raises(SamplesError) as caught:
            next(ways_of_columns(kinds, ["x"]))

        assert says in f"{caught.value.found} {caught.value.fix}"

    def test_numbers_with_empty_cells_are_no_labels(self, folder: Path) -> None:
        (folder / "t.csv").write_text("a,b,kind\n1.5,2,x\n,3,y\nNA,4,y\n")
        facts = look_at_samples({"location": {"path": str(folder / "t.csv"), "columns": {}, "classes": []}})["facts"]

        assert facts["columns"] == {"a": "gaps", "b": "whole", "kind": "text"}
        assert list(facts["texts"]) == ["kind"]

    def test_a_column_with_gaps_may_be_left_where_names_say_what_feeds(self) -> None:
        assert next(ways_of_columns({"x": "number", "note": "gaps"}, ["x"])).left == ("note",)

    def test_a_column_that_is_not_there_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(SamplesError, match="did you mean 'kind'"):
            next(ways_of_columns({"a": "number", "kind": "text"}, ["x"], "kinds"))


def write_images(path: Path, names: list[str], size: tuple[int, int] = (40, 30)) -> None:
    for index, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path / name)


def test_a_batch_that_the_file_fixes_is_declared(folder: Path) -> None:
    save_mean(folder, [4, 3])

    draft = drafted()

    assert load_recipe(draft.recipe).inputs[0].shape == draft.inputs[0].shape == (4, 3)


class TestImages:
    def test_a_folder_of_classes_is_split_with_a_plain_preprocessing_to_check(self, folder: Path) -> None:
        save_mean(folder, ["batch", 3, 16, 16])
        write_images(folder / "photos", [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(6)])

        draft = drafted(samples="photos")

        recipe = load_recipe(draft.recipe)
        declared = recipe.inputs[0].preprocessing
        assert isinstance(declared, Preprocessing)
        assert (declared.resize, declared.scale, declared.mean) == ((16, 16), 1 / 255, ())
        assert "check" in draft.recipe.read_text()
        assert any("[inputs.x.preprocess]" in one for one in draft.guessed)
        assert recipe.data.metric == "top1"
        sets = sets_of(draft)
        assert counts(sets) == {"calibration": 3, "evaluation": 9}
        every = [one for batches in sets.values() for one in batches]
        assert {one.feeds["x"].shape for one in every} == {(1, 40, 30, 3)}
        assert sorted(int(one.target[0]) for one in every) == [0] * 6 + [1] * 6

    def test_two_folders_are_named_in_the_recipe(self, folder: Path) -> None:
        save_mean(folder, ["batch", 3, 40, 30], classes=5)
        write_images(folder / "c", ["a.png", "b.png"])
        write_images(folder / "e", ["c.png", "d.png", "e.png"])

        draft = drafted(calibration="c", evaluation="e")

        recipe = load_recipe(draft.recipe)
        assert isinstance(recipe.data.evaluation, SamplesFolder)
        assert recipe.inputs[0].preprocessing == Preprocessing(scale=1 / 255)
        assert recipe.data.metric == "agreement"

    def test_more_class_folders_than_scores_are_no_labels(self, folder: Path) -> None:
        save_mean(folder, ["batch", 3, 16, 16])
        write_images(folder / "photos", [f"{kind}/{i}.png" for kind in "abc" for i in range(2)])

        assert load_recipe(drafted(samples="photos").recipe).data.metric == "agreement"

    def test_channels_behind_the_pixels_are_said(self, folder: Path) -> None:
        save_mean(folder, ["batch", 16, 16, 1])
        write_images(folder / "photos", ["a.png", "b.png", "c.png"])

        draft = drafted(samples="photos")

        assert load_recipe(draft.recipe).inputs[0].preprocessing.layout == "NHWC"
        assert {one.feeds["x"].shape for one in sets_of(draft)["evaluation"]} == {(1, 40, 30, 1)}

    def test_images_for_what_is_no_image_are_refused(self, folder: Path) -> None:
        save_mean(folder, ["batch", 9])
        write_images(folder / "photos", ["a.png"])

        with pytest.raises(SamplesError, match="no batch of images") as caught:
            drafted(samples="photos")
        assert "--input" not in caught.value.fix  # which is refused for a file that says what it takes
        assert "in a .npz" in caught.value.fix

    def test_torchvision_says_how_pixels_become_its_input(self) -> None:
        import torch

        from edgeport.contracts import ModelSource
        from edgeport.exporter.silence import quiet
        from edgeport.recipe_init.image_preprocessing import known_pixels, pixels_for
        from edgeport.recipe_init.input_spec import Guess

        with quiet():
            known = known_pixels(ModelSource(location="torchvision:mobilenet_v3_small"), torch.nn.Identity())
        found = pixels_for(Guess(name="x", shape=(3, 224, 224)), known, (480, 640))

        assert found.settings == {
            "resize": 256,
            "crop": [224, 224],
            "scale": "1/255",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        }

    def test_timm_says_it_too(self) -> None:
        import timm

        from edgeport.contracts import ModelSource
        from edgeport.exporter.silence import quiet
        from edgeport.recipe_init.image_preprocessing import known_pixels

        with quiet():
            known = known_pixels(ModelSource(location="timm:test_vit"), timm.create_model("test_vit"))

        assert known.settings["interpolation"] == "bicubic"
        assert known.settings["resize"] == 168  # 160 / 0.95, as timm rounds it

    def test_a_configuration_of_transformers_is_read(self, tmp_path: Path) -> None:
        from edgeport.recipe_init.image_preprocessing import _hugging_face

        (tmp_path / "preprocessor_config.json").write_text(
            '{"size": {"height": 32, "width": 48}, "resample": 3, "image_mean": [0.5, 0.5, 0.5], '
            '"image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.00392156862745098}'
        )

        assert _hugging_face(tmp_path).settings == {
            "resize": [32, 48],
            "interpolation": "bicubic",
            "scale": "1/255",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        }


def write_sounds(path: Path, lengths: list[int]) -> None:
    path.mkdir()
    for index, length in enumerate(lengths):
        sound = np.random.default_rng(index).integers(-9000, 9000, length).astype(np.int16)
        wavfile.write(path / f"{index}.wav", 8000, sound)


class TestSounds:
    def test_sounds_of_one_length_are_split_as_they_are(self, folder: Path) -> None:
        save_mean(folder, ["batch", 1, 800])
        write_sounds(folder / "sounds", [800] * 8)

        draft = drafted(samples="sounds")

        assert load_recipe(draft.recipe).inputs[0].preprocessing is None
        sets = sets_of(draft)
        assert counts(sets) == {"calibration": 2, "evaluation": 6}
        first = sets["evaluation"][0].feeds["x"]
        assert (first.shape, first.dtype.name) == ((1, 1, 800), "float32")
        assert np.abs(first).max() < 9000 / 32768

    @pytest.mark.parametrize("both", [pytest.param(False, id="split"), pytest.param(True, id="two-folders")])
    def test_sounds_of_many_lengths_are_cut_by_a_function_to_check(self, folder: Path, *, both: bool) -> None:
        from edgeport.preprocessing.function import RawFunction

        save_mean(folder, ["batch", 800])
        write_sounds(folder / "sounds", [700, 900, 800, 1000])
        write_sounds(folder / "others", [500, 801])

        draft = drafted(evaluation="sounds", calibration="others") if both else drafted(samples="sounds")

        declared = load_recipe(draft.recipe).inputs[0].preprocessing
        assert declared == PreprocessingFunction(function="edgeport_samples:cut")
        assert any("cut to 800" in one for one in draft.guessed)
        sys.modules.pop("edgeport_samples", None)
        prepared = RawFunction(declared.function, ("x",), folder)(np.ones((2, 700), np.float32))["x"]
        assert (prepared.shape, prepared.sum()) == ((2, 800), 1400)
        raw = sets_of(draft)["evaluation"]
        assert {one.feeds["x"].shape[-1] for one in raw} <= {700, 800, 900, 1000}

    def test_a_model_of_any_length_hears_each_sound_as_it_is(self, folder: Path) -> None:
        save_mean(folder, ["batch", "time"])
        write_sounds(folder / "sounds", [700, 900, 800, 1000])

        draft = drafted(samples="sounds")

        assert load_recipe(draft.recipe).inputs[0].preprocessing is None
        lengths = sorted(one.feeds["x"].shape[1] for batches in sets_of(draft).values() for one in batches)
        assert lengths == [700, 800, 900, 1000]


def test_one_array_is_for_the_only_input(folder: Path) -> None:
    save_mean(folder, ["batch", 4])
    np.save(folder / "data.npy", np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32))

    draft = drafted(samples="data.npy")

    sets = sets_of(draft)
    assert counts(sets) == {"calibration": 3, "evaluation": 7}
    assert sets["evaluation"][0].feeds["x"].shape == (7, 4)


ITEMS = """\
import torch


class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 80

    def __getitem__(self, row):
        return {"x": torch.full((4,), float(row)), "label": row % 3}


class Pairs(Items):
    def __getitem__(self, row):
        return torch.full((4,), float(row)), row % 3
"""


class TestLabels:
    """A classifier of three, and what is taken for its labels."""

    @pytest.fixture(autouse=True)
    def _net(self, folder: Path) -> None:
        save_mean(folder, ["batch", 4], classes=3)

    def arrays(self, count: int = 80, seed: int = 0) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        return {"x": random.standard_normal((count, 4)).astype(np.float32), "label": np.arange(count) % 3}

    def test_one_hot_rows_are_labels(self, folder: Path) -> None:
        arrays = self.arrays()
        np.savez(folder / "data.npz", x=arrays["x"], label=np.eye(3, dtype=np.float32)[arrays["label"]])

        draft = drafted(evaluation="data.npz")

        data = load_recipe(draft.recipe).data
        assert (data.metric, data.target) == ("top1", "label")
        (only,) = sets_of_evaluation(draft)[:1]
        scores = np.eye(3)[arrays["label"][: len(only)]]
        assert evaluate(METRICS["top1"], {"scores": scores}, only.target).value == 1

    def test_what_is_no_label_of_a_class_is_said(self, folder: Path) -> None:
        soft = np.random.default_rng(0).random((80, 3))
        np.savez(folder / "data.npz", x=self.arrays()["x"], label=soft)

        draft = drafted(samples="data.npz")

        assert load_recipe(draft.recipe).data.metric == "agreement"
        assert any("label holds no class index and no one-hot row per sample" in one for one in draft.guessed)

    def test_an_array_that_nothing_takes_is_refused_or_left_out(self, folder: Path) -> None:
        weights = np.ones(80, np.float32)
        np.savez(folder / "data.npz", **self.arrays(), weights=weights)
        np.savez(folder / "plain.npz", **self.arrays(seed=1))

        with pytest.raises(SamplesError, match=r"data.npz .*nothing takes weights; leave it out of the file"):
            drafted(evaluation="data.npz")
        with pytest.raises(SamplesError, match=r"data.npz for the calibration samples.*nothing takes weights"):
            drafted(evaluation="plain.npz", calibration="data.npz")
        draft = drafted(samples="data.npz", target="label")

        assert any(one.startswith("Nothing takes weights: left out") for one in draft.guessed)
        assert set(sets_of_evaluation(draft)[0].feeds) == {"x"}

    def test_labels_of_a_function_are_no_array_by_name(self, folder: Path) -> None:
        code = "def batches():\n    yield {'x': np.ones((40, 4), np.float32), 'label': np.zeros(40, int)}\n"
        (folder / "give.py").write_text(f"import numpy as np\n{code}")

        with pytest.raises(
            SamplesError, match=r"nothing takes label; let the function leave it out, or yield \(inputs"
        ):
            drafted(evaluation="give:batches")

    def test_labels_of_a_dataset_are_found_by_their_key(self, folder: Path) -> None:
        (folder / "items.py").write_text(ITEMS)
        location = {"function": "items:Items", "search_path": str(folder)}

        found = look_at_samples({"location": location, "first": str(folder / "first.npz"), "target": ""})

        sys.modules.pop("items")
        assert found["facts"]["by_key"]
        assert (found["facts"]["arrays"], found["facts"]["labels"]) == ({"x": [4], "label": []}, {"label": 1})

    def test_items_without_names_are_the_only_inputs(self, folder: Path) -> None:
        (folder / "items.py").write_text(ITEMS)

        data = load_recipe(drafted(evaluation="items:Pairs").recipe).data

        assert (data.target, data.metric) == ("", "top1")

    def test_floats_of_another_width_are_converted_where_a_module_reads_them(self, folder: Path) -> None:
        arrays = self.arrays()
        np.savez(folder / "data.npz", x=arrays["x"].astype(np.float64), label=arrays["label"])

        with pytest.raises(SamplesError, match=r"float32 from data.npz; found dtype float64; convert it.*--samples"):
            drafted(evaluation="data.npz")
        draft = drafted(samples="data.npz")

        assert {one.feeds["x"].dtype.name for batches in sets_of(draft).values() for one in batches} == {"float32"}
        assert any("x is float64 and becomes float32" in one for one in draft.guessed)

    def test_whole_numbers_for_floats_are_not_converted_unasked(self, folder: Path) -> None:
        """Pixels may want a scale."""
        np.savez(folder / "data.npz", x=np.ones((80, 4), np.uint8), label=self.arrays()["label"])

        with pytest.raises(SamplesError, match="found dtype uint8; convert it as in training"):
            drafted(samples="data.npz")

    def test_arrays_under_other_names_than_the_inputs_are_refused(self, folder: Path) -> None:
        np.savez(folder / "data.npz", pictures=self.arrays()["x"])

        with pytest.raises(
            SamplesError, match=r"pictures, and none called x; name the arrays as the model's inputs: x"
        ):
            drafted(samples="data.npz")
        assert not (folder / "edgeport.toml").exists()


def sets_of_evaluation(draft: Draft) -> list:
    """As a run opens it."""
    sys.modules.pop("edgeport_samples", None)
    recipe = load_recipe(draft.recipe)
    return list(open_samples(recipe.data.evaluation, recipe.data.target, inputs=recipe.inputs))


class TestState:
    """A running sum: y = x + state, next_state = y; the batch of the state is its axis 1."""

    @pytest.fixture(autouse=True)
    def _net(self, folder: Path) -> None:
        nodes = [
            helper.make_node("Squeeze", ["state", "axis"], ["before"]),
            helper.make_node("Add", ["x", "before"], ["y"]),
            helper.make_node("Unsqueeze", ["y", "axis"], ["next_state"]),
        ]
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "net",
            [value("x", TensorProto.FLOAT, ["n", 4]), value("state", TensorProto.FLOAT, [1, "n", 4])],
            [value("y", TensorProto.FLOAT, ["n", 4]), value("next_state", TensorProto.FLOAT, [1, "n", 4])],
            [onnx.numpy_helper.from_array(np.array([0], np.int64), "axis")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, folder / "net.onnx")

    def test_it_is_linked_and_random_samples_come_in_sequences(self, folder: Path) -> None:
        draft = drafted()

        recipe = load_recipe(draft.recipe)
        assert dict(recipe.state) == {"next_state": "state"}
        assert {spec.name: spec.shape for spec in recipe.inputs} == {"x": ("batch", 4), "state": (1, "batch", 4)}
        assert recipe.data.sequence == 8
        assert set(sets_of(draft)["evaluation"][0].feeds) == {"x"}
        assert any("It has a state: next_state goes into state." in one for one in draft.found)

    def test_samples_are_split_between_sequences(self, folder: Path) -> None:
        x = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
        np.savez(folder / "data.npz", x=x, clip=np.repeat(np.arange(8), 5))

        draft = drafted(samples="data.npz")

        assert load_recipe(draft.recipe).data.sequence == "clip"
        sets = {name: np.concatenate([one.feeds["clip"] for one in each]) for name, each in sets_of(draft).items()}
        assert np.unique(sets["calibration"]).tolist() == [0, 1]
        assert sets["evaluation"].tolist() == np.repeat(np.arange(2, 8), 5).tolist()

    @pytest.mark.parametrize(
        ("table", "split", "proven"),
        [pytest.param(False, True, 0.1, id="arrays-split"), pytest.param(True, False, 0.05, id="table")],
    )
    def test_the_drop_is_what_so_many_sequences_can_prove(
        self, folder: Path, table: bool, split: bool, proven: float
    ) -> None:
        """Of 80 sequences of 5 steps; 60 are left where they are split."""
        x, clips = np.zeros((400, 4), np.float32), np.repeat(np.arange(80), 5)
        x[:, 0] = np.arange(400)
        if table:
            np.savetxt(folder / "data.csv", np.c_[x, clips], "%d", ",", header="a,b,c,d,clip", comments="")
        else:
            np.savez(folder / "data.npz", x=x, clip=clips)

        draft = drafted(**{"samples" if split else "evaluation": f"data.{'csv' if table else 'npz'}"})

        assert load_recipe(draft.recipe).budget.accuracy_drop == proven
        assert f"{300 if split else 400} samples" in draft.recipe.read_text()
        assert any(f"{60 if split else 80} sequences can prove no smaller drop" in one for one in draft.guessed)

    @pytest.mark.parametrize("names", [[f"clip{i // 5}" for i in range(40)], [i // 5 for i in range(40)]])
    @pytest.mark.parametrize("whole", [False, True], ids=["split", "whole"])
    def test_a_column_says_where_sequences_begin(self, folder: Path, names: list[object], whole: bool) -> None:
        cells = np.random.default_rng(0).standard_normal((40, 4))
        with (folder / "data.csv").open("w", newline="") as file:
            rows = ([*row, name] for row, name in zip(cells, names, strict=True))
            csv.writer(file).writerows([["a", "b", "c", "d", "Clip"], *rows])

        draft = drafted(**{"evaluation" if whole else "samples": "data.csv"})
        sys.modules.pop("edgeport_samples", None)

        data = load_recipe(draft.recipe).data
        assert (data.sequence, data.target) == ("Clip", "")
        assert "# by its name: where it changes" in draft.recipe.read_text()
        location = open_samples(
            data.evaluation,
            "",
            inputs=load_recipe(draft.recipe).inputs,
            arrangement={"sequence": "Clip"},
        )
        feeds = [batch.feeds for batch in location]
        assert np.concatenate([each["x"] for each in feeds]).shape == ((40, 4) if whole else (30, 4))

    def test_of_two_columns_none_is_taken_for_the_sequence(self) -> None:
        kinds = {"clip": "whole", "session": "whole", "x": "number"}
        assert {one.sequence for one in ways_of_columns(kinds, ["x"], steps=True)} == {""}
        assert {one.sequence for one in ways_of_columns({"seq": "text", "x": "number"}, ["x"], steps=True)} == {"seq"}
        assert {one.sequence for one in ways_of_columns({"seq": "text", "x": "number"}, ["x"])} == {""}

    def test_where_nothing_says_where_sequences_begin_that_is_said(self, folder: Path) -> None:
        np.savez(folder / "data.npz", x=np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32))

        draft = drafted(evaluation="data.npz")

        assert load_recipe(draft.recipe).data.sequence == 40
        assert any("each set is taken for one" in one for one in draft.guessed)
