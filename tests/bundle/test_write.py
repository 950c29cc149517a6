from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeport.bundle import BundleContents, load_bundle, load_measured, verify_bundle, write_bundle
from edgeport.errors import OutputError

ReadAll = Callable[[Path], dict[str, bytes]]

FILES = {
    "LICENSE",
    "README.md",
    "artifact/deep/factor.npy",
    "expected.npz",
    "manifest.json",
    "measured.json",
    "requirements.txt",
    "run.py",
    "sample.npz",
    "session.py",
}


def test_holds_every_file_and_verifies(contents: BundleContents, tmp_path: Path, read_all: ReadAll) -> None:
    bundle = write_bundle(contents, tmp_path / "out" / "bundle")
    assert set(read_all(bundle.folder)) == FILES
    assert verify_bundle(bundle.folder) == []
    assert set(bundle.manifest.files) == FILES - {"manifest.json", "measured.json"}
    assert bundle.manifest.artifact.folder == Path("artifact")
    assert bundle.manifest.provenance.licence == "MIT"
    assert load_bundle(bundle.folder) == bundle
    assert (bundle.folder / "requirements.txt").read_text() == "numpy\nonnxruntime==1.32.0\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bundle"]


def test_equal_contents_give_equal_bytes(contents: BundleContents, tmp_path: Path, read_all: ReadAll) -> None:
    shuffled = replace(contents, versions=dict(reversed(contents.versions.items())))
    first = write_bundle(contents, tmp_path / "first").folder
    second = write_bundle(shuffled, tmp_path / "second").folder
    assert read_all(first) == read_all(second)


def test_what_was_measured_leaves_the_identity_alone(
    contents: BundleContents, tmp_path: Path, read_all: ReadAll
) -> None:
    slower = replace(contents.candidate, artifact=replace(contents.artifact, compile_ns=12345))
    (tmp_path / "r.html").write_text("<p>took 3 s</p>")
    first = write_bundle(contents, tmp_path / "first")
    second = write_bundle(replace(contents, candidate=slower, report=tmp_path / "r.html"), tmp_path / "second")
    differ = {
        name for name in read_all(second.folder) if read_all(first.folder).get(name) != read_all(second.folder)[name]
    }
    assert differ == {"measured.json", "report.html"}
    assert first.identity == second.identity
    assert load_measured(second.folder).compile_ns == 12345
    assert load_measured(second.folder).identity == second.identity


def test_licence_is_the_projects() -> None:
    import edgeport.bundle

    root = Path(__file__).parents[2]
    assert (Path(edgeport.bundle.__file__).parent / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()


def test_arrays_of_awkward_names_come_back(contents: BundleContents, tmp_path: Path) -> None:
    arrays = {"file": np.float32([1]), "a/b": np.int64([2]), "allow_pickle": np.bool_([True])}
    folder = write_bundle(replace(contents, expected=arrays), tmp_path / "bundle").folder
    with np.load(folder / "expected.npz", allow_pickle=False) as found:
        assert {name: found[name].tolist() for name in found.files} == {n: a.tolist() for n, a in arrays.items()}


def test_a_report_is_packed(contents: BundleContents, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("<p>hello</p>")
    folder = write_bundle(replace(contents, report=tmp_path / "r.html"), tmp_path / "bundle").folder
    assert (folder / "report.html").read_text() == "<p>hello</p>"
    assert verify_bundle(folder) == []


def test_an_older_bundle_is_replaced(contents: BundleContents, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(contents, folder)
    write_bundle(replace(contents, name="newer"), folder)
    assert load_bundle(folder).manifest.name == "newer"
    assert verify_bundle(folder) == []


def _file(folder: Path) -> None:
    folder.write_text("mine")


def _other_folder(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")


def _foreign_manifest(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "another tool"}')


def _link(folder: Path) -> None:
    target = folder.parent / "target"
    target.mkdir()
    folder.symlink_to(target)


def _dangling_link(folder: Path) -> None:
    folder.symlink_to(folder.parent / "nowhere")


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        pytest.param(_file, "a file", id="file"),
        pytest.param(_other_folder, "no bundle", id="other-folder"),
        pytest.param(_foreign_manifest, "no bundle", id="manifest-of-another-tool"),
        pytest.param(_link, "a link", id="planted-symlink"),
        pytest.param(_dangling_link, "a link", id="dangling-symlink"),
    ],
)
def test_what_is_no_bundle_is_left_alone(
    contents: BundleContents, tmp_path: Path, plant: Callable[[Path], None], found: str
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    plant(room / "bundle")
    before = sorted(path.as_posix() for path in room.rglob("*"))
    with pytest.raises(OutputError, match=found):
        write_bundle(contents, room / "bundle")
    assert sorted(path.as_posix() for path in room.rglob("*")) == before


def test_a_bundle_with_the_users_files_is_left_alone(contents: BundleContents, tmp_path: Path) -> None:
    folder = write_bundle(contents, tmp_path / "bundle").folder
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        write_bundle(contents, folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_link_in_the_artifact_is_not_packed(contents: BundleContents, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (contents.artifact.folder / "deep" / "extra").symlink_to(tmp_path / "secret")
    with pytest.raises(OutputError, match="links in it: extra"):
        write_bundle(contents, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_failure_leaves_nothing_and_keeps_the_old(
    contents: BundleContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_all: ReadAll
) -> None:
    room = tmp_path / "room"
    folder = write_bundle(contents, room / "bundle").folder
    before = read_all(folder)
    whole = shutil.copyfile

    def fail(source: Path, target: Path, **options: bool) -> None:
        if Path(target).name == "LICENSE":
            raise OSError(28, "No space left on device")
        whole(source, target, **options)

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_bundle(replace(contents, name="newer"), folder)
    assert read_all(folder) == before
    assert [path.name for path in room.iterdir()] == ["bundle"]


def test_a_session_module_that_is_not_there_is_named(contents: BundleContents, tmp_path: Path) -> None:
    artifact = replace(contents.artifact, session="no_such.session")
    broken = replace(contents, candidate=replace(contents.candidate, artifact=artifact))
    with pytest.raises(OutputError, match=r"no_such\.session"):
        write_bundle(broken, tmp_path / "bundle")


def test_a_candidate_that_was_not_built_is_refused(contents: BundleContents) -> None:
    with pytest.raises(OutputError, match="never built"):
        replace(contents, candidate=replace(contents.candidate, artifact=None))


def test_packages_around_a_session_are_not_imported(contents: BundleContents, tmp_path: Path) -> None:
    package = tmp_path / "modules" / "loud_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit(3)\n")
    (package / "session.py").write_text((tmp_path / "modules" / "doubling_session.py").read_text())
    artifact = replace(contents.artifact, session="loud_package.session")
    contents = replace(contents, candidate=replace(contents.candidate, artifact=artifact))
    assert verify_bundle(write_bundle(contents, tmp_path / "bundle").folder) == []
