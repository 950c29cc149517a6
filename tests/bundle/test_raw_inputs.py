"""A bundle's program prepares raw samples exactly as calibration and evaluation had them prepared."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeport.bundle import BundleContents, verify_bundle, write_bundle
from edgeport.contracts import Preprocessing, PreprocessingFunction, TensorSpec
from edgeport.errors import OutputError
from edgeport.preprocessing import apply

IMAGE = Preprocessing(resize=12, crop=(8, 9), scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), color="BGR")
GREY = Preprocessing(resize=(8, 9), scale=1 / 255)
WORDS = """
import numpy as np
def encode(texts):
    return np.array([[len(text), 1, 2] for text in texts], np.float32)
"""


def with_input(contents: BundleContents, declared: object, shape: tuple, **options: object) -> BundleContents:
    spec = TensorSpec(name="x", dtype="float32", shape=shape, preprocessing=declared)
    sample = np.zeros((2, *shape[1:]), np.float32)
    model = replace(contents.model, inputs=(spec,))
    return replace(contents, model=model, sample={"x": sample}, expected={"scores": sample * 2}, **options)


@pytest.fixture
def bundle(contents: BundleContents, tmp_path: Path) -> Callable[..., Path]:
    def write(*arguments: object, **options: object) -> Path:
        return write_bundle(with_input(contents, *arguments, **options), tmp_path / "room" / "bundle").folder

    return write


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(folder / "run.py"), *map(str, arguments), "--output", str(tmp_path / "out.npz")]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)

    return run


@pytest.fixture
def scores(tmp_path: Path) -> Callable[[], np.ndarray]:
    def scores() -> np.ndarray:
        with np.load(tmp_path / "out.npz") as file:
            return file["scores"]

    return scores


def raw_images(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 20, 17, channels), dtype=np.uint8)


def test_raw_images_in_a_file(bundle, run, scores, tmp_path: Path) -> None:
    folder = bundle(IMAGE, ("batch", 3, 8, 9))
    np.savez(tmp_path / "raw.npz", x=raw_images())
    done = run(folder, "--input", tmp_path / "raw.npz")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(scores(), apply(IMAGE, raw_images()) * 2)
    assert verify_bundle(folder) == []
    assert "`x` takes raw images (uint8)" in (folder / "README.md").read_text()


@pytest.mark.parametrize("channels", [3, 1], ids=["colour", "grey"])
def test_image_files(bundle, run, scores, tmp_path: Path, channels: int) -> None:
    image = pytest.importorskip("PIL.Image")
    declared = IMAGE if channels == 3 else GREY
    raw = [raw_images(channels)[0], raw_images(channels)[1][:14]]
    for number, one in enumerate(raw):
        image.fromarray(one if channels == 3 else one[:, :, 0]).save(tmp_path / f"{number}.png")
    done = run(bundle(declared, ("batch", channels, 8, 9)), "--input", tmp_path / "0.png", tmp_path / "1.png")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(scores(), apply(declared, raw) * 2)


def test_the_recorded_sample_and_what_is_preprocessed_go_in_as_they_are(bundle, run, scores, tmp_path: Path) -> None:
    folder = bundle(IMAGE, ("batch", 3, 8, 9))
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "outputs are equal" in done.stdout
    prepared = apply(IMAGE, raw_images())
    np.savez(tmp_path / "prepared.npz", x=prepared)
    assert run(folder, "--input", tmp_path / "prepared.npz", "--preprocessed").returncode == 0
    np.testing.assert_array_equal(scores(), prepared * 2)
    done = run(folder, "--input", tmp_path / "prepared.npz")
    assert done.returncode == 1
    assert "need --preprocessed" in done.stderr


def test_raw_arrays_have_the_name_that_is_declared(bundle, run, tmp_path: Path) -> None:
    folder = bundle(replace(IMAGE, raw="pictures"), ("batch", 3, 8, 9))
    np.savez(tmp_path / "raw.npz", pictures=raw_images(), x=np.zeros(3))
    assert run(folder, "--input", tmp_path / "raw.npz").returncode == 0
    np.savez(tmp_path / "raw.npz", x=raw_images())
    done = run(folder, "--input", tmp_path / "raw.npz")
    assert "run.py: input x is made from raw samples called pictures; the file has ['x']" in done.stderr


def test_a_function_that_ships_takes_raw_items(bundle, run, scores, tmp_path: Path) -> None:
    (tmp_path / "my_words.py").write_text(WORDS)
    declared = PreprocessingFunction(function="my_words:encode", raw="text", ship=True)
    folder = bundle(declared, ("batch", 3), modules={"my_words": tmp_path / "my_words.py"})
    np.savez(tmp_path / "raw.npz", text=np.array(["one", "three"]))
    done = run(folder, "--input", tmp_path / "raw.npz")
    assert done.returncode == 0, done.stderr
    assert scores().tolist() == [[6, 2, 4], [10, 2, 4]]
    assert verify_bundle(folder) == []


def test_a_function_that_does_not_ship_is_named(bundle, run, scores, tmp_path: Path) -> None:
    folder = bundle(PreprocessingFunction(function="my_words:encode", raw="text"), ("batch", 3))
    np.savez(tmp_path / "raw.npz", text=np.array(["one"]))
    done = run(folder, "--input", tmp_path / "raw.npz")
    assert done.returncode == 1
    assert "input x is made by my_words:encode, which is not in this bundle; give what it returns" in done.stderr
    np.savez(tmp_path / "tensors.npz", x=np.ones((1, 3), np.float32))
    assert run(folder, "--input", tmp_path / "tensors.npz", "--preprocessed").returncode == 0
    assert scores().tolist() == [[2, 2, 2]]
    assert "which is not in here: give what it returns" in (folder / "README.md").read_text()


def test_image_files_for_a_model_that_takes_none(contents: BundleContents, run, tmp_path: Path) -> None:
    folder = write_bundle(contents, tmp_path / "bundle").folder
    assert not (folder / "preprocess.py").exists()
    done = run(folder, "--input", tmp_path / "a.png")
    assert done.returncode == 1
    assert "a.png is no .npz, and this model does not take raw images alone; give an .npz with ['x']" in done.stderr


def test_what_is_no_image_is_named(bundle, run, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "a.png").write_text("no image")
    done = run(bundle(IMAGE, ("batch", 3, 8, 9)), "--input", tmp_path / "a.png")
    assert done.returncode == 1
    assert "a.png can't be read as an image" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_can_not_take_the_place_of_the_bundles_own(contents: BundleContents, tmp_path: Path) -> None:
    (tmp_path / "session.py").write_text(WORDS)
    declared = PreprocessingFunction(function="session:encode", ship=True)
    packed = with_input(contents, declared, ("batch", 3), modules={"session": tmp_path / "session.py"})
    with pytest.raises(OutputError, match=r"a bundle has a session.py of its own"):
        write_bundle(packed, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
