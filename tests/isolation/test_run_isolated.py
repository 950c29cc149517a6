"""One row per way in which a child can end."""

from __future__ import annotations

import os
import sys
import time

import pytest

from edgeport.contracts import Limits, ProgressEvent
from edgeport.errors import BackendError, ChildCrash, ChildTimeout, IsolationError, ResourceLimit, SamplesError
from edgeport.isolation import run_isolated
from edgeport.isolation.memory import address_space_limit, oom_kills

SMALL = Limits(time_s=30, memory_bytes=200 << 20)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to die by")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_result_and_payload_round_trip(jobs):
    payload = {"text": "Grüße \n\u2028", "numbers": [1, 2.5, None, True], "nested": {"a": {"b": []}}}
    assert run_isolated("isolation_jobs:echo", payload) == payload


def test_path_is_forwarded_and_the_environment_left_as_it_was(jobs, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    seen = run_isolated("isolation_jobs:where", {})
    assert seen["path"] == [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 (as the parent does)
    assert jobs in seen["path"]
    assert seen["pythonpath"] == "/of/the/user"
    assert seen["stdin"] == ""


@posix_only
@pytest.mark.parametrize(
    ("job", "signal_name", "frame"),
    [
        ("segfault", "SIGSEGV", "string_at"),
        ("abort", "SIGABRT", "abort"),
        ("divide_by_zero", "SIGFPE", "divide_by_zero"),
    ],
)
def test_death_by_signal_names_it_and_keeps_the_stack(jobs, job, signal_name, frame):
    with pytest.raises(ChildCrash) as caught:
        run_isolated(f"isolation_jobs:{job}", {})
    assert signal_name in caught.value.found
    assert caught.value.details["signal"] == signal_name
    assert f"in {frame}" in caught.value.found
    assert f"in {job}" in caught.value.details["stack"]
    assert caught.value.code == "CHILD_CRASH"


@pytest.mark.parametrize("job", ["hang", "hang_with_the_lock_held"])
def test_hang_is_ended_in_time_and_says_where(jobs, job):
    started = time.monotonic()
    with pytest.raises(ChildTimeout) as caught:
        run_isolated(f"isolation_jobs:{job}", {}, limits=Limits(time_s=3.0))
    assert time.monotonic() - started < 10
    assert "within 3 s" in caught.value.asked
    if sys.platform != "win32":
        assert f"in {job}" in caught.value.details["stack"]
        assert "was killed in File" in caught.value.found


@pytest.mark.parametrize("job", ["hog", "hog_in_grandchild"])
def test_memory_of_the_whole_tree_is_limited(jobs, job):
    started = time.monotonic()
    with pytest.raises(ResourceLimit) as caught:
        run_isolated(f"isolation_jobs:{job}", {}, limits=SMALL)
    assert time.monotonic() - started < 20
    assert caught.value.details["limit_bytes"] == SMALL.memory_bytes
    assert SMALL.memory_bytes < caught.value.details["peak_memory_bytes"] < 4 * SMALL.memory_bytes
    assert "200 MiB" in caught.value.asked


@linux_only
@pytest.mark.skipif(address_space_limit(1) is None, reason="a GPU driver is loaded: no address space limit")
def test_an_absurd_allocation_fails_at_once_as_a_resource_limit(jobs):
    of_the_parent = bytearray(b"1") * (300 << 20)  # must not be counted as the child's
    with pytest.raises(ResourceLimit) as caught:
        run_isolated("isolation_jobs:huge_allocation", {}, limits=SMALL)
    assert caught.value.details["peak_memory_bytes"] < SMALL.memory_bytes
    assert "MemoryError" in caught.value.found
    del of_the_parent


@pytest.mark.parametrize("job", ["bad_alloc", "wrapped_memory_error"])
def test_other_ways_to_say_out_of_memory_are_understood(jobs, job):
    with pytest.raises(ResourceLimit) as caught:
        run_isolated(f"isolation_jobs:{job}", {})
    assert caught.value.details["peak_memory_bytes"] > 0


def test_an_edgeport_error_is_the_same_one_in_the_parent(jobs):
    with pytest.raises(SamplesError) as caught:
        run_isolated("isolation_jobs:raise_ours", {})
    assert (caught.value.asked, caught.value.found, caught.value.fix) == ("read samples", "none", "give some")
    assert caught.value.details == {"count": 0}
    assert "in raise_ours" in "\n".join(caught.value.__notes__)


def test_an_error_that_was_raised_from_itself_is_told(jobs):
    with pytest.raises(BackendError, match="the runtime failed"):
        run_isolated("isolation_jobs:raise_from_itself", {}, limits=Limits(time_s=20))


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("isolation_jobs:raise_foreign", "KeyError: 'no such thing'"),
        ("isolation_jobs:leave", "SystemExit: 3"),
        ("isolation_jobs:return_list", "returned list, not a dict"),
        ("isolation_jobs:return_object", "not JSON serializable"),
        ("isolation_jobs:absent", "AttributeError"),
        ("no_such_package.module:function", "ModuleNotFoundError"),
    ],
)
def test_anything_else_raised_is_told_with_its_traceback(jobs, function, found):
    with pytest.raises(IsolationError) as caught:
        run_isolated(function, {})
    assert type(caught.value) is IsolationError
    assert found in caught.value.found
    assert "Traceback" in caught.value.details["traceback"]


@pytest.mark.parametrize("function", ["just_a_name", ":function", "module:", "__main__:main"])
def test_a_name_that_no_child_can_import_is_refused(function):
    with pytest.raises(IsolationError, match=r"package\.module:function"):
        run_isolated(function, {})


def test_a_payload_that_is_not_json_is_refused():
    with pytest.raises(IsolationError, match="payload that is not JSON"):
        run_isolated("isolation_jobs:echo", {"array": object()})


def test_an_end_without_a_result_is_a_crash(jobs):
    with pytest.raises(ChildCrash, match="exit status 7"):
        run_isolated("isolation_jobs:leave_at_once", {})


def test_endless_output_is_read_but_only_its_end_kept(jobs):
    with pytest.raises(ChildCrash) as caught:
        run_isolated("isolation_jobs:shout", {})
    assert caught.value.details["stderr"].endswith("last words\n")
    assert len(caught.value.details["stderr"]) <= 4000


def test_output_on_stdout_does_not_touch_the_result(jobs):
    assert run_isolated("isolation_jobs:print_and_return", {}) == {"fine": True}


def test_progress_arrives_while_the_child_runs(jobs):
    events: list[tuple[float, ProgressEvent]] = []
    result = run_isolated(
        "isolation_jobs:count",
        {"steps": 3, "pause_s": 0.3},
        on_progress=lambda event: events.append((time.monotonic(), event)),
    )
    ended = time.monotonic()
    assert result == {"counted": 3}
    assert [event.done for _, event in events] == [1, 2, 3]
    assert events[0][1] == ProgressEvent(stage="count", message="0", done=1, total=3)
    assert ended - events[0][0] > 0.5


def test_no_progress_is_lost_when_the_child_ends_at_once(jobs):
    events = []
    run_isolated("isolation_jobs:count", {"steps": 2000, "pause_s": 0}, on_progress=events.append)
    assert [event.done for event in events] == list(range(1, 2001))


def test_temporary_files_are_gone(jobs, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    run_isolated("isolation_jobs:echo", {})
    with pytest.raises(ChildCrash):
        run_isolated("isolation_jobs:leave_at_once", {})
    assert list(tmp_path.iterdir()) == []


def test_kernel_kills_are_counted(tmp_path):
    table = tmp_path / "vmstat"
    table.write_text("pgfault 12\noom_kill 3\noom_kill_other 9\n")
    assert oom_kills(table) == 3
    assert oom_kills(tmp_path / "absent") == 0


@posix_only
def test_a_kill_by_the_kernel_for_memory_is_a_resource_limit(jobs, monkeypatch):
    """The kernel's own kill is SIGKILL; its counter tells it from anybody else's."""
    counts = iter([5, 6])
    monkeypatch.setattr("edgeport.isolation.parent.oom_kills", lambda: next(counts))
    with pytest.raises(ResourceLimit, match="want of memory"):
        run_isolated("isolation_jobs:kill_self", {})


@posix_only
def test_a_kill_by_somebody_else_is_a_crash(jobs, monkeypatch):
    monkeypatch.setattr("edgeport.isolation.parent.oom_kills", lambda: 5)
    with pytest.raises(ChildCrash, match="SIGKILL"):
        run_isolated("isolation_jobs:kill_self", {})


def test_errors_of_a_childs_end_say_what_the_user_asked_for(jobs):
    with pytest.raises(ChildCrash) as crashed:
        run_isolated("isolation_jobs:abort", {}, asked="calibrate net.onnx")
    with pytest.raises(ChildTimeout) as late:
        run_isolated("isolation_jobs:hang", {}, limits=Limits(time_s=1.0), asked="calibrate net.onnx")
    assert (crashed.value.asked, late.value.asked) == ("calibrate net.onnx", "calibrate net.onnx within 1 s")
    assert "time_limit_s" in late.value.fix
