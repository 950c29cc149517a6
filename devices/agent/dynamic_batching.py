"""Samples that come one by one, gathered into calls of several: as many as come within a time, up to a number.

Works on any session: it binds, runs and shares out the rows of the outputs. What a gathered call takes is told to each
of its samples, from when it came to when its outputs were there.
"""

from __future__ import annotations

import queue
import threading
from typing import Any, Callable, Mapping

import numpy as np

from edgeport.devices.agent.clock import now_ns
from edgeport.devices.agent.failure import JobError

_SHORTEST_S = 1e-6


class BatchingSession:
    """A session whose calls hold one sample each, and that runs several of them at once.

    Calls of other sizes than 1, 2, 4, ... up to the most are filled up with repeats of the last sample, so that a
    runtime that compiles for a size has few to compile. All sizes run once when it is opened.

    Args:
        session: That runs calls of several samples.
        most: Samples in a call.
        wait_ns: How long the first of a call waits for others, nanoseconds.
        streams: Calls at once.
        feeds: One sample, by input name, with which each size is run before.

    Raises:
        JobError: Outputs that have no row for each sample.

    """

    def __init__(self, session: Any, most: int, wait_ns: int, streams: int, feeds: Mapping[str, Any]) -> None:
        self._session = session
        self._most, self._wait_ns = most, wait_ns
        self._inbox: queue.SimpleQueue[_PendingCall | None] = queue.SimpleQueue()
        self._turn = threading.Lock()
        self._entry = threading.Lock()
        self._closed = False
        self._taken = {name: np.asarray(array) for name, array in feeds.items()}
        sizes = [1]
        while sizes[-1] < most:
            sizes.append(min(most, 2 * sizes[-1]))
        self._sizes = sizes
        for size in sizes:
            self._run([feeds] * size)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(streams)]
        for thread in self._threads:
            thread.start()

    def bind(self, feeds: Mapping[str, Any]) -> _PendingCall:
        """A call with one sample.

        Raises:
            ValueError: Feeds that fit no call with others: another name, dtype or number of axes, or several samples.

        """
        if set(feeds) != set(self._taken):
            raise ValueError(f"asked to feed {sorted(feeds)}; found inputs {sorted(self._taken)}")
        arrays = {name: np.array(array) for name, array in feeds.items()}
        for name, array in arrays.items():
            like = self._taken[name]
            if array.dtype != like.dtype or array.ndim != like.ndim or len(array) != 1:
                raise ValueError(
                    f"asked to feed {name!r} as {array.dtype} {list(array.shape)}; found that it takes one sample "
                    f"like {like.dtype} {list(like.shape)}"
                )
        return _PendingCall(self._enter, arrays)

    def close(self) -> None:
        """Ends the threads when what came before is done, then the session."""
        with self._entry:
            if self._closed:
                return
            self._closed = True
            for _ in self._threads:
                self._inbox.put(None)
        for thread in self._threads:
            thread.join()
        self._session.close()

    def _enter(self, item: _PendingCall) -> None:
        with self._entry:  # nothing comes after the end, for nobody would run it
            if self._closed:
                raise RuntimeError("asked to run a sample; found a session that is closed; open it again")
            self._inbox.put(item)

    def _work(self) -> None:
        while True:
            # One thread gathers at a time: two would share out what comes, and wait twice for the rest.
            with self._turn:
                first = self._inbox.get()
                if first is None:
                    return
                items, ended = self._gather(first)
            try:
                rows = self._run([item.feeds for item in items])
            except BaseException as error:  # noqa: BLE001 (raised where each call was made)
                for item in items:
                    item.end(None, error)
            else:
                for item, row in zip(items, rows):
                    item.end(row, None)
            if ended:
                return

    def _gather(self, first: _PendingCall) -> tuple[list[_PendingCall], bool]:
        """The first and those that come before it has waited long enough; and whether the end came with them."""
        items, until = [first], first.came_ns + self._wait_ns
        while len(items) < self._most:
            left_s = (until - now_ns()) / 1e9
            try:
                item = self._inbox.get(timeout=left_s) if left_s > _SHORTEST_S else self._inbox.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return items, True
            items.append(item)
        return items, False

    def _run(self, samples: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        size = next(size for size in self._sizes if size >= len(samples))
        filled = [*samples, *[samples[-1]] * (size - len(samples))]
        call = self._session.bind({name: np.concatenate([one[name] for one in filled]) for name in filled[0]})
        call.run()
        outputs = call.outputs()
        for name, array in outputs.items():
            if array.ndim == 0 or len(array) != size:
                raise JobError(
                    "SAMPLES_INVALID",
                    f"gather {size} samples into a call",
                    f"the output {name!r} of shape {list(array.shape)}, without a row for each",
                    "run this model without gathering",
                )
        return [{name: array[row : row + 1] for name, array in outputs.items()} for row in range(len(samples))]


class _PendingCall:
    """One sample's call."""

    def __init__(self, enter: Callable[[_PendingCall], None], feeds: dict[str, Any]) -> None:
        self.feeds = feeds
        self.came_ns = 0
        self._enter = enter
        self._done = threading.Lock()
        self._done.acquire()
        self._found: dict[str, Any] | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Waits until its sample was run, alone or with others.

        Raises:
            RuntimeError: The session is closed.

        """
        self.came_ns = now_ns()
        self._enter(self)
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def end(self, found: dict[str, Any] | None, error: BaseException | None) -> None:
        """Wakes the thread that waits."""
        self._found, self._error = found, error
        self._done.release()

    def outputs(self) -> dict[str, Any]:
        """Copies of the last run's outputs, by name."""
        if self._found is None:
            raise RuntimeError("asked for outputs; found that nothing was run; call run() first")
        return {name: np.array(array) for name, array in self._found.items()}
