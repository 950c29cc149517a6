"""However parent and child end, no process of the child's group lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edgeport.contracts import Limits
from edgeport.errors import ChildTimeout
from edgeport.isolation import run_isolated

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(condition, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def _pids(file: Path) -> list[int]:
    assert _wait(lambda: file.exists() and len(file.read_text().split()) == 2)
    return [int(word) for word in file.read_text().split()]


def test_after_a_result(jobs, tmp_path):
    result = run_isolated("isolation_jobs:spawn_sleeper", {"file": str(tmp_path / "pids"), "hang": False})
    assert _wait(lambda: not _alive(result["pid"]))


def test_after_a_timeout(jobs, tmp_path):
    with pytest.raises(ChildTimeout):
        run_isolated(
            "isolation_jobs:spawn_sleeper", {"file": str(tmp_path / "pids"), "hang": True}, limits=Limits(time_s=1.5)
        )
    assert _wait(lambda: not any(_alive(pid) for pid in _pids(tmp_path / "pids")))


def test_after_an_error_of_the_caller(jobs):
    """The callback runs in the parent; what it raises must end the child too."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}

    def refuse(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_isolated("isolation_jobs:count", {"steps": 100, "pause_s": 0.5}, on_progress=refuse)
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


@pytest.mark.parametrize("job", ["spawn_sleeper", "nested"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_after_the_parent_dies(jobs, tmp_path, number, job):
    file, temporary = tmp_path / "pids", tmp_path / "temporary"
    temporary.mkdir()
    code = (
        "from edgeport.isolation import run_isolated\n"
        f"run_isolated('isolation_jobs:{job}', {{'file': {str(file)!r}, 'hang': True}})"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(temporary)},
        stderr=subprocess.DEVNULL,
    )
    try:
        pids = _pids(file)
        assert all(_alive(pid) for pid in pids)
        parent.send_signal(number)
        parent.wait(timeout=10)
        assert _wait(lambda: not any(_alive(pid) for pid in pids))
        assert _wait(lambda: not list(temporary.iterdir()))
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.parametrize("shell", ["/bin/sh", "/nowhere/sh"], ids=["by a shell", "where there is none"])
def test_the_watcher_ends_the_group_and_removes_the_folder(shell, tmp_path):
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    (folder / "file").touch()
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom edgeport.isolation import child\n"
        "child._SHELL = sys.argv[2]\nchild._watch_parent(Path(sys.argv[1]))\ntime.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), shell], stdin=subprocess.PIPE, start_new_session=True
    )
    process.stdin.close()
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert _wait(lambda: not folder.exists())
