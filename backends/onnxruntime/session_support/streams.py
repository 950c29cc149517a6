"""One call after another, or several streams of calls; inputs and outputs are bound before.

Ships to devices within `session.py`: Python 3.8 syntax, standard library, numpy and onnxruntime only.
"""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterable, Iterator, Mapping, Sequence  # noqa: UP035 (Python 3.8 can't subscript those of collections.abc)

import numpy as np
import onnxruntime as ort

from edgeport.backends.onnxruntime.session_support.feeds import check_feeds, plain_text
from edgeport.backends.onnxruntime.session_support.runtime_session import open_runtime_session
from edgeport.backends.session_support.affinity import allowed_processors, keep_to
from edgeport.backends.session_support.concurrent_calls import map_ahead

__all__ = ["Call", "Session", "Streams"]


class Session:
    """An opened model."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = session.get_inputs()
        self._outputs = [output.name for output in session.get_outputs()]

    def bind(self, feeds: Mapping[str, Any]) -> Call:
        """Checks and binds the inputs (arrays by name); the call runs on them as they are now.

        Raises:
            ValueError: Names, dtypes or shapes that the model does not take.
            RuntimeError: The session is closed.

        """
        if self._session is None:
            raise RuntimeError("asked to bind feeds; found a session that is closed; open it again")
        arrays = check_feeds(self._inputs, feeds)
        return Call(self._session, arrays, self._outputs)

    def close(self) -> None:
        """Frees the runtime's memory."""
        self._session = None


class Call:
    """One bound call; where an input is text, which the runtime binds not, each run copies the inputs first."""

    def __init__(self, session: Any, arrays: dict[str, Any], outputs: Sequence[str]) -> None:
        self._session = session
        # The runtime reads these very buffers, so they must live as long as the call.
        self._arrays = arrays
        self._names = outputs
        self._found: Sequence[Any] = ()
        self._done = False
        if any(array.dtype.hasobject for array in arrays.values()):
            self._binding = None
            return
        self._binding = session.io_binding()
        self._values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        for name in outputs:
            self._binding.bind_output(name, "cpu")

    def run(self) -> None:
        """One inference."""
        if self._binding is None:
            self._found = self._session.run(self._names, self._arrays)
        else:
            self._session.run_with_iobinding(self._binding)
        self._done = True

    def outputs(self) -> dict[str, Any]:
        """Copies of the last run's outputs, by name; text as arrays of numpy's own text.

        Raises:
            RuntimeError: Nothing was run yet.

        """
        if not self._done:
            raise RuntimeError("asked for outputs; found that nothing was run; call run() first")
        values = self._found if self._binding is None else [one.numpy() for one in self._binding.get_outputs()]
        return {name: np.array(plain_text(value)) for name, value in zip(self._names, values)}  # noqa: B905 (newer than 3.8)


class _PinnedCall(Call):
    """A call whose thread stays on the processors of its stream, from its first run on."""

    def __init__(self, session: Any, arrays: dict[str, Any], outputs: Sequence[str], cores: Sequence[int]) -> None:
        super().__init__(session, arrays, outputs)
        self._cores = set(cores)
        self._thread = 0

    def run(self) -> None:
        """One inference."""
        thread = threading.get_ident()
        if thread != self._thread:
            keep_to(self._cores)
            self._thread = thread
        super().run()


class Streams:
    """Several calls at once: each bound call belongs to one stream, the next to the next.

    Calls of one thread each share one session, which then holds the weights once: the caller's thread is all that it
    needs. Where a call has more threads, each stream has a session of its own, whose threads no other one waits for; so
    it has where streams run in different places (replicas on several devices).

    Args:
        path: The `.onnx` file.
        settings: As of `session_options`, and: streams, how many; cores, the processors of each, on which the threads
            of its session stay, and every thread that runs one of its calls. Without "threads" a stream has an equal
            part of the processors that this process may use; without "spinning" idle threads of several sessions do
            not spin. places: of each stream, its providers and their options.

    Raises:
        ValueError: A setting that there is not.

    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        own = {name: value for name, value in settings.items() if name not in ("streams", "cores", "places")}
        count, cores = int(settings["streams"]), list(settings.get("cores") or ())
        places = list(settings.get("places") or ())
        if count < 1 or (cores and len(cores) != count):
            raise ValueError(f"asked to open {count} streams; found the processors of {len(cores)}")
        if places and len(places) != count:
            raise ValueError(f"asked to open {count} streams; found the places of {len(places)}")
        if own.get("affinity"):
            keep_to(own.pop("affinity"))
        threads = own.get("threads") or max(
            1, (len(cores[0]) if cores else (len(allowed_processors()) or os.cpu_count() or 1) // count)
        )
        own["threads"] = threads
        if threads > 1 and own.get("spinning") is None:
            own["spinning"] = False
        self._cores = cores
        self._count = count
        shared = threads == 1 and not places
        self._sessions = [
            self._opened(path, {**own, **(places[index] if places else {})}, index)
            for index in range(1 if shared else count)
        ]
        self._inputs = self._sessions[0].get_inputs()
        self._outputs = [output.name for output in self._sessions[0].get_outputs()]
        self._turns = itertools.count()

    def bind(self, feeds: Mapping[str, Any]) -> Call:
        """Checks and binds the inputs (arrays by name) to the next stream.

        Raises:
            ValueError: Names, dtypes or shapes that the model does not take.
            RuntimeError: The session is closed.

        """
        if not self._sessions:
            raise RuntimeError("asked to bind feeds; found a session that is closed; open it again")
        arrays = check_feeds(self._inputs, feeds)
        stream = next(self._turns) % self._count
        session = self._sessions[stream % len(self._sessions)]
        if self._cores:
            return _PinnedCall(session, arrays, self._outputs, self._cores[stream])
        return Call(session, arrays, self._outputs)

    def stream(self, samples: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Outputs of each of the feeds, in their order; every stream is at work while these are looked at.

        Raises:
            ValueError: Feeds that do not fit.
            RuntimeError: The session is closed.

        """

        def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
            call = self.bind(feeds)
            call.run()
            return call.outputs()

        return map_ahead(self._count, run, samples)

    def close(self) -> None:
        """Frees the runtime's memory."""
        self._sessions = []

    def _opened(self, path: str | os.PathLike[str], settings: Mapping[str, Any], index: int) -> Any:
        """A session; opened by a thread on its processors, for the runtime's threads inherit these."""
        if not self._cores:
            return open_runtime_session(path, settings)

        def opened() -> Any:
            keep_to(self._cores[index])
            return open_runtime_session(path, settings)

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(opened).result()
