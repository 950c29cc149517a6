"""A runtime that multiplies matrices with numpy and takes exactly as long as it is told."""

import ctypes
import json
import os
import time
from pathlib import Path

import numpy as np


class PlantedCall:
    def __init__(self, weight, images, settings):
        self._weight, self._images, self._settings = weight, images, settings
        self._output = None
        self._calls = 0

    def run(self):
        self._calls += 1
        if self._calls > self._settings.get("dies_after", float("inf")):
            os.abort()
        until = time.perf_counter_ns() + int(self._settings["busy_ns"])
        self._output = self._images @ self._weight
        if self._settings.get("nan"):
            self._output[:] = np.nan
        if self._calls > self._settings.get("wrong_after", float("inf")):
            self._output += 1.0
        while time.perf_counter_ns() < until:
            pass

    def outputs(self):
        return {"scores": self._output.copy()}


class IdleCall:
    """Does nothing when it is timed, and has the right answer all the same."""

    def __init__(self, weight, images):
        self._output = images @ weight

    def run(self):
        pass

    def outputs(self):
        return {"scores": self._output.copy()}


class PlantedSession:
    def __init__(self, weight, settings):
        self._weight, self._settings = weight, settings

    def bind(self, feeds):
        if self._settings.get("crash"):
            ctypes.string_at(0)
        if self._settings.get("hang"):
            time.sleep(3600)
        if self._settings.get("idle"):
            return IdleCall(self._weight, feeds["images"])
        return PlantedCall(self._weight, feeds["images"], self._settings)

    def close(self):
        pass


def open_session(path, settings):
    weight = json.loads(Path(path).read_text(encoding="utf-8"))
    return PlantedSession(np.asarray(weight, np.float32), settings)
