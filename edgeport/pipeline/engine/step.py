"""Work in a child process, kept in the store: the request is payload and key at once."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from edgeport.contracts import Limits, OnProgress, dump_json, load_json, silent, to_jsonable
from edgeport.contracts.request import fingerprint
from edgeport.isolation import run_isolated
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import tool_versions
from edgeport.pipeline.engine.input_tracking import run_recorded, states_of

__all__ = ["Step", "call_worker"]

Request = TypeVar("Request")
Response = TypeVar("Response")

_RESPONSE = "response.json"


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Request, Response]):
    """One kind of work.

    Attributes:
        name: In the store ("calibrate").
        worker: A typed function of a module, `worker(request, folder)`, with an optional `on_progress`; request and
            response are dataclasses that JSON can carry. It runs in a child, and writes its files into the folder.

    """

    name: str
    worker: Callable[[Request, Path], Response]

    def run(
        self,
        context: RunContext,
        request: Request,
        *,
        asked: str,
        traced: bool = False,
        on_progress: OnProgress = silent,
    ) -> tuple[Path, Response]:
        """The folder and the response, from the store or by a child.

        Args:
            context: Of the run.
            request: What is to be done; equal requests (`fingerprint`) are done once.
            asked: What for, as errors say it.
            traced: User code takes part: what it reads is noted, and looked at before a response is used again.
            on_progress: Told of the child's events.

        Raises:
            EdgeportError: As the worker raised it, or of the child's end (see `run_isolated`).

        """
        key = {"request": fingerprint(request), "versions": tool_versions()}

        def build(folder: Path) -> None:
            response = self.call(request, folder, limits=context.limits, asked=asked, on_progress=on_progress)
            (folder / _RESPONSE).write_bytes(dump_json(response))

        def build_traced(folder: Path) -> dict[str, str]:
            found, rests_on = run_recorded(
                context, _ENTRY, self._payload(request, folder), asked=asked, on_progress=on_progress
            )
            (folder / _RESPONSE).write_text(json.dumps(found["response"]), encoding="utf-8")
            return rests_on

        if traced:
            folder = context.store.get_or_build_watched(self.name, key, build_traced, states_of)
        else:
            folder = context.store.get_or_build(self.name, key, build)
        return folder, self._response((folder / _RESPONSE).read_bytes())

    def call(
        self, request: Request, folder: Path, *, limits: Limits, asked: str, on_progress: OnProgress = silent
    ) -> Response:
        """Does the work in a child, whatever the store has; the folder gets its files.

        Raises:
            EdgeportError: As of `run`.

        """
        found = run_isolated(
            _ENTRY, self._payload(request, folder), limits=limits, on_progress=on_progress, asked=asked
        )
        return self._response(json.dumps(found["response"]))

    def _payload(self, request: Request, folder: Path) -> dict[str, Any]:
        worker = f"{self.worker.__module__}:{self.worker.__qualname__}"
        return {"worker": worker, "request": to_jsonable(request), "folder": str(folder.absolute())}

    def _response(self, text: str | bytes) -> Response:
        response: Response = load_json(_types_of(self.worker)[1], text)
        return response


def call_worker(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """The child's side: `worker` (module:function), its `request` and its `folder`; gives the `response`."""
    module, _, name = payload["worker"].partition(":")
    worker = getattr(importlib.import_module(module), name)
    request = load_json(_types_of(worker)[0], json.dumps(payload["request"]))
    more = {"on_progress": on_progress} if "on_progress" in inspect.signature(worker).parameters else {}
    return {"response": to_jsonable(worker(request, Path(payload["folder"]), **more))}


def _types_of(worker: Callable[..., Any]) -> tuple[Any, Any]:
    """Of the request and the response."""
    hints = get_type_hints(worker)
    return hints[next(iter(inspect.signature(worker).parameters))], hints["return"]


_ENTRY = f"{__name__}:{call_worker.__name__}"
