"""Recipes that only `edgeport init` wrote, and what they are made of; then the whole way with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport import api
from edgeport.contracts import Outcome, Precision
from edgeport.errors import OutputError, RecipeError, SamplesError, UsageError
from edgeport.recipe import load_recipe
from edgeport.recipe_init import InitRequest, draft_recipe
from edgeport.recipe_init import init as module
from edgeport.recipe_init.assign import feeds_for, without_lengths
from edgeport.recipe_init.input_spec import Guess
from edgeport.recipe_init.model_location import written_location


def went_the_whole_way(folder: Path, name: str, backend: str = "onnxruntime"):
    """`init` and `run`, as their commands call them."""
    draft = api.init(f"nets:{name}", recipe=folder / "edgeport.toml", backends=(backend,), quick=True)
    result = api.run(draft.recipe, output=folder / "out")
    assert result.outcome is Outcome.PASS
    assert (folder / "out" / "bundle" / "manifest.json").is_file()
    return draft, result


def test_a_model_that_can_not_be_quantized_goes_the_whole_way(folder: Path) -> None:
    draft, result = went_the_whole_way(folder, "Filter")

    assert '# [[compress]]  # with training samples: method = "prune"' in draft.recipe.read_text(encoding="utf-8")
    assert result.chosen == "onnxruntime fp32"
    reasons = {one.precision: one.refusal for one in result.candidates}
    assert "no node to quantize" in reasons[Precision.INT8].reason


@pytest.mark.slow
def test_two_inputs_go_the_whole_way(folder: Path) -> None:
    draft, _ = went_the_whole_way(folder, "TwoInputs")

    assert [spec.name for spec in draft.inputs] == ["image", "facts"]


@pytest.mark.slow
def test_a_recurrent_model_of_any_length_goes_the_whole_way(folder: Path) -> None:
    draft, result = went_the_whole_way(folder, "Gestures")

    assert draft.inputs[0].shape == ("batch", "time", 6)
    assert result.model.inputs[0].shape == ("batch", "time", 6)


@pytest.fixture
def gemm(folder: Path) -> Path:
    """A classifier in ONNX, `scores = tokens' rows of a table, weighted`."""
    table = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axes"], ["scores"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [
            onnx.numpy_helper.from_array(table, "table"),
            onnx.numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


class TestOnnx:
    def test_inputs_are_read_and_indices_drawn_from_the_table(self, gemm: Path, folder: Path) -> None:
        draft = draft_recipe(InitRequest(model="net.onnx", backends=("onnxruntime",)))

        recipe = load_recipe(draft.recipe)
        assert recipe.source.location == str(gemm)
        assert [(spec.name, spec.dtype, spec.shape) for spec in recipe.inputs] == [
            ("tokens", "int64", ("batch", "length"))
        ]
        assert recipe.data.metric == "agreement"
        batches = list(drawn(folder)["evaluation"]())
        assert max(batch["tokens"].max() for batch in batches) == 19
        assert sum(len(batch["tokens"]) for batch in batches) == 512
        assert not any("guess" in sentence for sentence in draft.guessed)
        assert "[[compress]]" not in draft.recipe.read_text(encoding="utf-8")  # which changes PyTorch models

    def test_a_file_of_samples_is_split_and_its_labels_found(self, gemm: Path, folder: Path) -> None:
        labels = np.arange(100) % 3
        np.savez(folder / "data.npz", tokens=np.arange(400).reshape(100, 4) % 20, kind=labels)

        draft = draft_recipe(InitRequest(model="net.onnx", samples="data.npz", backends=("onnxruntime",)))

        assert load_recipe(draft.recipe).data.metric == "top1"
        sets = {name: list(give()) for name, give in drawn(folder).items()}
        counts = {name: sum(len(feeds["tokens"]) for feeds, _ in batches) for name, batches in sets.items()}
        assert counts == {"calibration": 25, "evaluation": 75}
        assert sorted(np.concatenate([kinds for batches in sets.values() for _, kinds in batches])) == sorted(labels)

    @pytest.mark.usefixtures("gemm")
    def test_a_gpu_on_which_a_model_opens_is_a_target_beside_the_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            module, "accelerators_of", lambda backend, _: ("CUDA",) * (backend.backend == "onnxruntime")
        )

        draft = draft_recipe(InitRequest(model="net.onnx", backends=("onnxruntime",)))

        cpu, gpu = load_recipe(draft.recipe).targets
        assert (cpu.execution.runtime_device, gpu.execution.runtime_device) == ("", "CUDA")
        assert gpu.precisions == (Precision.FP32,)
        assert set(gpu.precisions) < set(cpu.precisions)
        assert "Usable here: onnxruntime, onnxruntime on CUDA." in draft.found

    @pytest.mark.usefixtures("gemm")
    def test_the_array_called_as_labels_are_is_taken_and_the_other_named(self, folder: Path) -> None:
        tokens, ones = np.arange(400).reshape(100, 4) % 20, np.ones(100, np.int64)
        np.savez(folder / "data.npz", tokens=tokens, subject=7 * ones, label=ones)

        draft = draft_recipe(InitRequest(model="net.onnx", samples="data.npz", backends=("onnxruntime",)))

        assert {label for feeds, labels in drawn(folder)["evaluation"]() for label in labels} == {1}
        said = "The array label is taken for the labels, and subject for nothing. Say --target if it is another."
        assert said in draft.guessed

    @pytest.mark.usefixtures("gemm")
    def test_labels_under_a_name_that_is_not_there_are_refused(self, folder: Path) -> None:
        np.savez(folder / "data.npz", tokens=np.arange(400).reshape(100, 4) % 20, kind=np.arange(100) % 3)

        asked = InitRequest(model="net.onnx", samples="data.npz", target="kinds", backends=("onnxruntime",))
        with pytest.raises(SamplesError, match="did you mean 'kind'"):
            draft_recipe(asked)
        assert not (folder / "edgeport.toml").exists()

    def test_lengths_are_those_of_the_free_axis_and_no_labels(self, gemm: Path, folder: Path) -> None:
        lengths = np.arange(40) % 4 + 1
        np.savez(folder / "data.npz", tokens=np.arange(160).reshape(40, 4) % 20, lengths=lengths)

        draft = draft_recipe(InitRequest(model="net.onnx", samples="data.npz", backends=("onnxruntime",)))

        data = load_recipe(draft.recipe).data
        assert (data.lengths, data.target, data.metric) == ({"length": "lengths"}, "", "agreement")
        batches = [batch for give in drawn(folder).values() for batch in give()]
        assert sorted(np.concatenate([batch["lengths"] for batch in batches])) == sorted(lengths)

    def test_labels_are_found_beside_lengths(self, gemm: Path, folder: Path) -> None:
        ones, tokens = np.ones(40, np.int64), np.arange(160).reshape(40, 4) % 20
        np.savez(folder / "data.npz", lengths=ones, tokens=tokens, kind=ones)

        draft = draft_recipe(InitRequest(model="net.onnx", evaluation="data.npz", backends=("onnxruntime",)))

        data = load_recipe(draft.recipe).data
        assert (data.lengths, data.target, data.metric) == ({"length": "lengths"}, "kind", "top1")

    def test_separate_sets_are_named_in_the_recipe_and_no_module_is_written(self, gemm: Path, folder: Path) -> None:
        for name, first in (("c", 0), ("e", 200)):
            tokens = (np.arange(200).reshape(50, 4) * 7 + first) % 20
            np.savez(folder / f"{name}.npz", tokens=tokens, label=np.arange(50) % 3)

        draft = draft_recipe(
            InitRequest(model="net.onnx", calibration="c.npz", evaluation="e.npz", backends=("onnxruntime",))
        )

        data = load_recipe(draft.recipe).data
        assert (data.calibration, data.evaluation, data.target, data.metric) == (
            type(data.evaluation)(path=folder / "c.npz"),
            type(data.evaluation)(path=folder / "e.npz"),
            "label",
            "top1",
        )
        assert draft.files == (folder / "edgeport.toml",)

    def test_without_calibration_samples_int8_is_left_out_and_that_is_said(self, gemm: Path, folder: Path) -> None:
        np.savez(folder / "e.npz", tokens=np.arange(200).reshape(50, 4) % 20)

        draft = draft_recipe(InitRequest(model="net.onnx", evaluation="e.npz", backends=("onnxruntime",)))

        precisions = load_recipe(draft.recipe).targets[0].precisions
        assert Precision.INT8 not in precisions
        assert any("int8 is left out" in sentence for sentence in draft.guessed)

    def test_a_quantized_file_is_drafted_and_that_is_said(self, folder: Path) -> None:
        graph = helper.make_graph(
            [helper.make_node("QuantizeLinear", ["x", "scale"], ["y"], name="first")],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
            [helper.make_tensor_value_info("y", TensorProto.UINT8, ["batch", 3])],
            [onnx.numpy_helper.from_array(np.float32(0.1), "scale")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, folder / "q.onnx")

        draft = draft_recipe(InitRequest(model="q.onnx", backends=("onnxruntime",)))

        assert draft.notes == ("q.onnx is quantized already (QuantizeLinear 'first'): each runtime gets it as it is.",)
        assert load_recipe(draft.recipe).name

    def test_the_command_prints_json_and_what_comes_next(
        self, gemm: Path, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from edgeport.cli.app import run

        assert run(["init", "net.onnx", "--backend", "onnxruntime", "--json"]) == 0

        values = json.loads(capsys.readouterr().out)
        assert values["next"] == "edgeport run edgeport.toml"
        assert [Path(file).name for file in values["files"]] == ["edgeport.toml", "edgeport_samples.py"]


def drawn(folder: Path):
    """What the module beside the recipe defines."""
    path = folder / "edgeport_samples.py"
    names: dict[str, object] = {"__file__": str(path)}
    exec(compile(path.read_text(), path, "exec"), names)
    return {name: names[name] for name in ("calibration", "evaluation")}


@pytest.mark.parametrize("name", ["edgeport.toml", "edgeport_samples.py"])
def test_what_is_there_is_not_replaced_unasked(folder: Path, name: str) -> None:
    (folder / name).write_text("mine")

    with pytest.raises(OutputError, match="--force"):
        draft_recipe(InitRequest(model="nets:Filter"))
    assert (folder / name).read_text() == "mine"


def test_a_second_model_in_a_folder_leaves_the_first_its_samples(gemm: Path, folder: Path) -> None:
    first = draft_recipe(InitRequest(model="net.onnx", backends=("onnxruntime",)))
    before = {path: path.read_bytes() for path in first.files}

    second = draft_recipe(InitRequest(model="net.onnx", recipe=Path("small-net.v2.toml"), backends=("onnxruntime",)))

    assert [path.name for path in second.files] == ["small-net.v2.toml", "small_net_v2_samples.py"]
    assert load_recipe(second.recipe).data.evaluation.function == "small_net_v2_samples:evaluation"
    assert {path: path.read_bytes() for path in first.files} == before
    assert any("small_net_v2_samples.py" in sentence for sentence in second.guessed)


@pytest.mark.parametrize(
    ("recipe", "module"),
    [("edgeport.toml", "edgeport_samples"), ("3d.toml", "edgeport_3d_samples"), ("a/b c.toml", "b_c_samples")],
)
def test_a_samples_module_is_called_after_its_recipe(recipe: str, module: str) -> None:
    assert InitRequest(model="net.onnx", recipe=Path(recipe)).samples_module == module


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        pytest.param("nets.py", UsageError, "edgeport init nets.py:", id="file-with-many"),
        pytest.param("net.py:create", UsageError, "no such file", id="no-file"),
        pytest.param("resnet18", UsageError, "timm:resnet18", id="bare-name"),
        pytest.param("weights.pt", RecipeError, "is a checkpoint", id="checkpoint"),
        pytest.param("gone.onnx", RecipeError, "is not there", id="no-onnx"),
    ],
)
def test_what_is_no_model_is_answered_with_what_to_write(folder: Path, model: str, error: type, says: str) -> None:
    with pytest.raises(error) as caught:
        draft_recipe(InitRequest(model=model))

    assert says in f"{caught.value.found} {caught.value.fix}"
    assert [path.name for path in folder.iterdir()] == ["nets.py"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        pytest.param({"inputs": ("image",)}, "NAME=SHAPE", id="no-shape"),
        pytest.param({"inputs": ("image=batch,0",)}, "NAME=SHAPE", id="empty-axis"),
        pytest.param({"inputs": ("image=batch,3:int99",)}, "NAME=SHAPE", id="no-dtype"),
        pytest.param({"samples": "a.npz", "evaluation": "b.npz"}, "--samples alone", id="samples-twice"),
        pytest.param({"calibration": "a.npz"}, "--evaluation too", id="nothing-to-judge-on"),
    ],
)
def test_wrong_usage_is_said(folder: Path, asked: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        draft_recipe(InitRequest(model="nets:Filter", **asked))

    assert says in f"{caught.value.found} {caught.value.fix}"


def test_a_folder_called_as_an_architecture_is_not_taken_for_it(folder: Path) -> None:
    (folder / "resnet18").mkdir()
    (folder / "bert").mkdir()

    assert written_location("timm:resnet18", folder) == "timm:resnet18"
    assert written_location("torchvision:resnet18", folder) == "torchvision:resnet18"
    assert written_location("hf:bert", folder) == "hf:./bert"


def test_a_file_above_the_recipe_is_outside_of_its_folder(folder: Path) -> None:
    (folder / "recipes").mkdir()

    with pytest.raises(UsageError, match="outside of the recipe's folder"):
        draft_recipe(InitRequest(model="recipes/../nets.py:Filter", recipe=Path("recipes/edgeport.toml")))
    assert written_location("recipes/../nets.py:Filter", folder) == "nets:Filter"


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"metric": "acc"}, id="metric"),
        pytest.param({"latency": "5 mss"}, id="latency"),
        pytest.param({"metric": "cosine", "accuracy_drop": 5.0}, id="drop-with-its-metric"),
        pytest.param({"accuracy_drop": 5.0}, id="drop"),
        pytest.param({"metric": "top1"}, id="no-labels"),
    ],
)
@pytest.mark.usefixtures("gemm")
def test_what_is_refused_leaves_no_file(folder: Path, asked: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        draft_recipe(InitRequest(model="net.onnx", backends=("onnxruntime",), **asked))
    assert not list(folder.glob("edgeport*"))


def test_a_class_in_a_file_is_named_as_a_module(folder: Path) -> None:
    from edgeport.recipe_init.model_location import written_location

    (folder / "one.py").write_text("class Net: ...\n")
    (folder / "parts").mkdir()
    (folder / "parts" / "deep.py").write_text("")
    (folder / "bert").mkdir()
    (folder / "bert" / "config.json").write_text("{}")

    assert written_location("one.py", folder) == "one:Net"
    assert written_location("parts/deep.py:create", folder) == "parts.deep:create"
    assert written_location("bert", folder) == "hf:./bert"
    assert written_location("hf:bert", folder) == "hf:./bert"
    assert written_location("hf:org/name", folder) == "hf:org/name"


class TestArrays:
    """Which of the samples' arrays goes where."""

    LENGTHS = np.array([3, 2])

    def test_lengths_are_no_input_where_the_parameter_has_another_name(self) -> None:
        inputs, others = feeds_for({"lengths": self.LENGTHS, "audio": np.zeros((2, 3), np.float32)}, ["x"], ["x"])

        assert ([one.name for one in inputs], others) == (["audio"], ["lengths"])

    def test_lengths_are_an_input_of_a_model_that_takes_them(self) -> None:
        tokens = np.zeros((2, 3), np.int64)

        for names in (["tokens", "lengths"], ["x", "n"]):
            inputs, others = feeds_for({"tokens": tokens, "lengths": self.LENGTHS}, names, names)
            assert ([one.name for one in inputs], others) == (["tokens", "lengths"], [])

    @pytest.mark.parametrize(
        ("axes", "target", "expected"),
        [
            pytest.param({1: "time"}, "", (["kind"], True), id="any-length"),
            pytest.param({}, "", (["kind", "lengths"], False), id="fixed-length"),
            pytest.param({1: "time"}, "lengths", (["kind", "lengths"], False), id="named-as-labels"),
        ],
    )
    def test_lengths_are_no_labels_where_an_input_is_of_any_length(self, axes, target, expected) -> None:
        assert without_lengths(["lengths", "kind"], [Guess(name="x", shape=(3,), axes=axes)], target) == expected

    def test_parts_of_a_dict_are_inputs_by_their_path(self) -> None:
        arrays = {"batch.item": np.zeros(2, np.int64), "score": np.zeros(2), "batch.price": np.zeros((2, 6))}

        inputs, others = feeds_for(arrays, ["batch", "scale"], ["batch"])

        assert ([one.name for one in inputs], others) == (["batch.item", "batch.price"], ["score"])

    def test_arrays_called_as_labels_are_come_first(self) -> None:
        assert without_lengths(["subject", "fold", "Label"], [Guess(name="x")]) == (["Label", "subject", "fold"], False)


def test_inputs_can_be_declared(folder: Path) -> None:
    declared = module.declared_input("ids=batch,time")

    assert (declared.dtype, declared.shape, declared.axes) == ("int64", (16,), {1: "time"})
    assert module.declared_input("image=2,3,8,8").declared == ("batch", 3, 8, 8)
