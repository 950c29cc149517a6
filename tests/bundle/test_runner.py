"""The bundle's own program, run as a user would: in a Python that knows nothing of Edgeport."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeport.bundle
from edgeport.backends.onnxruntime.backend import OnnxRuntimeBackend
from edgeport.bundle import BundleContents, load_bundle, verify_bundle, write_bundle
from edgeport.contracts import DataParallel, ExecutionConfig, Precision
from edgeport.pipeline.output.artifact_folder import save_tuned

RUNNER = Path(edgeport.bundle.__file__).parent / "runner.py"

# Installed packages are there, all but ours, which an import hook refuses; -S keeps editable installs out.
PROGRAM = """
import runpy, sys
sys.path.append({site!r})
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("edgeport", "backends", "devices"):
            raise ImportError("the bundle asked for " + name)
sys.meta_path.insert(0, Refuse())
sys.argv[0] = {script!r}
sys.path[0:0] = [{folder!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(folder / "run.py")
    program = PROGRAM.format(site=sysconfig.get_paths()["purelib"], script=script, folder=str(folder))
    command = [sys.executable, "-S", "-I", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent, timeout=60)


@pytest.fixture
def folder(contents: BundleContents, tmp_path: Path) -> Path:
    return write_bundle(contents, tmp_path / "room" / "bundle").folder


def test_recorded_sample_gives_recorded_outputs(folder: Path) -> None:
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "doubling (onnxruntime int8), samples: 3" in done.stdout
    assert "sample 0: bird (score 4)" in done.stdout
    assert "outputs are equal to those recorded on A CPU" in done.stdout
    assert verify_bundle(folder) == []  # running it leaves nothing behind


def test_own_input_is_run_and_written(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=np.float32([[9, 1, 1]]))
    done = run(folder, "--input", str(tmp_path / "mine.npz"), "--output", str(tmp_path / "out.npz"))
    assert done.returncode == 0, done.stderr
    assert "sample 0: cat (score 18)" in done.stdout
    with np.load(tmp_path / "out.npz") as found:
        assert found["scores"].tolist() == [[18, 2, 2]]


def test_labels_beside_the_inputs_are_left_out(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "evaluation.npz", x=np.float32([[9, 1, 1]]), labels=np.array([0]))
    done = run(folder, "--input", str(tmp_path / "evaluation.npz"))
    assert done.returncode == 0, done.stderr
    assert "left out, for they are no inputs: labels" in done.stdout
    assert "sample 0: cat (score 18)" in done.stdout


def test_what_is_not_known_to_be_classes_is_shown_as_values(contents: BundleContents, tmp_path: Path) -> None:
    folder = write_bundle(replace(contents, class_output="", labels=()), tmp_path / "bundle").folder
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "scores: float32 [3, 3]" in done.stdout
    assert "sample 0: 0 2 4\n" in done.stdout
    assert "class" not in done.stdout


def test_of_a_long_output_the_first_values_are_shown() -> None:
    runner = runpy.run_path(str(RUNNER))
    sequence = np.arange(12, dtype=np.float32).reshape(4, 3) / 3
    assert runner["first_values"](sequence) == "0 0.3333 0.6667 1 1.333 1.667 ... and 6 more values"
    assert runner["first_values"](np.int64(7)) == "7"
    assert runner["first_values"](np.array([True, False])) == "True False"


def test_an_output_called_file_is_written(contents: BundleContents, tmp_path: Path) -> None:
    session = Path(tmp_path / "modules" / "doubling_session.py")
    session.write_text(session.read_text().replace('"scores"', '"file"'))
    folder = write_bundle(replace(contents, expected={"file": contents.expected["scores"]}), tmp_path / "bundle").folder
    done = run(folder, "--output", str(tmp_path / "out.npz"))
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["file"], contents.expected["scores"])


def test_other_outputs_are_an_error(contents: BundleContents, tmp_path: Path) -> None:
    wrong = {"scores": contents.expected["scores"] + 2}
    done = run(write_bundle(replace(contents, expected=wrong), tmp_path / "bundle").folder)
    assert done.returncode == 1
    assert "DIFFERENT: 0.12 of the largest recorded output away" in done.stdout


@pytest.mark.parametrize(
    ("precision", "status"), [pytest.param(Precision.INT8, 0, id="int8"), pytest.param(Precision.FP32, 1, id="fp32")]
)
def test_one_step_off_is_allowed_to_integers_only(
    contents: BundleContents, tmp_path: Path, precision: Precision, status: int
) -> None:
    artifact = replace(contents.artifact, precision=precision)
    near = {"scores": contents.expected["scores"] + np.float32(0.1)}
    contents = replace(contents, candidate=replace(contents.candidate, artifact=artifact), expected=near)
    assert run(write_bundle(contents, tmp_path / "bundle").folder).returncode == status


def test_nan_is_different(contents: BundleContents, tmp_path: Path) -> None:
    np.save(contents.artifact.folder / "deep" / "factor.npy", np.float32("nan"))
    done = run(write_bundle(contents, tmp_path / "bundle").folder)
    assert done.returncode == 1
    assert "DIFFERENT: inf" in done.stdout


@pytest.mark.parametrize(
    ("got", "wanted", "expected"),
    [
        pytest.param([1.0, -np.inf], [1.0, -np.inf], 0.0, id="masked-and-equal"),
        pytest.param([np.nan, 2.0], [np.nan, 2.0], 0.0, id="nan-where-it-was"),
        pytest.param([1.5, -np.inf], [2.0, -np.inf], 0.25, id="masked-and-near"),
        pytest.param([1.0, np.inf], [1.0, -np.inf], np.inf, id="another-sign"),
        pytest.param([1.0, 5.0], [1.0, np.nan], np.inf, id="nan-that-went"),
        pytest.param([np.nan, 5.0], [1.0, 5.0], np.inf, id="nan-that-came"),
        pytest.param([np.nan, np.nan], [np.nan, np.nan], 0.0, id="nothing-else"),
    ],
)
def test_what_was_recorded_as_no_number_must_be_none_again(
    got: list[float], wanted: list[float], expected: float
) -> None:
    difference = runpy.run_path(str(RUNNER))["difference"]

    assert difference(np.float32(got), np.float32(wanted)) == expected


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"y": np.float32([[1, 2, 3]])}, "takes ['x']; the file has ['y']", id="wrong-name"),
        pytest.param({"x": np.float64([[1, 2, 3]])}, "input x is float64 [1, 3]", id="wrong-dtype"),
        pytest.param({"x": np.float32([[1, 2]])}, "input x is float32 [1, 2]", id="wrong-shape"),
        pytest.param({"x": np.zeros((0, 3), np.float32)}, "at least one", id="empty"),
    ],
)
def test_input_that_does_not_fit_is_named(
    folder: Path, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    done = run(folder, "--input", str(tmp_path / "mine.npz"))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_pickles_are_not_read(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", x=np.array([{"a": 1}], dtype=object))
    done = run(folder, "--input", str(tmp_path / "evil.npz"))
    assert done.returncode == 1
    assert "no .npz of plain arrays" in done.stderr


def _change(folder: Path) -> None:
    (folder / "session.py").write_text("raise SystemExit('was run')")


def _lose(folder: Path) -> None:
    (folder / "artifact" / "deep" / "factor.npy").unlink()


@pytest.mark.parametrize(
    ("harm", "name"), [pytest.param(_change, "session.py", id="changed"), pytest.param(_lose, "factor.npy", id="lost")]
)
def test_a_harmed_bundle_does_not_run(folder: Path, harm: Callable[[Path], None], name: str) -> None:
    harm(folder)
    done = run(folder)
    assert done.returncode == 1
    assert name in done.stderr
    assert "was run" not in done.stderr


def _manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "there is no manifest.json"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "can't be read"),
    "torn": (lambda path: path.write_text(path.read_text()[:100]), "can't be read"),
    "empty": (lambda path: path.write_text(""), "can't be read"),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "can't be read"),
    "endless": (lambda path: path.write_text("[" * 100_000), "can't be read"),
    "a list": (lambda path: path.write_text("[]"), "the whole of it"),
    "null": (lambda path: path.write_text("null"), "the whole of it"),
    "no keys": (lambda path: path.write_text("{}"), "name is missing"),
    "no artifact": (lambda path: _manifest(path.parent, lambda m: m.pop("artifact")), "artifact is missing"),
    "no entry": (lambda path: _manifest(path.parent, lambda m: m["artifact"].pop("entry")), "artifact.entry"),
    "no batch": (lambda path: _manifest(path.parent, lambda m: m["artifact"].pop("execution")), "artifact.execution"),
    "batch of 0": (
        lambda path: _manifest(path.parent, lambda m: m["artifact"]["execution"].update(batch=0)),
        "artifact.execution.batch",
    ),
    "inputs of texts": (lambda path: _manifest(path.parent, lambda m: m.update(inputs=["x"])), "inputs.0"),
    "files as list": (lambda path: _manifest(path.parent, lambda m: m.update(files=[])), "files"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_manifest_is_said_in_a_sentence(folder: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(folder / "manifest.json")
    done = run(folder)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("run.py: ")
    assert "get the bundle again" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_runtime_is_named(contents: BundleContents, tmp_path: Path) -> None:
    module = next(Path(entry) for entry in sys.path if (Path(entry) / "doubling_session.py").exists())
    (module / "doubling_session.py").write_text("import no_such_runtime")
    done = run(write_bundle(contents, tmp_path / "bundle").folder)
    assert done.returncode == 1
    assert "No module named 'no_such_runtime'; install what it needs: pip install -r" in done.stderr


def test_terminal_commands_in_labels_are_text(contents: BundleContents, tmp_path: Path) -> None:
    hostile = replace(contents, labels=("\x1b[2Jcat", "dog", "\x1b]0;title\x07bird"))
    done = run(write_bundle(hostile, tmp_path / "bundle").folder)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\\x1b]0;title" in done.stdout


def test_runner_is_python_38_and_needs_numpy_only() -> None:
    tree = ast.parse(RUNNER.read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert outside == {"numpy", "PIL"}
    later = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset}
    assert later == {"PIL"}, "asked for where an image file is read, and nowhere else"


def real_bundle(contents: BundleContents, tmp_path: Path) -> Path:
    """One that ONNX Runtime runs."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["scores"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    source = tmp_path / "real"
    source.mkdir()
    onnx.save(model, source / "model.onnx")
    artifact = replace(
        contents.artifact,
        folder=source,
        entry="model.onnx",
        session="edgeport.backends.onnxruntime.session",
        settings={},
        precision=Precision.FP32,
    )
    real = replace(contents, candidate=replace(contents.candidate, artifact=artifact))
    return write_bundle(real, tmp_path / "bundle").folder


def test_a_real_artifact_runs(contents: BundleContents, tmp_path: Path) -> None:
    done = run(real_bundle(contents, tmp_path))
    assert done.returncode == 0, done.stderr
    assert "outputs are equal to" in done.stdout


def test_it_runs_as_a_search_found_best(contents: BundleContents, tmp_path: Path) -> None:
    """Another manifest, the same files: streams, threads and the batch of a call."""
    source = real_bundle(contents, tmp_path)
    execution = ExecutionConfig(threads=1, batch=2, layout=DataParallel(streams=2))
    before = replace(load_bundle(source).manifest.artifact, folder=source / "artifact")
    tuned = OnnxRuntimeBackend().with_execution(before, execution)
    place = tmp_path / "tuned"
    save_tuned(tuned, source, place, None)
    save_tuned(tuned, source, place, None)  # in the place of the first

    assert verify_bundle(place) == []
    kept = load_bundle(place).manifest
    assert (kept.artifact.settings, kept.artifact.execution) == ({"threads": 1, "streams": 2}, execution)
    assert kept.files == load_bundle(source).manifest.files
    done = run(place)
    assert done.returncode == 0, done.stderr
    assert "outputs are equal to those recorded" in done.stdout
