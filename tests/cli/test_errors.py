"""Every error is one readable block, or JSON, with the exit code of its kind; nothing ever shows a traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeport import api
from edgeport.cli.text import clean
from edgeport.contracts import Outcome, RunResult
from edgeport.errors import ChildTimeout, EdgeportError


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Any:
    def fails(error: BaseException) -> None:
        def run(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(api, "run", run)

    return fails


TIMEOUT = ChildTimeout(asked="calibrate net.onnx", found="no answer in 60 s", fix="look for an endless loop")


def test_an_error_is_a_block_of_three_parts(edgeport: Any, fails: Any) -> None:
    fails(TIMEOUT)

    ran = edgeport("run", "recipe.toml", "-q")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        "Error TIMEOUT",
        "  asked to  calibrate net.onnx",
        "  found     no answer in 60 s",
        "  do this   look for an endless loop",
    ]


def test_an_error_is_json_where_json_was_asked(edgeport: Any, fails: Any) -> None:
    fails(TIMEOUT)

    ran = edgeport("run", "recipe.toml", "--json")

    assert ran.code == 1
    assert json.loads(ran.out)["error"] == TIMEOUT.to_dict()
    assert "Error" not in ran.err


def test_wrong_usage_is_json_too(edgeport: Any) -> None:
    ran = edgeport("bench", "--json")

    assert ran.code == 2
    assert json.loads(ran.out)["error"]["code"] == "USAGE"


def test_a_fault_of_our_own_shows_no_traceback(edgeport: Any, fails: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(KeyError("weights"))

    ran = edgeport("run", "recipe.toml", "-q")

    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "KeyError: 'weights'" in ran.err
    monkeypatch.setenv("EDGEPORT_TRACEBACK", "1")
    assert "Traceback" in edgeport("run", "recipe.toml", "-q").err


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.PASS, 0),
        (Outcome.FAIL, 3),
        (Outcome.INCONCLUSIVE, 4),
        (Outcome.UNMEASURED, 4),
        (Outcome.INVALID, 5),
    ],
)
def test_the_outcome_is_the_exit_code(
    edgeport: Any, finished: RunResult, with_outcome: Any, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, code: int
) -> None:
    monkeypatch.setattr(api, "run", lambda *_, **__: with_outcome(finished, outcome))

    assert edgeport("run", "recipe.toml", "-q").code == code


def test_a_number_that_is_none_is_said_in_words_of_people(edgeport: Any) -> None:
    ran = edgeport("bench", ".", "--duration", "300ms")

    assert ran.code == 2
    assert "'300ms' is no number of its kind" in " ".join(ran.err.split())


def test_an_unknown_command_names_the_nearest(edgeport: Any) -> None:
    ran = edgeport("quikstart")

    assert ran.code == 2
    assert "did you mean 'quickstart'?" in ran.err


def test_ctrl_c_is_clean(edgeport: Any, fails: Any) -> None:
    fails(KeyboardInterrupt())

    ran = edgeport("run", "recipe.toml", "-q")

    assert ran.code == 130
    assert "goes on from there" in ran.err
    assert "Traceback" not in ran.err


def test_ctrl_c_promises_nothing_of_a_command_that_keeps_nothing(
    edgeport: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeport.api.soak", stopped)
    (tmp_path / "net.onnx").write_bytes(b"")

    ran = edgeport("bench", str(tmp_path / "net.onnx"), "--soak", "1h", "-q")

    assert ran.code == 130
    assert ran.err.endswith("the same command begins anew.\n")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_a_real_process_without_a_traceback(tmp_path: Path) -> None:
    program = (
        "import time\nfrom edgeport import api\nfrom edgeport.contracts import ProgressEvent\n"
        "def run(*args, on_progress, **rest):\n"
        "    on_progress(ProgressEvent(stage='calibrate'))\n    time.sleep(60)\n"
        "api.run = run\nfrom edgeport.cli import main\nmain()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, "run", "recipe.toml"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    assert child.stderr.readline().startswith("calibrate")
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)

    assert child.returncode == 130
    assert "Traceback" not in err
    assert err.endswith("the same command goes on from there.\n")


def test_escapes_in_names_do_not_reach_the_terminal(edgeport: Any, fails: Any) -> None:
    fails(
        EdgeportError(
            asked="load \x1b[2Jnet\x07", found="\u202eevil\x9b31m [red]x[/red]\nline two", fix="rename\x00 it"
        )
    )

    err = edgeport("run", "recipe.toml", "-q").err

    assert not {letter for letter in err if ord(letter) < 32} - {"\n"}
    assert "\u202e" not in err
    assert "\x9b" not in err
    assert "[red]x[/red] line two" in err
    assert len(err.splitlines()) == 4


def test_clean_keeps_what_can_be_read() -> None:
    assert clean("Ärger 猫 é [bold]\ttab") == "Ärger 猫 é [bold] tab"
    assert clean("a\x1b]8;;http://x\x1b\\b\ud800") == "a]8;;http://x\\b"
