"""What an earlier run left must not be taken for this run's answer; what is the user's must not be touched."""

import json
import shutil

import numpy as np
import pytest

from edgeport.bundle import BundleContents, write_bundle
from edgeport.contracts import Artifact, Budget, Candidate, DeviceFacts, OnnxModel, Precision, TensorSpec
from edgeport.errors import OutputError, SamplesError
from edgeport.pipeline import run_recipe
from edgeport.pipeline.output.run_output import prepare_output


@pytest.fixture
def out(tmp_path):
    """An output folder as an earlier run left it: a real bundle, a report and a result; and a file of the user's."""
    source = tmp_path / "artifact"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "weights").write_bytes(b"weights")
    artifact = Artifact(
        backend="onnxruntime", folder=source, entry="deep/weights", session="edgeport.backends.onnxruntime.session",
        settings={}, precision=Precision.FP32, size_bytes=7, digest="a" * 64,
    )  # fmt: skip
    candidate = Candidate(name="ort fp32", backend="onnxruntime", precision=Precision.FP32, artifact=artifact)
    x = TensorSpec(name="x", dtype="float32", shape=("batch", 1))
    out = tmp_path / "out"
    out.mkdir()
    for name in ("result.json", "report.html", "notes.txt"):
        (out / name).write_text("{}")
    contents = BundleContents(
        name="earlier",
        candidate=candidate,
        model=OnnxModel(path=tmp_path / "model.onnx", inputs=(x,), outputs=(x,), opset=20, digest="b" * 64),
        budget=Budget(),
        device=DeviceFacts(name="local", machine="x86_64", cpu="A CPU", cores=2, memory_bytes=1 << 30),
        versions={},
        sample={"x": np.zeros((1, 1), np.float32)},
        expected={"x": np.zeros((1, 1), np.float32)},
        report=out / "report.html",
    )
    write_bundle(contents, out / "bundle")
    (out / "courses" / "ort-fp32-distilled" / "generation-0" / "tensorboard").mkdir(parents=True)
    (out / "courses" / "ort-fp32-distilled" / "generation-0" / "tensorboard" / "events.out.tfevents.1").write_bytes(b"")
    (out / "courses" / "ort-fp32-distilled" / "generation-0" / "metrics.jsonl").write_text("{}")
    return out


def everything(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def test_an_earlier_answer_is_gone_before_anything_can_fail(make_recipe, out, tmp_path, monkeypatch):
    def fail(context):
        raise SamplesError(asked="", found="damaged samples", fix="")

    monkeypatch.setattr("edgeport.pipeline.build_inputs.prepare_samples", fail)
    with pytest.raises(SamplesError, match="damaged samples"):
        run_recipe(make_recipe("base"), output=out, store=tmp_path / "store")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def _users_file(out):
    (out / "bundle" / "notes.txt").write_text("mine")


def _users_file_deep_down(out):
    (out / "bundle" / "artifact" / "deep" / "notes.txt").write_text("mine")


def _folder_without_manifest(out):
    shutil.rmtree(out / "bundle")
    (out / "bundle").mkdir()
    (out / "bundle" / "thesis.txt").write_text("mine")


def _damaged_manifest(out):
    (out / "bundle" / "manifest.json").write_text("{")


def _linked_bundle(out):
    (out / "bundle").rename(out / "elsewhere")
    (out / "bundle").symlink_to(out / "elsewhere")


def _linked_courses(out):
    (out / "courses").rename(out / "elsewhere")
    (out / "courses").symlink_to(out / "elsewhere")


def _courses_file(out):
    shutil.rmtree(out / "courses")
    (out / "courses").write_text("mine")


def _linked_result(out):
    (out / "result.json").rename(out / "elsewhere.json")
    (out / "result.json").symlink_to(out / "elsewhere.json")


def _dangling_report(out):
    (out / "report.html").unlink()
    (out / "report.html").symlink_to(out / "nowhere")


def _report_folder(out):
    (out / "report.html").unlink()
    (out / "report.html").mkdir()


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        pytest.param(_users_file, "not the bundle's own: notes.txt", id="users-file"),
        pytest.param(_users_file_deep_down, "artifact/deep/notes.txt", id="users-file-deep-down"),
        pytest.param(_folder_without_manifest, "no bundle", id="users-folder"),
        pytest.param(_damaged_manifest, "damaged JSON", id="damaged-manifest"),
        pytest.param(_linked_bundle, "a link", id="linked-bundle"),
        pytest.param(_linked_courses, "a link", id="linked-courses"),
        pytest.param(_courses_file, "a file", id="file-as-courses"),
        pytest.param(_linked_result, "a link", id="linked-result"),
        pytest.param(_dangling_report, "a link", id="dangling-report"),
        pytest.param(_report_folder, "a folder", id="folder-as-report"),
    ],
)
def test_what_is_not_ours_stops_the_run_at_its_start_and_stays(make_recipe, out, tmp_path, monkeypatch, plant, found):
    plant(out)
    before = everything(out)
    monkeypatch.setattr("edgeport.pipeline.run.walk", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(OutputError) as caught:
        run_recipe(make_recipe("base"), output=out, store=tmp_path / "store")
    assert found in caught.value.found
    assert caught.value.asked
    assert caught.value.fix
    assert everything(out) == before, "nothing may be removed where anything is refused"


def test_a_manifest_can_not_have_files_outside_removed(out):
    manifest = json.loads((out / "bundle" / "manifest.json").read_text())
    manifest["files"]["../notes.txt"] = "0" * 64
    manifest["files"][str(out / "notes.txt")] = "0" * 64
    (out / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    prepare_output(out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_what_a_killed_removal_left_is_removed(out):
    (out / "bundle" / "run.py").unlink()
    shutil.rmtree(out / "bundle" / "artifact")
    prepare_output(out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_what_else_lies_beside_courses_stays(out):
    (out / "courses" / "mine.txt").write_text("mine")
    prepare_output(out)
    assert sorted(path.name for path in out.iterdir()) == ["courses", "notes.txt"]
    assert [path.name for path in (out / "courses").iterdir()] == ["mine.txt"]


def test_an_empty_bundle_folder_is_none(out):
    shutil.rmtree(out / "bundle")
    (out / "bundle" / "empty").mkdir(parents=True)
    with pytest.raises(OutputError, match="no bundle"):
        prepare_output(out)
    (out / "bundle" / "empty").rmdir()
    prepare_output(out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_a_run_that_fails_leaves_none_of_the_folders_that_it_made(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeport.pipeline.run.walk", _fail)
    there = tmp_path / "there"
    there.mkdir()

    for output in (tmp_path / "new" / "out", there):
        with pytest.raises(SamplesError, match="planted"):
            run_recipe(make_recipe("base"), output=output, store=tmp_path / "store")

    assert not (tmp_path / "new").exists()
    assert there.is_dir()


def test_what_was_written_before_a_run_failed_stays(make_recipe, tmp_path, monkeypatch):
    def written(context, output):
        (output / "report.html").write_text("half")
        _fail(context, output)

    monkeypatch.setattr("edgeport.pipeline.run.walk", written)
    with pytest.raises(SamplesError, match="planted"):
        run_recipe(make_recipe("base"), output=tmp_path / "out", store=tmp_path / "store")

    assert (tmp_path / "out" / "report.html").read_text() == "half"


def _fail(context, output):
    raise SamplesError(asked="walk", found="planted", fix="none")
