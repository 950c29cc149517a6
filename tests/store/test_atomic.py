"""Files and folders that take their place in one step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeport.atomic import atomic_file, atomic_folder, atomic_write


def _full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def _fill(block, cause):
    with block as draft:
        (draft / "new" if draft.is_dir() else draft).write_text("new")
        if cause == "error in the block":
            raise KeyboardInterrupt


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", [b"a\r\n\xff", "\u00e4\n"])
def test_a_file_holds_what_was_written_and_nothing_lies_beside_it(tmp_path, data):
    atomic_write(tmp_path / "a.txt", "old")
    atomic_write(tmp_path / "a.txt", data)
    assert (tmp_path / "a.txt").read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert _names(tmp_path) == ["a.txt"]


def test_a_draft_has_the_ending_of_the_file_and_a_name_of_its_own(tmp_path):
    with atomic_file(tmp_path / "a.pt2") as one, atomic_file(tmp_path / "a.pt2") as other:
        one.write_text("1")
        other.write_text("2")
        assert one != other
        assert (one.suffix, one.parent) == (".pt2", tmp_path)
        assert not (tmp_path / "a.pt2").exists()
    assert (tmp_path / "a.pt2").read_text() == "1"  # the outer block ended last


def test_a_link_is_replaced_and_what_it_names_stays(tmp_path):
    (tmp_path / "named").write_text("named")
    (tmp_path / "link").symlink_to(tmp_path / "named")
    atomic_write(tmp_path / "link", "new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "named").read_text() == "named"


@pytest.mark.parametrize("cause", ["full disk", "error in the block"])
def test_a_file_that_fails_leaves_the_old_one_alone(tmp_path, monkeypatch, cause):
    (tmp_path / "a").write_text("old")
    if cause == "full disk":
        monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises((OSError, KeyboardInterrupt)):
        _fill(atomic_file(tmp_path / "a"), cause)
    assert (tmp_path / "a").read_text() == "old"
    assert _names(tmp_path) == ["a"]


def test_what_the_umask_says_holds_for_files_and_folders(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    atomic_write(tmp_path / "ours", "")
    with atomic_folder(tmp_path / "our folder"):
        pass
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "file").stat().st_mode
    assert (tmp_path / "our folder").stat().st_mode == (tmp_path / "folder").stat().st_mode


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a full folder"])
def test_a_folder_takes_its_place_when_it_is_filled(tmp_path, before):
    place = tmp_path / "place"
    if before != "nothing":
        place.mkdir()
    if before == "a full folder":
        (place / "old").touch()
    with atomic_folder(place, overwrite=before == "a full folder") as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "new").touch()
        assert not (place / "inner").exists()
    assert _names(place) == ["inner"]
    assert _names(tmp_path) == ["place"]


def test_a_full_folder_stays_without_overwrite(tmp_path):
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "old").touch()
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "place"):
        pass
    assert _names(tmp_path / "place") == ["old"]
    assert _names(tmp_path) == ["place"]


@pytest.mark.parametrize("cause", ["full disk", "error in the block", "new one does not move"])
def test_a_folder_that_fails_leaves_the_old_one_alone(tmp_path, monkeypatch, cause):
    place, replace = tmp_path / "place", os.replace
    place.mkdir()
    (place / "old").touch()

    def refuse_new(source, target):
        if Path(source).name == "new":
            raise OSError(28, "No space left on device")
        replace(source, target)

    if cause == "full disk":
        monkeypatch.setattr(os, "fsync", _full)
    if cause == "new one does not move":
        monkeypatch.setattr(os, "replace", refuse_new)
    with pytest.raises((OSError, KeyboardInterrupt)):
        _fill(atomic_folder(place, overwrite=True), cause)
    assert _names(place) == ["old"]
    assert _names(tmp_path) == ["place"]
