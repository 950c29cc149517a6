"""Named targets and their budgets, as a recipe has them."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgeport.contracts import ExecutionConfig, ModelParallel
from edgeport.errors import RecipeError
from edgeport.recipe import explain, load_recipe

BASE = """\
[model]
source = "net:create"

[data]
evaluation = "evaluation.npz"

[budget]
accuracy_drop = 0.02
size = "10 MB"
"""

TWO = (
    BASE
    + """
[[target]]
name = "server"
backend = "onnxruntime"
precisions = ["fp32"]

[[target]]
name = "board"
backend = "onnxruntime"
precisions = ["fp32"]

[target.budget]
latency = "p90 <= 5 ms"
throughput = "200/s"
size = "2 MB"

[[target]]
name = "board"
backend = "openvino"
precisions = ["fp32"]
"""
)


def test_each_name_has_its_targets_and_its_budget(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(write(TWO))
    server, board = recipe.groups

    assert [(server.name, len(server.targets)), (board.name, len(board.targets))] == [("server", 1), ("board", 2)]
    assert server.budget == recipe.budget
    assert (board.budget.accuracy_drop, board.budget.size_bytes) == (0.02, 2_000_000)
    assert (board.budget.latency_quantile, board.budget.latency_ns) == (0.9, 5_000_000)
    assert board.budget.throughput_per_s == 200.0


def test_what_is_explained_loads_to_the_same(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(write(TWO))

    assert load_recipe(write(explain(recipe))) == recipe


def test_without_names_there_is_one_group(write: Callable[[str], Path]) -> None:
    (only,) = load_recipe(write(BASE + '[[target]]\nbackend = "onnxruntime"\nprecisions = ["fp32"]\n')).groups

    assert (only.name, only.budget.accuracy_drop) == ("", 0.02)


@pytest.mark.parametrize(
    ("change", "found", "fix"),
    [
        pytest.param(('name = "server"', 'name = "../x"'), "can't name a folder", "letters, digits", id="path"),
        pytest.param(('name = "server"', 'name = "bundle"'), "itself", "letters", id="taken"),
        pytest.param(('name = "server"\n', ""), "number 2", "name all of them or none", id="one-without"),
        pytest.param(('name = "server"', 'name = ""'), "is empty", "remove this line", id="empty"),
        pytest.param(('name = "server"', 'name = "Board"'), "one folder", 'did you mean "Board"?', id="case"),
        pytest.param(("latency =", "latncy ="), "line 22", 'did you mean "latency"?', id="typo-in-a-budget"),
        pytest.param(('"200/s"', '"200"'), '[[target]] number 2 budget throughput: "200" can', "200/s", id="no-rate"),
        pytest.param(('"2 MB"', '"0 MB"'), "number 2 budget size", "above zero", id="no-size"),
        pytest.param(
            ('backend = "openvino"', 'backend = "openvino"\nbudget = { size = "1 MB" }'),
            "a second budget of board",
            "at one target",
            id="two-budgets",
        ),
    ],
)
def test_mistakes_name_the_target(write: Callable[[str], Path], change: tuple[str, str], found: str, fix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(TWO.replace(*change)))

    assert found in caught.value.found
    assert fix in caught.value.fix


def test_a_budget_without_a_name_belongs_to_the_recipe(write: Callable[[str], Path]) -> None:
    text = BASE + '[[target]]\nbackend = "onnxruntime"\nprecisions = ["fp32"]\n[target.budget]\nsize = "1 MB"\n'

    with pytest.raises(RecipeError, match="without a name") as caught:
        load_recipe(write(text))

    assert "write it as [budget]" in caught.value.fix


def test_what_samples_can_not_prove_is_said_of_each_name(write: Callable[[str], Path]) -> None:
    text = explain(load_recipe(write(TWO.replace('precisions = ["fp32"]', 'precisions = ["fp32", "bf16"]', 1))))

    notes = [line for line in text.splitlines() if line.startswith("# note: ")]
    assert len(notes) == 1  # "board" builds float32 alone, which needs no proof
    assert notes[0].startswith("# note: server: 2 evaluation samples can't prove")


MIXED = (
    BASE
    + """
[[target]]
backend = "onnxruntime"
precisions = ["fp32", "int4-weights-32"]

[[target]]
backend = "onnxruntime"
precisions = ["int8-weights"]
rest = "fp32"

[target.nodes]
"encoder.layer.0" = "int4-weights-64"
"*attention*" = "fp32"
"""
)


def test_a_target_may_give_nodes_a_precision_of_their_own(write: Callable[[str], Path]) -> None:
    plain, mixed = load_recipe(write(MIXED)).targets
    assert plain.mix.is_plain
    # In the order of the file: the last one that fits counts.
    assert [(choice.what, str(choice.precision)) for choice in mixed.mix.nodes] == [
        ("encoder.layer.0", "int4-weights-64"),
        ("*attention*", "fp32"),
    ]
    assert load_recipe(write(explain(load_recipe(write(MIXED))))).targets == (plain, mixed)


@pytest.mark.parametrize(
    ("line", "found", "fix"),
    [
        pytest.param('"*attention*" = "fp23"', "none of fp32", "fp32", id="precision"),
        pytest.param('"*attention*" = "int8"', "is to be built in int8", "calibration", id="needs samples"),
    ],
)
def test_mistakes_in_a_mix(line: str, found: str, fix: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(MIXED.replace('"*attention*" = "fp32"', line)))
    assert found in caught.value.found
    assert fix in caught.value.fix


def test_an_unknown_precision_names_the_nearest(write: Callable[[str], Path]) -> None:
    with pytest.raises(RecipeError, match="int4-weights-32") as caught:
        load_recipe(write(MIXED.replace('"fp32", "int4-weights-32"', '"fp32", "int4-weigths-32"')))
    assert "did you mean" in caught.value.fix


BOARDS = (
    BASE
    + """
[[target]]
backend = "onnxruntime"
precisions = ["fp32"]
devices = ["pi5", "minipc"]

[target.budget]
size = "2 MB"

[[target]]
name = "gpu"
backend = "tensorrt"
precisions = ["fp16"]
device = "orin"

[[target]]
name = "gpu"
backend = "onnxruntime"
precisions = ["fp32"]
device = "orin"
"""
)


def test_devices_make_targets_of_their_own(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(write(BOARDS))
    assert [(one.name, one.device, one.budget.size_bytes) for one in recipe.groups] == [
        ("pi5", "pi5", 2_000_000),
        ("minipc", "minipc", 2_000_000),
        ("gpu", "orin", 10_000_000),
    ]
    assert load_recipe(write(explain(recipe))) == recipe


def test_a_name_on_several_devices_is_one_on_each(write: Callable[[str], Path]) -> None:
    text = BOARDS.replace("devices =", 'name = "small"\ndevices =')
    assert [one.name for one in load_recipe(write(text)).groups] == ["small-pi5", "small-minipc", "gpu"]


def test_one_device_needs_no_name(write: Callable[[str], Path]) -> None:
    text = BASE + '[[target]]\nbackend = "onnxruntime"\nprecisions = ["fp32"]\ndevice = "pi5"\n'
    (only,) = load_recipe(write(text)).groups
    assert (only.name, only.device) == ("", "pi5")


@pytest.mark.parametrize(
    ("change", "found", "fix"),
    [
        pytest.param(('["pi5", "minipc"]', '["pi5", "pi5"]'), "a device twice", "each once", id="twice"),
        pytest.param(('["pi5", "minipc"]', "[]"), "devices", "", id="none"),
        pytest.param(('["pi5", "minipc"]', '["-oProxyCommand=x"]'), "no name of a device", "letters", id="hostile"),
        pytest.param(("devices =", 'device = "x"\ndevices ='), "both device and devices", "one of", id="both"),
        pytest.param(
            ('precisions = ["fp32"]\ndevice = "orin"', 'precisions = ["fp32"]\ndevice = "pi5"'),
            "runs on pi5, and gpu stands above for orin",
            "name them apart",
            id="one name, two devices",
        ),
    ],
)
def test_mistakes_with_devices_are_said(
    write: Callable[[str], Path], change: tuple[str, str], found: str, fix: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(BOARDS.replace(*change)))
    assert found in caught.value.found
    assert fix in caught.value.fix


def test_a_target_says_where_and_how_its_runtime_computes(write: Callable[[str], Path]) -> None:
    text = (
        BASE
        + """
[[target]]
backend = "openvino"
precisions = ["fp32"]
runtime_device = "HETERO:GPU,CPU"

[[target]]
backend = "onnxruntime"
precisions = ["fp32"]
spinning = false
affinity = [0, 2]
huge_pages = true
"""
    )
    recipe = load_recipe(write(text))
    executions = [target.execution for target in recipe.targets]
    assert executions == [
        ExecutionConfig(runtime_device="HETERO:GPU,CPU"),
        ExecutionConfig(spinning=False, affinity=(0, 2), huge_pages=True),
    ]
    assert [target.execution for target in load_recipe(write(explain(recipe))).targets] == executions


def test_a_target_may_be_cut_into_stages(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(write(BASE + '[[target]]\nbackend = "onnxruntime"\nprecisions = ["fp32"]\nstages = 3\n'))

    assert recipe.targets[0].execution.layout == ModelParallel(stages=3)
    assert load_recipe(write(explain(recipe))) == recipe


def test_a_backend_of_another_package_is_named_by_its_entry_point(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write(BASE + '[[target]]\nbackend = "chip"\nprecisions = ["fp32"]\n')
    with pytest.raises(RecipeError, match="is none of onnxruntime, openvino, tensorrt"):
        load_recipe(recipe)
    point = EntryPoint("chip", "chip_package:create_backend", "edgeport.backends")
    monkeypatch.setattr("edgeport.backends.registry.entry_points", lambda group: [point])
    assert [target.backend for target in load_recipe(recipe).targets] == ["chip"]
