from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from edgeport import store as store_module
from edgeport.errors import StoreError
from edgeport.store import Store, default_root

KEY = {"model": "abc", "options": [1, 2.5, None, True]}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def _fill(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "sub" / "b.txt").write_text("text")


def _never(folder: Path) -> None:
    raise AssertionError("built again")


def test_built_once_then_answered(store):
    folder = store.get_or_build("export", KEY, _fill)
    assert (folder / "a.bin").read_bytes() == bytes(range(256))
    assert store.hits == 0
    assert store.get_or_build("export", KEY, _never) == folder
    assert store.hits == 1
    assert store.find("export", KEY) == folder
    assert Store(store.root).get_or_build("export", KEY, _never) == folder


def test_nothing_is_found_before_it_is_built(store):
    assert store.find("export", KEY) is None


@pytest.mark.parametrize(
    ("step", "key", "code"),
    [("other", KEY, "1"), ("export", {**KEY, "model": "abd"}, "1"), ("export", KEY, "2")],
    ids=["step", "key", "code"],
)
def test_step_key_and_code_each_count(store, monkeypatch, step, key, code):
    monkeypatch.setattr(store_module, "code_version", lambda: "1")
    store.get_or_build("export", KEY, _fill)
    monkeypatch.setattr(store_module, "code_version", lambda: code)
    assert store.find(step, key) is None


def test_order_of_keys_does_not_count(store):
    store.get_or_build("export", {"a": 1, "b": 2}, _fill)
    assert store.find("export", {"b": 2, "a": 1}) is not None


def test_json_values(store):
    assert store.get_or_build_json("facts", 1, lambda: {"cores": 2, "names": ["é"]}) == {"cores": 2, "names": ["é"]}
    assert store.get_or_build_json("facts", 1, lambda: None) == {"cores": 2, "names": ["é"]}
    assert store.hits == 1


def test_a_failed_build_leaves_nothing_and_its_error_passes(store):
    def fail(folder: Path) -> None:
        _fill(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.get_or_build("export", KEY, fail)
    assert store.find("export", KEY) is None
    assert [path.suffix for path in (store.root / "export").iterdir()] == [".lock"]
    store.get_or_build("export", KEY, _fill)


@pytest.mark.parametrize("step", ["", "Up", "a/b", "..", "quarantine"])
def test_steps_that_could_name_other_files_are_refused(store, step):
    with pytest.raises(StoreError, match="rename the step"):
        store.find(step, KEY)


def test_a_key_that_is_not_json_is_refused(store):
    with pytest.raises(StoreError, match="not JSON"):
        store.find("export", {"path": Path("x")})


def _elsewhere(folder: Path) -> Path:
    """A file outside of the entry, on the same disk."""
    path = folder.parents[2] / "elsewhere.txt"
    path.write_text("mine")
    return path


LINKS = {
    "to a file": lambda folder: (folder / "link").symlink_to(_elsewhere(folder)),
    "to a folder": lambda folder: (folder / "link").symlink_to(_elsewhere(folder).parent),
    "to nothing": lambda folder: (folder / "link").symlink_to("nowhere"),
    "hard": lambda folder: os.link(_elsewhere(folder), folder / "link"),
    "within": lambda folder: (_fill(folder), (folder / "link").symlink_to("sub")),
    "pipe": lambda folder: os.mkfifo(folder / "link"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("name", LINKS)
def test_a_build_that_leaves_a_link_is_refused(store, name):
    with pytest.raises(StoreError, match="link is a link"):
        store.get_or_build("export", KEY, LINKS[name])
    assert store.find("export", KEY) is None
    assert [path.suffix for path in (store.root / "export").iterdir()] == [".lock"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_write_permission_is_a_store_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="EDGEPORT_STORE"):
        Store(tmp_path / "store").get_or_build("export", KEY, _fill)


def test_a_file_where_the_store_should_be_is_a_store_error(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="EDGEPORT_STORE"):
        Store(tmp_path / "store").get_or_build("export", KEY, _fill)


def test_a_full_disk_is_a_store_error_and_leaves_nothing(store, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            store.get_or_build("export", KEY, _fill)
    assert store.find("export", KEY) is None
    assert [path.suffix for path in (store.root / "export").iterdir()] == [".lock"]


def _record(store: Store) -> Path:
    (record,) = (store.root / "export").glob("*.json")
    return record


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def _resign(store: Store, **changes: object) -> None:
    record = json.loads(_record(store).read_bytes()) | changes
    record["digest"] = store_module._record_digest(record)
    _record(store).write_text(json.dumps(record))


DAMAGE = {
    "bit flip in a file": lambda store, folder: _flip(folder / "a.bin", 100),
    "truncated file": lambda store, folder: os.truncate(folder / "a.bin", 10),
    "missing file": lambda store, folder: (folder / "sub" / "b.txt").unlink(),
    "foreign file": lambda store, folder: (folder / "c").write_text(""),
    "file became a link": lambda store, folder: (
        (folder / "a.bin").rename(folder.parent / "a.bin"),
        (folder / "a.bin").symlink_to("../a.bin"),
    ),
    "foreign link to a folder": lambda store, folder: (folder / "c").symlink_to("/etc"),
    "folder became a link": lambda store, folder: (
        (folder / "sub").rename(folder.parent / "moved"),
        (folder / "sub").symlink_to("../moved"),
    ),
    "the whole became a link": lambda store, folder: (
        folder.rename(folder.parent / "moved"),
        folder.symlink_to("moved"),
    ),
    "missing folder": lambda store, folder: shutil.rmtree(folder),
    "bit flip in the record": lambda store, folder: _flip(_record(store), 60),
    "torn record": lambda store, folder: os.truncate(_record(store), 50),
    "empty record": lambda store, folder: os.truncate(_record(store), 0),
    "record is no object": lambda store, folder: _record(store).write_text("[]"),
    "stale schema": lambda store, folder: _resign(store, schema_version=0),
    "record of another key": lambda store, folder: _resign(store, asked={}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_miss_and_a_warning_never_served(store, caplog, name):
    folder = store.get_or_build("export", KEY, _fill)
    DAMAGE[name](store, folder)
    with caplog.at_level(logging.WARNING):
        assert store.find("export", KEY) is None
    assert "damaged" in caplog.text
    assert len(list((store.root / "quarantine").iterdir())) == 1
    again = store.get_or_build("export", KEY, _fill)
    assert (again / "a.bin").read_bytes() == bytes(range(256))
    assert store.hits == 0


@pytest.mark.parametrize("name", ["bit flip in a file", "torn record"])
def test_a_damaged_entry_is_rebuilt_in_one_call(store, caplog, name):
    folder = store.get_or_build("export", KEY, _fill)
    DAMAGE[name](store, folder)
    again = store.get_or_build("export", KEY, _fill)
    assert again != folder
    assert (again / "a.bin").read_bytes() == bytes(range(256))
    assert "damaged" in caplog.text


def test_every_bit_of_the_record_counts(store, caplog):
    store.get_or_build("export", KEY, _fill)
    good = _record(store).read_bytes()
    for place in range(0, len(good), 7):
        folder = store.find("export", KEY)
        assert folder is not None
        _flip(_record(store), place)
        assert store.find("export", KEY) is None
        (kept,) = (store.root / "quarantine").iterdir()
        for path in kept.iterdir():  # put it all back
            path.rename(store.root / "export" / path.name)
        kept.rmdir()
        _record(store).write_bytes(good)


def test_the_default_root_is_the_cache_folder_or_the_named_one(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPORT_STORE", str(tmp_path / "here"))
    assert Store().root == tmp_path / "here"
    monkeypatch.delenv("EDGEPORT_STORE")
    assert "edgeport" in str(default_root())


class Watched:
    """Work that finds out what it rests on: the state of `names`."""

    def __init__(self, store: Store) -> None:
        self.store, self.state, self.names, self.built = store, {"a": "1", "b": "1"}, ["a"], 0

    def build(self, folder: Path) -> dict[str, str]:
        self.built += 1
        seen = self.state_of(self.names)
        (folder / "value").write_text(json.dumps(seen))
        return seen

    def state_of(self, names: list[str]) -> dict[str, str]:
        return {name: self.state.get(name, "") for name in names}

    def value(self) -> dict[str, str]:
        folder = self.store.get_or_build_watched("export", KEY, self.build, self.state_of)
        found: dict[str, str] = json.loads((folder / "value").read_text())
        return found


@pytest.fixture
def watched(store) -> Watched:
    return Watched(store)


def test_watched_work_is_done_again_when_what_it_rests_on_changes(watched):
    assert (watched.value(), watched.value()) == ({"a": "1"}, {"a": "1"})
    assert (watched.built, watched.store.hits) == (1, 1)
    watched.state["b"] = "2"  # which it never looked at
    assert watched.value() == {"a": "1"}
    assert watched.built == 1
    watched.state["a"] = "2"
    assert watched.value() == {"a": "2"}
    assert watched.value() == {"a": "2"}
    assert watched.built == 2
    watched.state["a"] = "1"
    assert watched.value() == {"a": "1"}
    assert watched.built == 2, "the old entry is there still"


def test_watched_work_may_come_to_rest_on_other_things(watched):
    watched.value()
    watched.state["a"], watched.names = "2", ["b"]
    assert watched.value() == {"b": "1"}
    watched.state["a"] = "3"
    assert watched.value() == {"b": "1"}
    assert watched.built == 2
    watched.state["b"] = "2"
    assert watched.value() == {"b": "2"}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda note: note.unlink(), id="missing"),
        pytest.param(lambda note: note.write_text("{"), id="torn"),
        pytest.param(lambda note: note.write_text('{"names":[],"digest":"0"}'), id="changed"),
        pytest.param(lambda note: note.write_text("[]"), id="no object"),
    ],
)
def test_a_damaged_note_costs_no_more_than_the_work(watched, damage):
    watched.value()
    (note,) = (watched.store.root / "export").glob("*.note")
    damage(note)
    assert watched.value() == {"a": "1"}
    assert watched.built == 2
    assert watched.value() == {"a": "1"}
    assert watched.built == 2


def test_a_damaged_watched_entry_is_built_again(watched, caplog):
    watched.value()
    (value,) = (watched.store.root / "export").glob("*/value")
    value.write_text("{}")
    assert watched.value() == {"a": "1"}
    assert "damaged" in caplog.text


def test_failed_watched_work_leaves_nothing(watched):
    def fail(folder: Path) -> dict[str, str]:
        _fill(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        watched.store.get_or_build_watched("export", KEY, fail, watched.state_of)
    assert [path.suffix for path in (watched.store.root / "export").iterdir()] == [".lock"]
