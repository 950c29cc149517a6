"""Several processes on one store, and processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeport.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

_ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

_BUILD = """
import sys, time
from pathlib import Path
from edgeport import store as module

def build(folder):
    with Path(sys.argv[2]).open("a") as log:
        log.write("built\\n")
    time.sleep(float(sys.argv[3]))
    (folder / "content").write_text("whole")

module.code_version = lambda: "1"
store = module.Store(Path(sys.argv[1]))
print((store.get_or_build("export", 1, build) / "content").read_text(), store.hits)
"""


@pytest.fixture(autouse=True)
def _same_code(monkeypatch):
    """In every process of these tests, though somebody may edit the code while they run."""
    monkeypatch.setattr("edgeport.store.code_version", lambda: "1")


def _start(tmp_path: Path, pause_s: float) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", _BUILD, str(tmp_path / "store"), str(tmp_path / "log"), str(pause_s)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT)


def test_of_two_that_ask_for_one_key_one_builds(tmp_path):
    children = [_start(tmp_path, 0.5) for _ in range(3)]
    said = sorted(child.communicate(timeout=60)[0].strip() for child in children)
    assert said == ["whole 0", "whole 1", "whole 1"]
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_lock_is_freed_when_its_holder_is_killed(tmp_path):
    holder = _start(tmp_path, 60)
    until = time.monotonic() + 30
    while not (tmp_path / "log").exists() and time.monotonic() < until:
        time.sleep(0.02)
    waiting = _start(tmp_path, 0)
    time.sleep(0.3)
    assert waiting.poll() is None
    holder.kill()
    holder.communicate()
    assert waiting.communicate(timeout=60)[0].strip() == "whole 0"


_KILLED = """
# For N = 1, 2, ...: a fork saves into the store ROOT/N and is killed at the N-th step, until one gets through.
import os, signal, sys
from pathlib import Path
from edgeport import store as module

left = 0

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(real):
    def call(*args, **kwargs):
        step()
        result = real(*args, **kwargs)
        step()
        return result
    return call

def build(folder):
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    return {"input": "1"}

def save(store):
    if sys.argv[2] == "watched":
        return store.get_or_build_watched("export", 1, build, lambda names: {name: "1" for name in names})
    return store.get_or_build("export", 1, build)

module.code_version = lambda: "1"
for count in range(1, 100):
    store = module.Store(Path(sys.argv[1]) / str(count))
    if sys.argv[2] == "damaged":
        (store.get_or_build("export", 1, build) / "a").write_bytes(b"0")
    child = os.fork()
    if child == 0:
        for owner, name in ((os, "fsync"), (os, "replace"), (Path, "mkdir"), (Path, "rename"), (Path, "write_bytes")):
            setattr(owner, name, counted(getattr(owner, name)))
        left = count
        save(store)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
    if status == 0:
        break
"""


def _whole(folder: Path | None) -> bool:
    return folder is not None and sorted(file.name for file in folder.iterdir()) == ["a", "b"]


def _build(folder: Path) -> None:
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")


@pytest.mark.parametrize("before", ["nothing", "damaged"])
def test_killed_at_any_step_of_a_save_the_entry_is_whole_or_absent(tmp_path, before):
    command = [sys.executable, "-c", _KILLED, str(tmp_path), before]
    done = subprocess.run(command, check=True, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    statuses = [int(line) for line in done.stdout.split()]
    assert statuses == [-signal.SIGKILL] * (len(statuses) - 1) + [0]
    assert len(statuses) > 15
    whole = []
    for count in range(1, len(statuses) + 1):
        store = Store(tmp_path / str(count))
        found = store.find("export", 1)
        assert found is None or _whole(found)
        whole.append(found is not None)
        rebuilt = store.get_or_build("export", 1, _build)
        assert _whole(rebuilt)
        left = [path.name for path in (store.root / "export").iterdir() if path.suffix != ".lock"]
        assert sorted(left) == sorted([rebuilt.name, f"{rebuilt.name.partition('.')[0]}.json"])
    assert whole == sorted(whole)  # once it is there, it stays
    assert whole[-1]
    assert not whole[0]


def test_killed_at_any_step_of_a_watched_save_the_work_goes_on(tmp_path):
    command = [sys.executable, "-c", _KILLED, str(tmp_path), "watched"]
    done = subprocess.run(command, check=True, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    statuses = [int(line) for line in done.stdout.split()]
    assert statuses == [-signal.SIGKILL] * (len(statuses) - 1) + [0]
    assert len(statuses) > 19
    again = []
    for count in range(1, len(statuses) + 1):
        store = Store(tmp_path / str(count))

        def build(folder: Path) -> dict[str, str]:
            _build(folder)
            again[-1] = True
            return {"input": "1"}

        again.append(False)
        assert _whole(store.get_or_build_watched("export", 1, build, lambda names: dict.fromkeys(names, "1")))
        left = [path for path in (store.root / "export").iterdir() if path.suffix != ".lock"]
        assert sorted(path.suffix for path in left if path.is_file()) == [".json", ".note"]
        assert len([path for path in left if path.is_dir()]) == 1
    assert again == sorted(again, reverse=True)  # once it is there, it stays
    assert again[0]
    assert not again[-1]
