"""Where a compression works, in a run as in a command: what is finished is kept, and a stopped training goes on."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeport.atomic import atomic_file
from edgeport.code_version import code_version
from edgeport.contracts import Limits, ModelSource, OnProgress, digest_json, to_jsonable
from edgeport.errors import UsageError
from edgeport.isolation import run_isolated
from edgeport.pipeline.benchmarking.artifact import BenchSettings
from edgeport.pipeline.benchmarking.compare import CompareResult, compare_artifacts, median_of
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.input_tracking import run_recorded, states_of
from edgeport.pipeline.engine.workspace import exclusive_workspace
from edgeport.pipeline.output.training_logs import copy_training_logs
from edgeport.store import Store

__all__ = [
    "TRAINING_LOGS",
    "Workbench",
    "command_workbench",
    "measurement_key",
    "publish",
    "require_modules",
    "require_suffix",
]

TRAINING_LOGS = "training-logs"
"""Folder of what a child left in the store, with metrics and curves of each of its trainings."""

_RESPONSE = "found.json"


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """The store, the children and the measurements of one compression.

    Attributes:
        store: Keeps what is finished: a run's, or one in a command's workspace, which is removed when the command ends.
        scratch: A folder for files that nobody needs afterwards.
        limits: Of each child that does not train.
        purpose: What a child is started for, as errors say it.
        on_progress: Told of the events of children and measurements.
        key: All that the results rest on, but for what is measured, and for the files that a watched child reads.
        settings: Of measurements.
        context: Of the run, whose children are watched for the files that they read; None in a command.

    """

    store: Store
    scratch: Path
    limits: Limits
    purpose: str
    on_progress: OnProgress
    key: Mapping[str, Any] = field(default_factory=dict)
    settings: BenchSettings = field(default_factory=BenchSettings)
    context: RunContext | None = None

    def run(
        self, function: str, payload: Mapping[str, object], *, purpose: str = "", trains: bool = False
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """What a child answers, and the state, by name, of what it rested on; a training may take a week."""
        limits, purpose = self.limits.for_training() if trains else self.limits, purpose or self.purpose
        if self.context is None:
            response = run_isolated(function, payload, limits=limits, on_progress=self.on_progress, asked=purpose)
            return response, {}
        context = replace(self.context, limits=limits)
        return run_recorded(context, function, payload, asked=purpose, on_progress=self.on_progress)

    def build(  # noqa: PLR0913 (what, by whom, from what, and where it goes)
        self,
        step: str,
        function: str,
        payload: Callable[[], Mapping[str, object]],
        *,
        key: Mapping[str, object] | None = None,
        files: Mapping[str, str] | None = None,
        trains: bool = False,
        fresh: bool = False,
    ) -> tuple[Path, dict[str, Any]]:
        """The folder with what a child wrote, and what it answered, from the store where it was done before.

        Args:
            step: Name in the store.
            function: Of the child.
            payload: Gives what the child is told; called only where it is needed.
            key: What this child's work rests on beside the bench's key.
            files: Of the payload, to the name of the file in the folder that the child writes.
            trains: It gets a `work` folder, which it goes on from after a stop; its training logs are kept.
            fresh: Without what a stopped training left.

        """
        key = {**self.key, **(key or {})}

        def build(folder: Path) -> dict[str, str]:
            told = {**payload(), **{name: str(folder / file) for name, file in (files or {}).items()}}
            with ExitStack() as stack:
                if trains:
                    digest = digest_json([key, code_version()])
                    work = stack.enter_context(exclusive_workspace(self.store, digest, fresh=fresh, asked=self.purpose))
                    told["work"] = str(work)
                response, rests_on = self.run(function, told, trains=trains)
                (folder / _RESPONSE).write_text(json.dumps(response), encoding="utf-8")
                if trains:
                    copy_training_logs(work, folder / TRAINING_LOGS)
            return rests_on

        folder = self.store.get_or_build_watched(step, key, build, states_of)
        return folder, json.loads((folder / _RESPONSE).read_text(encoding="utf-8"))

    def measure(self, step: str, key: Mapping[str, object], measure: Callable[[], float]) -> float:
        """A number that is measured once with these settings, on this device."""
        device = self.context.facts.digest if self.context is not None else ""
        key = {**self.key, **key, "measured": measurement_key(self.settings), "device": device}
        return float(self.store.get_or_build_json(step, key, measure))

    def median_ns(self, path: Path) -> float:
        """Median of an artifact."""
        return median_of(path, self.settings, self.on_progress)

    def compare(self, old: Path, new: Path) -> CompareResult:
        """Both, in pairs."""
        return compare_artifacts(old, new, self.settings, on_progress=self.on_progress)

    def export(self, source: ModelSource, example: Path, output: Path, *, options: object, purpose: str = "") -> None:
        """An ONNX file of a model, for its latency; options are an `ExportOptions` as JSON values."""
        payload = {"source": to_jsonable(source), "example": str(example), "output": str(output), "options": options}
        purpose = purpose or f"export {source.location}"
        self.run("edgeport.exporter.worker:export_in_child", payload, purpose=purpose)


@contextmanager
def command_workbench(  # noqa: PLR0913 (those of the API)
    digest: str | None,
    *,
    purpose: str,
    store: Path | None,
    limits: Limits,
    on_progress: OnProgress,
    fresh: bool,
    settings: BenchSettings | None = None,
) -> Iterator[Workbench]:
    """What a command works with; a stopped one goes on with what is there.

    Args:
        digest: Of all that makes it this work; None where nothing is kept of one that was stopped.
        purpose: What it is for, as errors say it.
        store: As in `edgeport.api.run`.
        limits: Of each child.
        on_progress: Told of every step.
        fresh: Without what a stopped one left.
        settings: Of measurements.

    Raises:
        UsageError: Another process is at it.

    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeport-compression-")))
        workspace = scratch / "store"
        if digest is not None:
            workspace = stack.enter_context(exclusive_workspace(Store(store), digest, fresh=fresh, asked=purpose))
        yield Workbench(
            store=Store(workspace),
            scratch=scratch,
            limits=limits,
            purpose=purpose,
            on_progress=on_progress,
            settings=settings or BenchSettings(),
        )


def measurement_key(settings: BenchSettings) -> list[object]:
    """What measurements are made with, for keys."""
    return [settings.backend, settings.threads, settings.rounds, settings.duration_s]


def publish(file: Path, output: Path) -> None:
    """Copies a finished file to where the user wants it, whole or not at all."""
    with atomic_file(output) as draft:
        shutil.copyfile(file, draft)


def require_modules(asked: str, *sources: ModelSource | None) -> None:
    """Makes sure that teacher and student are modules.

    Raises:
        UsageError: One is a graph.

    """
    for source in sources:
        if source is not None and source.location.endswith((".onnx", ".pt2")):
            raise UsageError(
                asked=asked,
                found=f"{source.location}, whose graph is fixed",
                fix="give teacher and student as PyTorch models: pkg.mod:factory and weights",
            )


def require_suffix(output: Path, suffix: str, asked: str = "write") -> None:
    """Makes sure that a file can be written as what it is called.

    Raises:
        UsageError: It has another ending.

    """
    if output.suffix != suffix:
        raise UsageError(asked=f"{asked} {output.name}", found="another kind of file", fix=f"name it {suffix}")
