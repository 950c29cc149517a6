"""The stages of a model in a row, at work on different calls.

Ships to devices within `session.py`: Python 3.8 syntax, standard library, numpy and onnxruntime only.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence  # noqa: UP035 (Python 3.8 can't subscript those of collections.abc)

import numpy as np

from edgeport.backends.onnxruntime.session_support.feeds import check_feeds, plain_text
from edgeport.backends.onnxruntime.session_support.runtime_session import open_runtime_session
from edgeport.backends.onnxruntime.session_support.stage_process import StageProcess
from edgeport.backends.session_support.affinity import allowed_processors

__all__ = ["Pipeline", "StageError"]

_WAITING_PER_STAGE = 2


class StageError(RuntimeError):
    """A stage of a pipeline failed; with it the pipeline ends."""


class Pipeline:
    """Stages in a row, each with a thread, a session and processors of its own, all at work on different calls.

    Threads of one process, for ONNX Runtime lets go of Python's lock while it computes: values go from stage to stage
    as they are, nothing is copied, and no process can be left behind. Or, where it is asked for, each session lies in a
    process of its own, which the thread here feeds through shared memory: what one crashes, or takes of memory or of a
    device, is its own, and each value that crosses is copied twice. Calls leave in the order in which they came. Calls
    that wait are held back at the entry, so that at most two per stage are inside.

    Args:
        folder: Where the files of the stages lie.
        settings: stages: one mapping each, of "entry" (the file) and settings as of a session. Stages without
            "affinity" share the processors that this process may use in equal parts, with a thread on each; where there
            are fewer processors than stages, each has one thread, and goes where the system puts it. outputs: names of
            the whole's outputs, in order; what no stage makes of them is an input.
            processes: true for a process per stage.

    Raises:
        ValueError: A setting that there is not.

    """

    def __init__(self, folder: str, settings: Mapping[str, Any]) -> None:
        if set(settings) - {"processes"} != {"stages", "outputs"}:
            raise ValueError(
                f"asked to open a pipeline with {sorted(settings)}; found settings stages and outputs, and processes"
            )
        self._outputs = list(settings["outputs"])
        stages = settings["stages"]
        shares = _shares(len(stages))
        own = [{**({"affinity": share} if share else {"threads": 1}), **one} for one, share in zip(stages, shares)]  # noqa: B905
        opening = StageProcess if settings.get("processes") else open_runtime_session
        self._stages = [_Stage(folder, one, opening) for one in own]
        for stage, following in zip(self._stages, self._stages[1:]):  # noqa: B905 (newer than 3.8)
            stage.following = following
        self._entry = threading.Semaphore(_WAITING_PER_STAGE * len(stages))
        self._turn = threading.Lock()
        self._closed = False
        try:
            for stage in self._stages:  # one after the other, so that at most one loads at a time
                stage.open()
        except BaseException:
            self.close()
            raise
        made = {name for stage in self._stages for name in stage.outputs}
        inputs = {node.name: node for stage in self._stages for node in stage.inputs if node.name not in made}
        self._inputs = list(inputs.values())
        self._passed = [name for name in self._outputs if name not in made and name not in inputs]

    @property
    def processes(self) -> list[int]:
        """Numbers of the processes that it runs in besides this one."""
        return [stage.pid for stage in self._stages if stage.pid != os.getpid()]

    def bind(self, feeds: Mapping[str, Any]) -> _StagedCall:
        """Checks the inputs (arrays by name); the call runs on them as they are now.

        Raises:
            ValueError: Names, dtypes or shapes that the model does not take.
            RuntimeError: The pipeline is closed.

        """
        missing = [name for name in self._passed if name not in feeds]
        if missing:
            raise ValueError(f"asked to feed {sorted(feeds)}; found inputs {missing} too")
        passed = {name: np.array(feeds[name]) for name in self._passed}
        arrays = check_feeds(self._inputs, {name: array for name, array in feeds.items() if name not in passed})
        return _StagedCall(self, {**arrays, **passed})

    def stream(self, samples: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Outputs of each of the feeds, in their order; the stages work ahead while these are looked at.

        Raises:
            ValueError: Feeds that do not fit.
            StageError: A stage failed.
            RuntimeError: The pipeline is closed.

        """
        inside: list[_Item] = []
        for feeds in samples:
            inside.append(self.enter(self.bind(feeds).arrays))
            if len(inside) == _WAITING_PER_STAGE * len(self._stages):
                yield self.leave(inside.pop(0))
        while inside:
            yield self.leave(inside.pop(0))

    def enter(self, arrays: Mapping[str, Any]) -> _Item:
        """Puts a call in, as soon as there is room."""
        self._entry.acquire()
        item = _Item(arrays, self._entry)
        with self._turn:
            if self._closed:
                self._entry.release()
                raise RuntimeError("asked to run a pipeline; found one that is closed; open it again")
            self._stages[0].inbox.put(item)
        return item

    def leave(self, item: _Item) -> dict[str, Any]:
        """Waits for a call; its outputs by name, text as arrays of numpy's own text.

        Raises:
            StageError: A stage failed, in this call or before.

        """
        item.done.acquire()
        if item.error is not None:
            raise StageError(str(item.error)) from item.error
        return {name: plain_text(item.values[name]) for name in self._outputs}

    def close(self) -> None:
        """Ends the threads, when the calls that are inside have left, and frees the runtime's memory."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._stages[0].inbox.put(None)
        for stage in self._stages:
            stage.join()


class _Item:
    """One call on its way."""

    def __init__(self, arrays: Mapping[str, Any], entry: threading.Semaphore) -> None:
        self.values = dict(arrays)
        self.error: BaseException | None = None
        # A plain lock wakes the thread that waits in some microseconds.
        self.done = threading.Lock()
        self.done.acquire()
        self._entry = entry

    def end(self) -> None:
        self._entry.release()
        self.done.release()


class _Stage:
    """One file and the thread that runs it."""

    def __init__(
        self, folder: str, settings: Mapping[str, Any], opening: Callable[[str, Mapping[str, Any]], Any]
    ) -> None:
        self._opening = opening
        self._settings = {name: value for name, value in settings.items() if name != "entry"}
        self._entry = str(settings["entry"])
        self._path = os.path.join(folder, self._entry)  # noqa: PTH118 (see `open_session`)
        self.inbox: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self.following: _Stage | None = None
        self.inputs: Sequence[Any] = ()
        self.outputs: list[str] = []
        self.pid = os.getpid()
        self._failed: BaseException | None = None
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def open(self) -> None:
        """Starts the thread, and waits until its session is open."""
        self._thread.start()
        self._opened.wait()
        if self._failed is not None:
            raise self._failed

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        session = None
        try:
            # In this thread: on Linux affinity is a thread's own, and the runtime's threads inherit it.
            session = self._opening(self._path, self._settings)
            self.pid = getattr(session, "pid", self.pid)
            self.inputs = session.get_inputs()
            self.outputs = [output.name for output in session.get_outputs()]
        except BaseException as error:  # noqa: BLE001 (raised by the thread that opens)
            self._failed = error
        self._opened.set()
        while True:
            item = self.inbox.get()
            if item is not None and item.error is None:
                self._run(session, item)
            if self.following is not None:
                self.following.inbox.put(item)
            elif item is not None:
                item.end()
            if item is None:
                if isinstance(session, StageProcess):
                    session.close()
                return

    def _run(self, session: Any, item: _Item) -> None:
        try:
            if self._failed is not None:
                raise self._failed
            feeds = {node.name: item.values[node.name] for node in self.inputs}
            results = session.run(self.outputs, feeds)
            item.values.update(zip(self.outputs, results))  # noqa: B905 (newer than 3.8)
        except BaseException as error:  # noqa: BLE001 (raised by the thread that waits for the call)
            found = f"{type(error).__name__}: {error}"
            item.error = self._failed = (
                error
                if isinstance(error, StageError)
                else StageError(
                    f"asked to run stage {self._entry}; found {found}; the pipeline has ended, so open it again"
                )
            )


class _StagedCall:
    """One bound call of a pipeline; several run at once in as many threads."""

    def __init__(self, pipeline: Pipeline, arrays: dict[str, Any]) -> None:
        self.arrays = arrays
        self._pipeline = pipeline
        self._found: dict[str, Any] | None = None

    def run(self) -> None:
        """One inference, through all stages."""
        self._found = self._pipeline.leave(self._pipeline.enter(self.arrays))

    def outputs(self) -> dict[str, Any]:
        """Copies of the last run's outputs, by name.

        Raises:
            RuntimeError: Nothing was run yet.

        """
        if self._found is None:
            raise RuntimeError("asked for outputs; found that nothing was run; call run() first")
        return {name: np.array(array) for name, array in self._found.items()}


def _shares(count: int) -> list[list[int]]:
    """The processors of each of so many stages; none where there are too few, or the system does not tell."""
    mine = allowed_processors()
    if len(mine) < count:
        return [[] for _ in range(count)]
    return [mine[index * len(mine) // count : (index + 1) * len(mine) // count] for index in range(count)]
