"""Whole runs of the command over files as people have them: photographs, WAV files and a table."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import Outcome, RunResult, load_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # each measures for half a minute or more

SEARCH = """
[[target]]
backend = "onnxruntime"
precisions = ["fp32", "int8"]

[budget]
accuracy_drop = 0.05

[search]
rounds = 6
duration_s = 0.02
"""


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_recipe(folder: Path, recipe: str) -> RunResult:
    """Runs it as a user would, and sees that what ships is whole and gives its recorded outputs."""
    (folder / "recipe.toml").write_text(recipe + SEARCH, encoding="utf-8")
    store = str(folder / "store")
    run("-m", "edgeport", "run", "recipe.toml", "-o", "out", "--store", store, folder=folder)
    result = load_json(RunResult, (folder / "out" / "result.json").read_bytes())
    assert result.outcome is Outcome.PASS
    checked = json.loads(run("-m", "edgeport", "bundle", "verify", "out/bundle", "--json", folder=folder))
    assert checked["problems"] == []
    return result


def verified(result: RunResult, samples: int) -> None:
    """int8 was built, ran as integers, and answers every sample as the float model does."""
    for name in ("onnxruntime fp32", "onnxruntime int8"):
        found = result.candidate(name).accuracy
        assert found is not None, result.candidate(name).refusal
        assert (found.metric, found.samples, found.value.estimate) == ("top1", samples, 1.0)
    int8 = result.candidate("onnxruntime int8")
    assert int8.accuracy is not None
    assert int8.accuracy.outcome is Outcome.PASS
    # On a busy machine int8 may not be surely faster; nothing else may keep it from shipping.
    assert int8.refusal is None or int8.refusal.code in ("NO_GAIN", "SLOWER"), int8.refusal


NET = '''
"""Which way do stripes run? A network with weights that are known, and photographs of many sizes."""
import sys
from pathlib import Path
import numpy as np
import torch
from torch import nn

class Stripes(nn.Module):
    """Images float32 [N, 3, 32, 32] to scores float32 [N, 2]: how steep they are along either axis."""
    def __init__(self):
        super().__init__()
        edges = torch.zeros(2, 3, 3, 3)
        edges[0, :, 0, 1], edges[0, :, 2, 1] = 1.0, -1.0
        edges[1, :, 1, 0], edges[1, :, 1, 2] = 1.0, -1.0
        self.look = nn.Conv2d(3, 32, 3, bias=False)
        self.look.weight = nn.Parameter(edges.repeat(16, 1, 1, 1))
        self.mix = nn.Conv2d(32, 2, 1, bias=False)
        self.mix.weight = nn.Parameter(torch.eye(2).repeat(1, 16)[:, :, None, None] / 16)
    def forward(self, image):
        return torch.relu(self.mix(torch.relu(self.look(image)))).mean(dim=(2, 3))
'''

PHOTOGRAPHS = """
[model]
source = "stripes_net:Stripes"

[inputs.image]
shape = ["batch", 3, 32, 32]

[inputs.image.preprocess]
resize = 36
crop = 32
scale = "1/255"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
fold = true

[data]
calibration = "calibration"
evaluation = "evaluation"
labels = ["lying", "standing"]
"""


def draw_photographs(folder: Path, count: int, seed: int) -> None:
    """PNG files, in a folder per class; these are listed as the model counts them."""
    from PIL import Image

    random = np.random.default_rng(seed)
    for label, name in enumerate(("lying", "standing")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            rows, columns = np.mgrid[: random.integers(36, 60), : random.integers(36, 60)]
            wave = np.sin((columns if label else rows) * random.uniform(0.4, 0.8) + random.uniform(0, 6))
            noise = random.normal(0, 15, (*wave.shape, 3))
            pixels = (128 + 90 * wave[:, :, None] + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")


def test_photographs_are_fed_as_uint8(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "stripes_net.py").write_text(NET, encoding="utf-8")
    draw_photographs(tmp_path / "calibration", 16, seed=1)
    draw_photographs(tmp_path / "evaluation", 60, seed=2)

    result = run_recipe(tmp_path, PHOTOGRAPHS)

    verified(result, samples=120)
    assert result.verification is not None
    assert (result.verification.outcome, result.verification.samples) == (Outcome.PASS, 120)
    (fed,) = json.loads((tmp_path / "out" / "bundle" / "manifest.json").read_text(encoding="utf-8"))["inputs"]
    assert (fed["dtype"], fed["shape"]) == ("uint8", ["batch", 32, 32, 3])
    # The folder that ships takes the files themselves, and answers as PyTorch does on what torch code makes of them.
    photographs = sorted((tmp_path / "evaluation").rglob("*.png"))
    run("out/bundle/run.py", "--input", *map(str, photographs), "--output", "scores.npz", folder=tmp_path)
    with np.load(tmp_path / "scores.npz") as file:
        shipped = file["output"].argmax(axis=1)
    assert shipped.tolist() == float_labels(tmp_path, [image.open(path) for path in photographs])


def float_labels(folder: Path, photographs: list[Any]) -> list[int]:
    """What PyTorch says, over Pillow's own resize and a crop that is written out here."""
    import importlib.util

    import torch

    spec = importlib.util.spec_from_file_location("stripes_net_of_the_test", folder / "stripes_net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net, labels = module.Stripes().eval(), []
    for photograph in photographs:
        factor = 36 / min(photograph.size)
        size = tuple(int(side * factor) for side in photograph.size)
        left, top = (round((side - 32) / 2) for side in size)
        pixels = np.asarray(photograph.resize(size, 2).crop((left, top, left + 32, top + 32)), np.float32)
        ready = (pixels / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
        with torch.inference_mode():
            labels.append(int(net(torch.from_numpy(ready.transpose(2, 0, 1)[None])).argmax()))
    return labels


def write_layers(path: Path, source: tuple[str, int], weights: list[np.ndarray], *, squared: bool = False) -> None:
    """A network of two matrix products: float32 [batch, n] to scores float32 [batch, classes]."""
    between = [helper.make_node("Mul", ["a", "a"], ["b"])] if squared else [helper.make_node("Relu", ["a"], ["b"])]
    name, size = source
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [name, "first"], ["a"]),
            *between,
            helper.make_node("MatMul", ["b", "second"], ["y"]),
        ],
        path.stem,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", weights[1].shape[1]])],
        [numpy_helper.from_array(a.astype(np.float32), n) for a, n in zip(weights, ("first", "second"), strict=True)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


SOUNDS = """
[model]
source = "tones.onnx"

[data]
calibration = "calibration"
evaluation = "evaluation"
sample_rate = 8000
labels = ["low", "middle", "high"]
"""

TONES_HZ = (400, 900, 2000)
RATE_HZ, LENGTH = 8000, 800


def test_sounds_are_read_from_wav_files(tmp_path: Path) -> None:
    from scipy.io import wavfile

    times = np.arange(LENGTH) / RATE_HZ
    waves = [wave(2 * np.pi * hertz * times) for hertz in TONES_HZ for wave in (np.sin, np.cos)]
    write_layers(
        tmp_path / "tones.onnx", ("sound", LENGTH), [np.stack(waves, 1) / 20, np.eye(3).repeat(2, axis=0)], squared=True
    )
    random = np.random.default_rng(0)
    for part, count in (("calibration", 16), ("evaluation", 40)):
        for name, hertz in zip(("low", "middle", "high"), TONES_HZ, strict=True):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                tone = random.uniform(0.4, 0.8) * np.sin(2 * np.pi * hertz * times + random.uniform(0, 6))
                noisy = tone + random.normal(0, 0.05, LENGTH)
                wavfile.write(
                    tmp_path / part / name / f"{number:02}.wav",
                    RATE_HZ,
                    (noisy.clip(-1, 1) * 32767).astype(np.int16),
                )

    verified(run_recipe(tmp_path, SOUNDS), samples=120)  # folders are listed high, low, middle


TABLE = """
[model]
source = "sensors.onnx"

[data]
calibration = "some.csv"
evaluation = "others.csv"
columns = { readings = ["left", "right", "above", "below"] }
target = "where"
labels = ["west", "east", "up", "down"]
"""


def test_rows_are_read_from_a_table(tmp_path: Path) -> None:
    write_layers(
        tmp_path / "sensors.onnx", ("readings", 4), [np.eye(4).repeat(16, axis=1), np.eye(4).repeat(16, axis=0)]
    )
    random = np.random.default_rng(0)
    for name, count in (("some", 64), ("others", 120)):
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["below", "above", "right", "left", "where"])
            for label in random.integers(0, 4, count):
                readings = random.uniform(-1, 1, 4)
                readings[label] += 2.5
                writer.writerow([*readings[::-1].round(4), ("west", "east", "up", "down")[label]])

    verified(run_recipe(tmp_path, TABLE), samples=120)
