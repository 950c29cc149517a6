import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeport.contracts import Budget, Precision, TensorSpec, dump_json, load_json
from edgeport.contracts.recipe import Recipe, SamplesFile, SamplesFunction, Search
from edgeport.errors import RecipeError
from edgeport.recipe import explain, load_recipe, schema

FULL = """\
[model]
source = "nets.small:SmallNet"
arguments = { width = 16, "odd key" = [1.5, "x"] }
weights = "weights.safetensors"
name = "small net"

[inputs.image]
shape = ["batch", 3, 32, 32]
range = [0.0, 1.0]

[inputs.mask]
shape = ["batch", 4]
dtype = "int64"

[data]
calibration = "samples:calibration"
evaluation = "evaluation.npz"
target = "label"
output = "logits"
labels = "names.txt"

[export]
opset = 18
dynamic_batch = false

[[target]]
backend = "onnxruntime"
precisions = ["fp32", "int8"]
threads = 2

[[target]]
backend = "my.runtime:create"

[budget]
accuracy_drop = 0.005
latency = "p90 <= 5 ms"
peak_memory = "500 MiB"
size = "10 MB"
first_inference = "0.2 s"

[search]
rounds = 12
seed = 7
calibration_method = "percentile:99.99"
time_limit_s = 1800
memory_limit = "1500 MB"
"""


def test_four_lines_are_a_recipe(write: Callable[[str], Path], minimal: str) -> None:
    path = write(minimal)

    recipe = load_recipe(path)

    assert len(minimal.splitlines()) == 4
    assert recipe.name == "create"
    assert recipe.source.search_path == path.parent
    assert recipe.data.evaluation == SamplesFile(path=path.parent / "evaluation.npz")
    assert recipe.data.metric == "agreement"
    assert [target.backend for target in recipe.targets] == ["onnxruntime"]
    assert (recipe.budget, recipe.search) == (Budget(), Search())


def test_every_key_arrives(write: Callable[[str], Path], folder: Path) -> None:
    recipe = load_recipe(write(FULL))

    assert recipe.source.arguments == {"width": 16, "odd key": [1.5, "x"]}
    assert recipe.source.weights == folder / "weights.safetensors"
    assert recipe.inputs == (
        TensorSpec(name="image", dtype="float32", shape=("batch", 3, 32, 32), value_range=(0.0, 1.0)),
        TensorSpec(name="mask", dtype="int64", shape=("batch", 4)),
    )
    assert recipe.data.calibration == SamplesFunction(function="samples:calibration", search_path=folder)
    assert (recipe.data.metric, recipe.data.output, recipe.data.labels) == ("top1", "logits", ("cat", "dog"))
    assert (recipe.export.opset, recipe.export.dynamic_batch) == (18, False)
    assert recipe.targets[0].precisions == (Precision.FP32, Precision.INT8)
    assert recipe.targets[0].execution.threads == 2
    assert recipe.budget == Budget(
        accuracy_drop=0.005,
        latency_quantile=0.9,
        latency_ns=5_000_000,
        peak_memory_bytes=500 << 20,
        size_bytes=10_000_000,
        first_inference_ns=200_000_000,
    )
    assert (recipe.search.rounds, recipe.search.seed) == (12, 7)


@pytest.mark.parametrize("text", ["minimal", FULL], ids=["minimal", "full"])
def test_what_explain_prints_loads_to_the_same_recipe(write: Callable[[str], Path], minimal: str, text: str) -> None:
    recipe = load_recipe(write(minimal if text == "minimal" else text))

    again = load_recipe(write(explain(recipe)))

    assert again == recipe


def test_explain_marks_defaults_and_nothing_else(write: Callable[[str], Path]) -> None:
    lines = explain(load_recipe(write(FULL))).splitlines()

    marked = {line.split(" =")[0] for line in lines if line.endswith("# default")}

    assert "allow_legacy_exporter" in marked
    assert not {"opset", "dynamic_batch", "accuracy_drop", "rounds", "source", "name"} & marked


def test_a_recipe_is_stored_as_json(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(write(FULL))

    assert load_json(Recipe, dump_json(recipe)) == recipe


def test_int8_may_be_left_out_together_with_the_calibration_samples(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(
        write(
            'model.source = "timm:resnet18"\ndata.evaluation = "evaluation.npz"\n'
            '[[target]]\nbackend = "openvino"\nprecisions = ["fp32", "bf16"]\n'
        )
    )

    assert recipe.data.calibration is None
    assert replace(recipe.source).location == "timm:resnet18"


@pytest.mark.parametrize(
    ("source", "location"),
    [
        pytest.param("hf:org/net", "hf:org/net", id="name"),
        pytest.param("hf:./bert", "hf:{folder}/bert", id="folder"),
        pytest.param("hf:bert", "hf:{folder}/bert", id="folder-without-dot"),
        pytest.param("ultralytics:net.pt", "ultralytics:{folder}/net.pt", id="checkpoint"),
        pytest.param("ultralytics:yolov8n.yaml", "ultralytics:yolov8n.yaml", id="architecture"),
    ],
)
def test_paths_behind_a_scheme_start_at_the_recipe(
    write: Callable[[str], Path], minimal: str, folder: Path, source: str, location: str
) -> None:
    (folder / "bert").mkdir()
    (folder / "net.pt").write_bytes(b"")
    path = write(minimal.replace("net:create", source))

    recipe = load_recipe(path)

    assert recipe.source.location == location.format(folder=folder)
    assert recipe.source.search_path is None
    assert load_recipe(write(explain(recipe))).source == recipe.source


@pytest.mark.parametrize(
    ("source", "line", "found"),
    [
        pytest.param(
            "net:create", 'allow_pickle_sha256 = "' + "a" * 64 + '"', "nothing else may", id="not-ultralytics"
        ),
        pytest.param("ultralytics:a.pt", 'allow_pickle_sha256 = "abc"', "is no SHA-256", id="no-digest"),
        pytest.param("hf:bert", 'weights = "weights.safetensors"', "carries its weights", id="weights-twice"),
    ],
)
def test_what_does_not_go_together_in_model_is_said(
    write: Callable[[str], Path], source: str, line: str, found: str
) -> None:
    with pytest.raises(RecipeError, match=found):
        load_recipe(
            write(
                f'[model]\nsource = "{source}"\n{line}\n[data]\ncalibration = "calibration.npz"\n'
                'evaluation = "evaluation.npz"\n'
            )
        )


def test_the_schema_names_every_section() -> None:
    described = schema()

    assert set(described["properties"]) == {
        *("model", "inputs", "axes", "state", "data", "export", "compress", "target", "budget", "search")
    }
    assert described["additionalProperties"] is False
    json.dumps(described)


@pytest.mark.parametrize("pruned", [True, False], ids=["pruned", "others"])
def test_pruned_weights_take_the_place_of_what_a_source_carries(tmp_path: Path, pruned: bool) -> None:
    import json

    import numpy as np
    from safetensors.numpy import save_file

    record = {"edgeport.pruning": json.dumps({"schema_version": 1, "sizes": {}, "blocks": {}})}
    save_file({"x": np.zeros(2, np.float32)}, tmp_path / "small.safetensors", metadata=record if pruned else None)
    np.savez(tmp_path / "samples.npz", image=np.zeros((2, 3), np.float32))
    (tmp_path / "bert").mkdir()
    recipe = tmp_path / "edgeport.toml"
    recipe.write_text(
        '[model]\nsource = "hf:./bert"\nweights = "small.safetensors"\n[data]\nevaluation = "samples.npz"\n'
        '[[target]]\nbackend = "onnxruntime"\nprecisions = ["fp32"]\n',
        encoding="utf-8",
    )
    if pruned:
        assert load_recipe(recipe).source.weights == tmp_path / "small.safetensors"
    else:
        with pytest.raises(RecipeError, match="carries its weights already"):
            load_recipe(recipe)
