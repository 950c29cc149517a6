"""Curves of another training give way; what else lies there is not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeport.errors import OutputError
from edgeport.pipeline.output.training_logs import (
    CURVES,
    copy_curves,
    merge_training_logs,
    remove_training_log,
    require_log_places,
)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A training of a pruning, and beside where its output will be the curves of an earlier one and a file."""
    for place in (tmp_path / "work" / "step-1" / CURVES, tmp_path / "small.tensorboard" / "step-0"):
        place.mkdir(parents=True)
    (tmp_path / "work" / "step-1" / "metrics.jsonl").write_text('{"step": 1}', encoding="utf-8")
    (tmp_path / "work" / "step-1" / CURVES / "events.out.tfevents.2").write_bytes(b"new")
    (tmp_path / "small.tensorboard" / "step-0" / "events.out.tfevents.1").write_bytes(b"old")
    (tmp_path / "small.tensorboard" / "mine.txt").write_text("mine", encoding="utf-8")
    return tmp_path


def test_curves_of_an_earlier_training_give_way(trained: Path) -> None:
    merge_training_logs(trained / "work", trained / "small.safetensors")

    there = trained / "small.tensorboard"
    files = [path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()]
    assert sorted(files) == ["mine.txt", "step-1/events.out.tfevents.2"]
    assert not (there / "step-0").exists()


def test_where_nothing_was_drawn_nothing_is_left(trained: Path) -> None:
    (trained / "small.tensorboard" / "mine.txt").unlink()
    copy_curves(trained / "elsewhere", trained / "small.tensorboard")
    assert not (trained / "small.tensorboard").exists()


def test_weights_that_nobody_trained_have_no_course_beside_them(trained: Path) -> None:
    small = trained / "small.safetensors"
    merge_training_logs(trained / "work", small)

    remove_training_log(small)
    assert not (trained / "small.metrics.jsonl").exists()
    assert [path.name for path in (trained / "small.tensorboard").rglob("*")] == ["mine.txt"]


def test_what_has_the_name_of_a_course_is_said_before_the_training(tmp_path: Path) -> None:
    small = tmp_path / "small.safetensors"
    require_log_places(small)
    (tmp_path / "small.metrics.jsonl").mkdir()
    with pytest.raises(OutputError, match="no file"):
        require_log_places(small)
    (tmp_path / "small.metrics.jsonl").rmdir()
    (tmp_path / "small.tensorboard").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="no folder"):
        require_log_places(small)
