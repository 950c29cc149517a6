"""A run's folder ends with the run, or with the next one; that of a run at work is left alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeport.errors import StoreError
from edgeport.pipeline.engine.scratch import scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from edgeport.pipeline.engine.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "outputs.npz").write_bytes(b"0" * 1000)
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_run(tmp_path):
    """Another process in the middle of a run, and its folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def left(root):
    return sorted(path.name for path in (root / "scratch").glob("run-*"))


@pytest.mark.parametrize("error", [None, ZeroDivisionError], ids=["well", "failed"])
def test_it_is_gone_in_the_end(tmp_path, error):
    seen = []

    def work():
        with scratch_folder(tmp_path / "new" / "store") as folder:
            seen.append(folder)
            (folder / "sub").mkdir()
            (folder / "sub" / "a").write_text("a")
            if error:
                raise error

    if error:
        with pytest.raises(error):
            work()
    else:
        work()
    assert seen[0].parent == tmp_path / "new" / "store" / "scratch"
    assert left(tmp_path / "new" / "store") == []


def test_a_run_at_work_keeps_its_folder(tmp_path, other_run):
    _, folder = other_run
    with scratch_folder(tmp_path) as own, scratch_folder(tmp_path) as another:
        assert len({own, another, folder}) == 3
        assert own.is_dir()
        assert (folder / "deep" / "outputs.npz").is_file()


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path, other_run):
    process, folder = other_run
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (folder / "deep" / "outputs.npz").is_file(), "nobody could remove it"
    with scratch_folder(tmp_path) as own:
        assert left(tmp_path) == [own.name, f"{own.name}.lock"]
    assert left(tmp_path) == []


def test_it_is_absolute(tmp_path, monkeypatch):
    """Child processes may work in another folder."""
    monkeypatch.chdir(tmp_path)
    with scratch_folder(Path("store")) as folder:
        assert folder.is_absolute()


def test_a_place_that_can_not_be_written_is_a_store_error(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="EDGEPORT_STORE"), scratch_folder(tmp_path / "store"):
        pass
