"""Progress goes to stderr, with the time left, and never holds up the result."""

import io
import re
import time

import pytest
from rich.console import Console

from edgeport.cli.progress import drawn, time_left
from edgeport.contracts import ProgressEvent


def run_through(console: Console, pause_s: float = 0.0) -> None:
    with drawn(console) as on_progress:
        for done in range(1, 4):
            on_progress(
                ProgressEvent(stage="calibrate", message="ba\x1b[2Jtch", done=done, total=3, time_left_s=130.0 - done)
            )
        time.sleep(pause_s)
        on_progress(ProgressEvent(stage="time"))
        time.sleep(pause_s)


def test_a_file_gets_a_line_per_stage() -> None:
    file = io.StringIO()
    run_through(Console(file=file, width=100, force_terminal=False))

    lines = file.getvalue().splitlines()

    assert lines[0] == "calibrate: 1 of 3, ba[2Jtch, about 2 min left"
    assert lines[1].startswith("calibrate: done in ")
    assert lines[2] == "time: ..."
    assert len(lines) == 4


def test_a_terminal_gets_one_moving_line_that_goes_away() -> None:
    file = io.StringIO()
    # Longer than two pictures of the bar are apart.
    run_through(Console(file=file, width=100, force_terminal=True, color_system=None), pause_s=0.25)

    text = file.getvalue()

    assert "about 2 min left" in text
    assert "\x1b[2Jtch" not in text
    assert "3/3" in text
    assert "0/?" in text
    assert text.endswith("\x1b[2K")
    assert re.findall(r"  (calibrate|time) +\d+\.\d s", text) == ["calibrate", "time"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (0.2, "about 1 s left"),
        (99.4, "about 99 s left"),
        (150.0, "about 2 min left"),
        (7200.0, "about 2.0 h left"),
    ],
)
def test_time_left(seconds: float | None, text: str) -> None:
    assert time_left(seconds) == text
