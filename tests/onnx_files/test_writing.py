"""Whole files or none."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from edgeport.errors import OutputError
from edgeport.onnx_files import open_onnx, read_ir, write_ir, writing


def test_round_trip_keeps_versions_and_bytes(small_onnx, save_onnx, tmp_path):
    small_onnx.ir_version = 9
    source = read_ir(save_onnx(small_onnx))
    first = write_ir(source, tmp_path / "out" / "a.onnx")
    second = write_ir(read_ir(first), tmp_path / "out" / "b.onnx")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.digest == second.digest
    assert onnx.load(first.path).ir_version == 9
    assert (first.opset, first.inputs, first.outputs) == (20, *_specs(small_onnx, save_onnx))


def _specs(small_onnx, save_onnx):
    opened = open_onnx(save_onnx(small_onnx))
    return opened.inputs, opened.outputs


def test_nothing_else_is_left_in_the_folder(small_onnx, save_onnx, tmp_path):
    write_ir(read_ir(save_onnx(small_onnx)), tmp_path / "out" / "a.onnx")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.onnx"]


@pytest.fixture
def large(monkeypatch, small_onnx):
    """Every model counts as large, and this one's weight is more than a few numbers: float32 [3, 400]."""
    monkeypatch.setattr(writing, "_EXTERNAL_ABOVE_BYTES", 0)
    weight = small_onnx.graph.initializer[0]
    weight.dims[:] = [3, 400]
    weight.raw_data = np.arange(1200, dtype=np.float32).tobytes()
    small_onnx.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 400


def test_large_weights_go_beside_the_model(small_onnx, save_onnx, tmp_path, large):
    source = read_ir(save_onnx(small_onnx))
    written = write_ir(source, tmp_path / "out" / "a.onnx")
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert len(names) == 2
    assert names[1].endswith(".data")
    assert (tmp_path / "out" / names[1]).stat().st_size == 4800
    assert (tmp_path / "out" / names[0]).stat().st_size < 1000
    again = read_ir(written).graph.initializers["w"].const_value
    assert again.tobytes() == source.graph.initializers["w"].const_value.tobytes()
    assert source.graph.initializers["w"].const_value.tobytes()  # the model in memory is as it was


def test_data_of_the_model_before_is_removed_and_nothing_else(small_onnx, save_onnx, tmp_path, large):
    out = tmp_path / "out" / "a.onnx"
    write_ir(read_ir(save_onnx(small_onnx)), out)
    (old,) = out.parent.glob("*.data")
    (out.parent / "a.onnx.mine.data").write_text("of the user")
    weight = small_onnx.graph.initializer[0]
    weight.raw_data = weight.raw_data[::-1]
    write_ir(read_ir(save_onnx(small_onnx, "other.onnx")), out)
    assert not old.exists()
    assert len(list(out.parent.glob("*.data"))) == 2


def test_a_folder_in_the_way_is_refused(small_onnx, save_onnx, tmp_path):
    (tmp_path / "out.onnx").mkdir()
    with pytest.raises(OutputError, match="no file"):
        write_ir(read_ir(save_onnx(small_onnx)), tmp_path / "out.onnx")


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(small_onnx, save_onnx, tmp_path, monkeypatch):
    out = tmp_path / "out" / "a.onnx"
    before = write_ir(read_ir(save_onnx(small_onnx)), out).digest

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_ir(read_ir(save_onnx(small_onnx)), out)
    assert open_onnx(out).digest == before
    assert [file.name for file in out.parent.iterdir()] == ["a.onnx"]


_KILLED = """
# For N = 1, 2, ...: a fork writes over FOLDER/N/a.onnx and is killed at the N-th step, until one gets through.
import os, signal, sys
from pathlib import Path
from edgeport.onnx_files import read_ir, write_ir, writing
writing._EXTERNAL_ABOVE_BYTES = 0
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

old, new = (read_ir(Path(name)) for name in sys.argv[1:3])
for count in range(1, 100):
    out = Path(sys.argv[3]) / str(count) / "a.onnx"
    write_ir(old, out)
    child = os.fork()
    if child == 0:
        for owner, name in ((os, "fsync"), (os, "replace"), (Path, "replace"), (Path, "unlink")):
            setattr(owner, name, counted(getattr(owner, name)))
        left = count
        write_ir(new, out)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
    if status == 0:
        break
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_at_any_step_the_path_shows_the_old_or_the_new_model(small_onnx, save_onnx, tmp_path, large):
    old = save_onnx(small_onnx)
    weight = small_onnx.graph.initializer[0]
    weight.raw_data = weight.raw_data[::-1]
    new = save_onnx(small_onnx, "changed.onnx")
    command = [sys.executable, "-c", _KILLED, str(old), str(new), str(tmp_path / "out")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    statuses = [int(line) for line in done.stdout.split()]
    assert statuses == [-9] * (len(statuses) - 1) + [0]
    seen = [open_onnx(tmp_path / "out" / str(count) / "a.onnx").digest for count in range(1, len(statuses) + 1)]
    kinds = {write_ir(read_ir(path), tmp_path / "kind" / "a.onnx").digest for path in (old, new)}
    assert set(seen) == kinds
    assert seen == sorted(seen, key=[seen[0], seen[-1]].index)  # old, then new, never back
    assert len(seen) >= 10
