"""A stage in a process of its own, which is fed through shared memory.

Ships to devices within `session.py`: Python 3.8 syntax, standard library, numpy and onnxruntime only.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import sys
from typing import Any, Iterable, Mapping, Sequence  # noqa: UP035 (Python 3.8 can't subscript those of collections.abc)

import numpy as np

from edgeport.backends.onnxruntime.session_support.runtime_session import open_runtime_session

__all__ = ["SharedArrays", "StageProcess", "serve_stage"]

_SHARED = "/dev/shm"  # noqa: S108 (memory that is shared, where the system has it; the folder in it is private)
_ALIGNED = 64
_ENDED_S = 10.0
_START = """import importlib, importlib.util, json, sys
words = json.loads(sys.stdin.buffer.readline())
sys.path[:] = words["path"]
try:
    module = importlib.import_module(words["module"])
except ImportError:
    found = importlib.util.spec_from_file_location(words["module"], words["file"])
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
module.serve_stage(words)
"""
"""What the process of a stage runs: this very module, found as it was found here."""


class SharedArrays:
    """Arrays in a file that two processes have mapped: one writes, the other reads, never at the same time."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a+b")  # noqa: PTH123, SIM115 (see `open_session`; it is open as long as this lives)
        self._map: Any = None

    def put(self, arrays: Mapping[str, Any]) -> list[list[Any]]:
        """Writes them; name, dtype, shape and place of each, for `take`."""
        told, end = [], 0
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise ValueError(f"asked to hand {name!r} to another process; found text; leave the stages in one")
            told.append([name, array.dtype.str, list(array.shape), end])
            end += -(-array.nbytes // _ALIGNED) * _ALIGNED
        self._reach(max(end, 1), grow=True)
        for (_, _, _, start), array in zip(told, arrays.values()):  # noqa: B905 (newer than 3.8)
            np.frombuffer(self._map, array.dtype, array.size, start).reshape(array.shape)[...] = array
        return told

    def take(self, told: Iterable[Sequence[Any]]) -> dict[str, Any]:
        """What was written, as views: they hold until the other process writes again."""
        found = {}
        for name, dtype, shape, start in told:
            count = int(np.prod(shape, dtype=np.int64))
            self._reach(start + count * np.dtype(dtype).itemsize, grow=False)
            found[name] = np.frombuffer(self._map, dtype, count, start).reshape(shape)
        return found

    def close(self) -> None:
        """Lets go of the file; views of it hold."""
        self._file.close()
        self._map = None

    def _reach(self, size: int, *, grow: bool) -> None:
        """Maps so much of the file, at least; one that writes makes it so large, or says that there is no room."""
        if self._map is not None and len(self._map) >= size:
            return
        if grow and os.fstat(self._file.fileno()).st_size < size:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
            else:
                self._file.truncate(size)
        self._map = mmap.mmap(self._file.fileno(), 0)  # views of the one before keep that


class StageProcess:
    """A session in a process of its own: values cross in shared memory, and words in its pipes.

    The process ends with its stdin, so that none outlives the one that started it.
    """

    def __init__(self, path: str, settings: Mapping[str, Any]) -> None:
        # Here, for nobody else needs them: each would cost every session's start.
        import shutil
        import subprocess
        import tempfile

        roomy = os.path.isdir(_SHARED) and os.access(_SHARED, os.W_OK)  # noqa: PTH112 (see `open_session`)
        folder = tempfile.mkdtemp(prefix="edgeport-stage-", dir=_SHARED if roomy else None)
        try:
            areas = [os.path.join(folder, name) for name in ("given", "found")]  # noqa: PTH118 (see `open_session`)
            self._given, self._found = (SharedArrays(area) for area in areas)
            self._process: Any = subprocess.Popen(
                [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            found = [os.path.abspath(one) for one in sys.path]  # noqa: PTH100 (see `open_session`)
            words = {"path": found, "module": __name__, "file": __file__, "areas": areas}
            try:
                about = self._ask({**words, "entry": os.fspath(path), "settings": dict(settings)})
            except BaseException:
                self.close()
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # both have opened what is in it
        self._inputs = [_Port(*one) for one in about["inputs"]]
        self._outputs = [_Port(*one) for one in about["outputs"]]

    @property
    def pid(self) -> int:
        """Of the process."""
        return int(self._process.pid)

    def get_inputs(self) -> Sequence[Any]:
        """As the runtime's session tells them."""
        return self._inputs

    def get_outputs(self) -> Sequence[Any]:
        """As the runtime's session tells them."""
        return self._outputs

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """As the runtime's session runs; the results are copies."""
        found = self._found.take(self._ask({"outputs": list(outputs), "given": self._given.put(feeds)})["found"])
        return [np.array(found[name]) for name in outputs]

    def close(self) -> None:
        """Ends the process."""
        import subprocess

        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDED_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for file in (self._process.stdout, self._given, self._found):
            file.close()

    def _ask(self, words: Mapping[str, Any]) -> dict[str, Any]:
        line = b""
        with contextlib.suppress(OSError):  # it is gone, and the empty answer says so
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"its process ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


class _Port:
    """An input or an output, as the runtime tells of one."""

    def __init__(self, name: str, kind: str, shape: Sequence[Any]) -> None:
        self.name, self.type, self.shape = name, kind, shape


def serve_stage(words: Mapping[str, Any]) -> None:
    """Opens a stage, and runs it for the process that asks at stdin; see `StageProcess`."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints prints there

    def tell(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    def told(ports: Sequence[Any]) -> list[list[Any]]:
        return [[port.name, port.type, list(port.shape)] for port in ports]

    given, found = (SharedArrays(area) for area in words["areas"])
    try:
        session = open_runtime_session(words["entry"], words["settings"])
    except BaseException as error:  # noqa: BLE001 (raised by the process that asked)
        tell({"error": f"{type(error).__name__}: {error}"})
        return
    tell({"inputs": told(session.get_inputs()), "outputs": told(session.get_outputs())})
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        try:
            results = session.run(asked["outputs"], given.take(asked["given"]))
            tell({"found": found.put(dict(zip(asked["outputs"], results)))})  # noqa: B905 (newer than 3.8)
        except Exception as error:  # noqa: BLE001 (raised by the process that asked)
            tell({"error": f"{type(error).__name__}: {error}"})
