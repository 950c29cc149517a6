from __future__ import annotations

import importlib.util
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeport.contracts import ProgressEvent
from edgeport.digits import prepare
from edgeport.digits.prepare import FILES
from edgeport.digits.recipe import recipe_with
from edgeport.errors import DependencyError, OutputError
from edgeport.isolation import run_isolated
from edgeport.recipe import load_recipe


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ProgressEvent], float]:
    folder = tmp_path_factory.mktemp("quickstart") / "digits"
    events: list[ProgressEvent] = []
    before = _children_cpu_s()
    recipe = prepare(folder, events.append)
    return recipe, events, _children_cpu_s() - before


def test_writes_what_a_run_needs(prepared: tuple[Path, list[ProgressEvent], float]) -> None:
    recipe, events, _ = prepared
    assert recipe.name == "edgeport.toml"
    assert sorted(path.name for path in recipe.parent.iterdir()) == sorted(FILES)
    assert events[-1].done == events[-1].total > 1
    assert "torch" not in {name for event in events for name in event.stage.split()}


def test_samples_are_disjoint_and_labelled(prepared: tuple[Path, list[ProgressEvent], float]) -> None:
    folder = prepared[0].parent
    calibration, evaluation = np.load(folder / "calibration.npz"), np.load(folder / "evaluation.npz")
    assert calibration["images"].shape == (128, 1, 32, 32)
    assert evaluation["images"].shape == (901, 1, 32, 32)
    for part in (calibration, evaluation):
        assert part["images"].dtype == np.float32
        assert (part["images"].min(), part["images"].max()) == (0.0, 1.0)
        assert set(part["target"]) == set(range(10))
    shared = {image.tobytes() for image in calibration["images"]} & {i.tobytes() for i in evaluation["images"]}
    assert not shared


def test_recipe_is_valid_and_names_these_files(prepared: tuple[Path, list[ProgressEvent], float]) -> None:
    recipe = load_recipe(prepared[0])
    folder = prepared[0].parent
    assert recipe.source.location == "digits_cnn:DigitsCnn"
    assert recipe.source.weights == folder / "weights.safetensors"
    assert recipe.data.calibration is not None
    assert recipe.data.evaluation.location == str(folder / "evaluation.npz")
    assert [target.backend for target in recipe.targets] == ["onnxruntime", "openvino", "tensorrt"]
    assert recipe.data.labels == tuple("0123456789")


def test_the_users_own_file_loads_the_weights_and_reads_digits(
    prepared: tuple[Path, list[ProgressEvent], float],
) -> None:
    import torch
    from safetensors.torch import load_file

    folder = prepared[0].parent
    spec = importlib.util.spec_from_file_location("digits_cnn_under_test", folder / "digits_cnn.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.DigitsCnn().eval()
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    evaluation = np.load(folder / "evaluation.npz")
    with torch.inference_mode():
        found = model(torch.from_numpy(evaluation["images"])).argmax(1).numpy()
    assert (found == evaluation["target"]).mean() >= 0.98


def test_network_is_large_enough_for_int8_to_matter() -> None:
    import torch

    from edgeport.digits.network import DigitsCnn

    macs = 0

    def count(module: torch.nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    model = DigitsCnn().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.zeros(1, 1, 32, 32))
    assert 20e6 < macs < 30e6


def test_a_prepared_folder_is_used_as_it_is(prepared: tuple[Path, list[ProgressEvent], float]) -> None:
    recipe, _, _ = prepared
    before = (recipe.parent / "weights.safetensors").stat().st_mtime_ns
    events: list[ProgressEvent] = []
    assert prepare(recipe.parent, events.append) == recipe
    assert not events
    assert (recipe.parent / "weights.safetensors").stat().st_mtime_ns == before


def test_a_gpu_is_a_target_and_the_folder_still_the_quickstarts(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text(recipe_with(["CUDA"]))
    recipe = prepare(tmp_path)
    ran_on = [(target.backend, target.execution.runtime_device) for target in load_recipe(recipe).targets]
    assert ran_on == [("onnxruntime", ""), ("openvino", ""), ("onnxruntime", "CUDA"), ("tensorrt", "")]


@pytest.mark.parametrize("name", FILES)
def test_the_users_files_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=name.replace(".", r"\.")):
        prepare(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights.safetensors").symlink_to(tmp_path / "target")
    with pytest.raises(OutputError, match="weights"):
        prepare(folder)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(("module", "package"), [("torch", "PyTorch"), ("sklearn", "scikit-learn")])
def test_a_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(DependencyError, match=r'pip install "edgeport\[quickstart\]"') as caught:
        prepare(tmp_path / "new")
    assert package in caught.value.found
    assert not (tmp_path / "new").exists()


def test_a_package_that_does_not_import_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sklearn.py").write_text("raise ImportError('a library of it is missing', name='sklearn')")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    with pytest.raises(DependencyError, match=r"edgeport\[quickstart\]"):
        run_isolated("edgeport.digits.train:train", {"folder": str(tmp_path)})


def test_preparing_never_loads_torch_here() -> None:
    program = "import sys, edgeport.digits.prepare; print(sorted({'torch', 'sklearn', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert "torch" not in done.stdout
    assert "sklearn" not in done.stdout


def test_is_quick(prepared: tuple[Path, list[ProgressEvent], float]) -> None:
    assert prepared[2] < 40  # processor seconds, which neighbours do not add to: 20 s on two cores


@pytest.mark.slow
def test_equal_seeds_give_equal_weights(prepared: tuple[Path, list[ProgressEvent], float], tmp_path: Path) -> None:
    run_isolated("edgeport.digits.train:train", {"folder": str(tmp_path)})
    for name in ("weights.safetensors", "calibration.npz", "evaluation.npz"):
        assert (tmp_path / name).read_bytes() == (prepared[0].parent / name).read_bytes()
