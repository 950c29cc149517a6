"""What the tests have children do."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from edgeport.contracts import OnProgress, ProgressEvent
from edgeport.errors import BackendError, SamplesError


def echo(payload):
    return payload


def segfault(payload):
    ctypes.string_at(0)


def abort(payload):
    os.abort()


def divide_by_zero(payload):
    """What the processor does to an integer division by zero in native code."""
    signal.raise_signal(signal.SIGFPE)


def bad_alloc(payload):
    """What the C++ runtime does when nobody catches std::bad_alloc."""
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
    sys.stderr.flush()
    os.abort()


def hang(payload):
    while True:
        time.sleep(0.05)


def hang_with_the_lock_held(payload):
    """Native code that never lets Python run; nothing written in Python could end it from inside."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def hog(payload):
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1)) * (8 << 20))
        time.sleep(0.002)


def hog_in_grandchild(payload):
    code = "import time\nx = bytearray(b'1') * (300 << 20)\ntime.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=True)


def huge_allocation(payload):
    return {"size": len(bytearray(256 << 30))}


def wrapped_memory_error(payload):
    try:
        raise MemoryError("std::bad_alloc")
    except MemoryError as error:
        raise BackendError(asked="compile", found="the runtime failed", fix="try again") from error


def raise_from_itself(payload):
    error = BackendError(asked="compile", found="the runtime failed", fix="try again")
    raise error from error


def leave(payload):
    sys.exit(3)


def leave_at_once(payload):
    os._exit(7)


def shout(payload):
    line = "x" * 1023 + "\n"
    for _ in range(20 << 10):
        os.write(1, line.encode())
        os.write(2, line.encode())
    os.write(2, b"last words\n")
    os._exit(1)


def print_and_return(payload):
    sys.stdout.write("{ not json")
    sys.stdout.flush()
    return {"fine": True}


def raise_foreign(payload):
    raise KeyError("no such thing")


def raise_ours(payload):
    raise SamplesError(asked="read samples", found="none", fix="give some", details={"count": 0})


def return_list(payload):
    return [1, 2]


def return_object(payload):
    return {"a": object()}


def count(payload, on_progress: OnProgress):
    for index in range(payload["steps"]):
        on_progress(ProgressEvent(stage="count", message=f"{index}", done=index + 1, total=payload["steps"]))
        time.sleep(payload["pause_s"])
    return {"counted": payload["steps"]}


def spawn_sleeper(payload):
    """Leaves a process of its own behind and says which."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(payload["file"]).write_text(f"{os.getpid()} {process.pid}")
    if payload["hang"]:
        time.sleep(60)
    return {"pid": process.pid}


def where(payload):
    return {"path": sys.path, "pythonpath": os.environ.get("PYTHONPATH"), "stdin": sys.stdin.read()}


def nested(payload):
    from edgeport.isolation import run_isolated

    return run_isolated("isolation_jobs:spawn_sleeper", payload)


def kill_self(payload):
    os.kill(os.getpid(), 9)


def what_onnx_ir_loads(payload):
    import onnx_ir  # noqa: F401

    return {name: name in sys.modules for name in ("onnx_ir", "sympy")}
