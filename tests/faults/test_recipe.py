"""A wrong recipe is told by its line, its key and the nearest right one; nothing is written."""

from pathlib import Path

import numpy as np
import pytest

from edgeport.errors import RecipeError
from edgeport.recipe import load_recipe

BASE = """\
[model]
source = "net:create"
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("calibration", "evaluation"):
        np.savez(tmp_path / f"{name}.npz", image=np.zeros((2, 3), np.float32))
    return tmp_path


def refused(folder: Path, text: str | bytes) -> RecipeError:
    path = folder / "recipe.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = sorted(folder.iterdir())
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert sorted(folder.iterdir()) == before
    assert (caught.value.code, caught.value.exit_code) == ("RECIPE_INVALID", 2)
    return caught.value


@pytest.mark.parametrize(
    ("extra", "line", "key", "found", "fix"),
    [
        pytest.param('calibraton = "x.npz"', 6, "data.calibraton", "no such key", '"calibration"', id="unknown-key"),
        pytest.param("[budgt]", 6, "budgt", "no such key", '"budget"', id="unknown-section"),
        pytest.param(
            'metric = "mae"\n[export]\naccuracy_drop = 0.1',
            8,
            "export.accuracy_drop",
            "no such key",
            "belongs into [budget]",
            id="key-of-another-section",
        ),
        pytest.param(
            "[inputs.image]\nshap = [1]", 7, "inputs.image.shap", "no such key", '"shape"', id="mistyped-required-key"
        ),
        pytest.param('[export]\nopset = "20"', 7, "export.opset", '"20" should be', "", id="wrong-type"),
        pytest.param("[export]\nopset = 99", 7, "export.opset", "99 should be less", "", id="out-of-range"),
        pytest.param("[[target]]\nthreads = 2", 6, "target.0.backend", "is missing", "onnxruntime", id="missing-key"),
        pytest.param('[target]\nbackend = "openvino"', 6, "target", "list", "[[target]]", id="one-bracket-too-few"),
        pytest.param(
            '[[target]]\nbackend = "openvion"', 7, "target.0.backend", "openvion", '"openvino"', id="unknown-backend"
        ),
        pytest.param(
            '[[target]]\nbackend = "onnxruntime"\nstreams = 2\nstages = 2',
            9,
            "target.0.stages",
            "stands beside streams",
            "a stage works on one call",
            id="streams-and-stages",
        ),
        pytest.param(
            '[[target]]\nbackend = "onnx"', 7, "target.0.backend", "onnx", '"onnxruntime"', id="beginning-of-a-backend"
        ),
        pytest.param(
            '[[target]]\nbackend = "openvino"\nprecisions = ["int4"]',
            8,
            "target.0.precisions.0",
            '"int4" is none of',
            '"int4-weights-32"',
            id="unknown-precision",
        ),
        pytest.param(
            '[[target]]\nbackend = "openvino"\n[[target]]\nbackend = "openvino"',
            8,
            "target.1",
            "stands above",
            "remove",
            id="target-twice",
        ),
        pytest.param(
            '[[target]]\nbackend = "openvino"\nprecisions = ["fp32", "fp32"]',
            8,
            "target.0.precisions",
            "fp32",
            "each once",
            id="precision-twice",
        ),
        pytest.param(
            '[[target]]\nbackend = "openvino"\ndevice = "ssh:pi"',
            8,
            "target.0.device",
            "ssh:pi",
            '"local"',
            id="remote-device",
        ),
        pytest.param('metric = "tpo1"', 6, "data.metric", "tpo1", '"top1"', id="unknown-metric"),
        pytest.param('metric = "acc"', 6, "data.metric", "acc", '"top1"', id="another-name-of-a-metric"),
        pytest.param('metric = "top1"', 6, "data.metric", "needs labels", "agreement", id="metric-without-labels"),
        pytest.param('labels = "l.txt"', 6, "data.labels", "is not there", "", id="missing-labels-file"),
        pytest.param("[budget]\naccuracy_drop = -0.1", 7, "budget.accuracy_drop", "can't be kept", "0 or", id="gain"),
        pytest.param("[budget]\naccuracy_drop = nan", 7, "budget.accuracy_drop", "can't be kept", "0 or", id="nan"),
        pytest.param(
            "[budget]\naccuracy_drop = 1", 7, "budget.accuracy_drop", "allows everything", "0.01", id="percent"
        ),
        pytest.param(
            "[budget]\naccuracy_drop = 0.0", 7, "budget.accuracy_drop", "nothing is lost", "0.005", id="no-drop-at-all"
        ),
        pytest.param(
            '[budget]\nlatency = "fast"', 7, "budget.latency", "can't be read", "p50 <= 5 ms", id="no-latency"
        ),
        pytest.param(
            '[budget]\nlatency = "0 ms"', 7, "budget.latency", "can't be kept", "above zero", id="zero-latency"
        ),
        pytest.param('[budget]\nlatency = "5 ns"', 7, "budget.latency", "more than 1 us", "ms?", id="too-fast"),
        pytest.param('[budget]\nsize = "0 MB"', 7, "budget.size", "can't be kept", "above zero", id="zero-size"),
        pytest.param(
            '[budget]\nthroughput = "0 /s"',
            7,
            "budget.throughput",
            "can't be read",
            "above 0 per second",
            id="throughput",
        ),
        pytest.param("[search]\nrounds = 0", 7, "search.rounds", "can prove no gain", "6 or more", id="no-rounds"),
        pytest.param("[search]\nrounds = 5", 7, "search.rounds", "from 5 pairs is 0.062", "6 or more", id="few-rounds"),
        pytest.param(
            "[search]\nscreening_rounds = 0",
            7,
            "search.screening_rounds",
            "greater than or equal to 1",
            "",
            id="no-screening",
        ),
        pytest.param(
            "[export]\ndynamic_batch = true\n[inputs.image]\nshape = [4, 3]",
            9,
            "inputs.image.shape",
            "fixed to 4",
            "leave dynamic_batch out",
            id="batch-fixed-and-free",
        ),
        pytest.param(
            "[inputs.image]\nshape = [4, 3]\n[inputs.mask]\nshape = [1, 3]",
            7,
            "inputs.image.shape",
            "is 4 and 1",
            "the same batch",
            id="two-batches",
        ),
        pytest.param(
            "[inputs.image]\nshape = [0, 3]", 7, "inputs.image.shape", "is 0", "1 or more", id="batch-of-none"
        ),
        pytest.param(
            '[search]\ncalibration_method = "entropi"',
            7,
            "search.calibration_method",
            "no range method",
            "did you mean 'entropy'",
            id="unknown-method",
        ),
        pytest.param(
            '[search]\nrecovery = ["bias-corection"]',
            7,
            "search.recovery",
            "no such method",
            "did you mean 'bias-correction'",
            id="unknown-recovery",
        ),
        pytest.param("[inputs.image]\nshape = [1, -3]", 7, "inputs.image.shape", "-3", "1 or more", id="negative-axis"),
        pytest.param(
            "[[compress]]\nprune = 0.5", 6, "compress.0.method", "is missing", 'method = "prune"', id="compress"
        ),
    ],
)
def test_a_mistake_is_told_by_line_and_key(folder: Path, extra: str, line: int, key: str, found: str, fix: str) -> None:
    error = refused(folder, BASE + extra)

    assert (error.details["line"], error.details["key"]) == (line, key)
    assert found in error.found
    assert error.found.startswith(f"line {line}, ")
    assert error.fix
    assert fix in error.fix


@pytest.mark.parametrize(
    ("old", "new", "found", "fix"),
    [
        pytest.param("calibration.npz", "calibratoin.npz", "is not there", '"calibration.npz"', id="missing-file"),
        pytest.param("calibration.npz", "evaluation.npz", "is the calibration set too", "split", id="same-samples"),
        pytest.param("calibration.npz", "images/", "is not there", "a folder of images", id="missing-folder"),
        pytest.param("calibration.npz", "c.mp4", "nothing that samples are read from", ".npy or .csv", id="video"),
        pytest.param("net:create", "net.onnx", "is not there", "a file that exists", id="missing-model"),
        pytest.param("net:create", "net.pth", "is a checkpoint", 'weights = "net.pth"', id="checkpoint-as-source"),
        pytest.param("net:create", "resnet18", "is no model", "pkg.mod:factory", id="bare-name"),
        pytest.param("net:create", "timm:", "no model behind the colon", '"timm:NAME"', id="bare-scheme"),
        pytest.param("net:create", "net.py:create", "names a file", '"net:create"', id="file-name-as-module"),
        pytest.param(
            'calibration = "calibration.npz"\n', "", "calibration: is missing", 'leave "int8" out', id="no-calibration"
        ),
        pytest.param(
            'evaluation = "evaluation.npz"\n', "", "evaluation: is missing", "evaluation.npz", id="no-evaluation"
        ),
        pytest.param(
            'source = "net:create"', 'source = "net:create"\nname = "a/../b"', "can't name a file", "slashes", id="name"
        ),
        pytest.param(
            'source = "net:create"',
            'source = "net:create"\narguments = { day = 2026-01-01 }',
            "is a date",
            "quotes",
            id="date-as-argument",
        ),
        pytest.param(
            'source = "net:create"',
            'source = "net:create"\nlicence = "MIT License"',
            "no SPDX expression",
            'did you mean "MIT"?',
            id="licence-with-its-word",
        ),
        pytest.param('source = "net:create"', "source = net:create", "no valid TOML", "quotes", id="missing-quotes"),
        pytest.param('[model]\nsource = "net:create"\n', "", "[model]: is missing", "net:create", id="no-model"),
    ],
)
def test_sections_that_do_not_hold(folder: Path, old: str, new: str, found: str, fix: str) -> None:
    error = refused(folder, BASE.replace(old, new, 1))

    assert found in error.found
    assert fix in error.fix


def test_an_error_metric_needs_its_own_budget(folder: Path) -> None:
    error = refused(folder, BASE + 'metric = "mae"')

    assert "accuracy_drop: is missing" in error.found
    assert not error.found.startswith("line")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(b"\xff\xfe", "not UTF-8", id="utf-16"),
        pytest.param(b"x = " + b"[" * 20_000, "", id="deeply-nested"),
        pytest.param(b"#" * (2 << 20), "more than 1 MiB", id="too-large"),
        pytest.param(b"", "[model]: is missing", id="empty"),
    ],
)
def test_a_file_that_is_no_recipe(folder: Path, content: bytes, found: str) -> None:
    assert found in refused(folder, content).found


def test_a_missing_recipe_names_the_one_beside_it(folder: Path) -> None:
    (folder / "edgeport.toml").write_text("")

    with pytest.raises(RecipeError, match="no such file") as caught:
        load_recipe(folder / "edgport.toml")

    assert caught.value.fix == 'did you mean "edgeport.toml"?'


def test_several_mistakes_are_all_in_the_details(folder: Path) -> None:
    error = refused(folder, BASE + 'a = 1\nb = 2\n[export]\nopset = "x"')

    assert error.details["line"] == 6
    assert len(error.details["others"]) == 2
