"""Curves of another training give way; what else lies there is not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeport.pipeline.curves import CURVES, copy_curves
from edgeport.pipeline.pruning_course import course_of


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
    course_of(trained / "work", trained / "small.safetensors")

    there = trained / "small.tensorboard"
    files = [path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()]
    assert sorted(files) == ["mine.txt", "step-1/events.out.tfevents.2"]
    assert not (there / "step-0").exists()


def test_where_nothing_was_drawn_nothing_is_left(trained: Path) -> None:
    (trained / "small.tensorboard" / "mine.txt").unlink()
    copy_curves(trained / "elsewhere", trained / "small.tensorboard")
    assert not (trained / "small.tensorboard").exists()
