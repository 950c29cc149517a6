"""A session without a runtime: `settings` say how it behaves. Packed into the agent like a real one."""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np


def open_session(path, settings):
    """The artifact's file is read, as a runtime would."""
    Path(path).read_text(encoding="utf-8")
    if "import" in settings:
        importlib.import_module(settings["import"])
    if settings.get("fail") == "open":
        raise RuntimeError("[FakeRuntime] no kernel for Frobnicate(19)")
    time.sleep(settings.get("open_s", 0))
    return Session(settings)


class Session:
    def __init__(self, settings):
        self._settings = settings
        self.processes = settings.get("processes", ())

    def bind(self, feeds):
        for name, array in feeds.items():
            if array.dtype != np.float32:
                message = f"asked to feed {name!r} as {array.dtype}; found that it takes float32"
                raise ValueError(message)
        return Call(feeds, self._settings)

    def close(self):
        pass


class Call:
    """The outputs are the inputs, doubled, under the name NAME_out."""

    def __init__(self, feeds, settings):
        self._feeds = feeds
        self._settings = settings
        self._calls = 0
        if "fail" in settings:
            self.run = self._fail
        elif settings.get("busy_ns"):
            self.run = self._busy
        elif settings.get("rest_s"):
            self.run = self._rest

    def run(self):
        self._calls += 1

    def _busy(self):
        self._calls += 1
        until = time.perf_counter_ns() + self._settings["busy_ns"]
        while time.perf_counter_ns() < until:
            pass

    def _rest(self):
        """A call that takes time and no processor."""
        self._calls += 1
        time.sleep(self._settings["rest_s"])

    def _fail(self):
        FAILURES[self._settings["fail"]]()

    def outputs(self):
        outputs = {name + "_out": self._settings.get("scale", 2.0) * array for name, array in self._feeds.items()}
        if self._calls > self._settings.get("nan_after", float("inf")):
            outputs = {name: np.full_like(array, np.nan) for name, array in outputs.items()}
        if self._calls > self._settings.get("drift_after", float("inf")):
            outputs = {name: array + 1.0 for name, array in outputs.items()}
        if self._settings.get("flatten"):
            outputs = {name: array.reshape(-1) for name, array in outputs.items()}
        return outputs


def _crash():
    sys.stderr.write("noise of a runtime\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang():
    while True:
        time.sleep(3600)


def _take_memory():
    kept = []
    while True:
        kept.append(np.ones(1 << 20))


def _ask_for_too_much():
    raise RuntimeError("[FakeRuntime] std::bad_alloc")


def _raise():
    raise RuntimeError("[FakeRuntime] Non-zero status code returned while running Conv_3")


def _exit():
    os._exit(7)


def _import():
    importlib.import_module("fake_runtime")


FAILURES = {
    "crash": _crash,
    "hang": _hang,
    "memory": _take_memory,
    "bad-alloc": _ask_for_too_much,
    "raise": _raise,
    "exit": _exit,
    "missing": _import,
}
