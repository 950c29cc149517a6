from __future__ import annotations

import pytest

from edgeport.backends.artifacts import artifact_digest, artifact_folder, check_artifact, make_artifact
from edgeport.contracts import ExecutionConfig, Precision
from edgeport.errors import BackendError, OutputError


def filled(folder, name="model.bin", data=b"abc"):
    with artifact_folder(folder) as draft:
        (draft / name).write_bytes(data)
    return make_artifact(
        backend="b",
        folder=folder,
        entry=name,
        session="m",
        settings={"threads": 1},
        precision=Precision.FP32,
        execution=ExecutionConfig(),
    )


def test_digest_is_over_names_bytes_and_settings(tmp_path):
    first = filled(tmp_path / "a")
    assert filled(tmp_path / "b").digest == first.digest
    assert filled(tmp_path / "c", name="other.bin").digest != first.digest
    assert filled(tmp_path / "d", data=b"abd").digest != first.digest
    assert artifact_digest(first.folder, {"threads": 2}) != first.digest
    assert first.size_bytes == 3


@pytest.mark.parametrize("change", ["changed", "added", "lost"])
def test_a_folder_that_changed_is_not_opened(change, tmp_path):
    artifact = filled(tmp_path / "a")
    entry = artifact.folder / artifact.entry
    assert check_artifact(artifact) == entry
    if change == "changed":
        entry.write_bytes(b"abd")
    elif change == "added":
        (artifact.folder / "more").write_bytes(b"")
    else:
        entry.unlink()
    with pytest.raises(BackendError, match="compile it again"):
        check_artifact(artifact)


def test_nothing_is_left_when_filling_fails(tmp_path):
    def fail():
        with artifact_folder(tmp_path / "a") as draft:
            (draft / "half").write_bytes(b"x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_taken_a_full_one_or_a_link_is_not(tmp_path):
    (tmp_path / "empty").mkdir()
    filled(tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("empty", "link"):
        with pytest.raises(OutputError, match="empty or not there"), artifact_folder(tmp_path / name):
            pass
    assert not (tmp_path / "target").exists()
