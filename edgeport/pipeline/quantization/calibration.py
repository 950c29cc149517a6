"""One calibration by one child process, or by several over disjoint parts of the samples, merged exactly."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeport.calibration.ranges import method_named, observers_of
from edgeport.contracts import Calibration, Capabilities, Limits, OnnxModel, OnProgress, ProgressEvent, to_jsonable
from edgeport.contracts.recipe import SamplesFile, SamplesLocation, SamplesMade
from edgeport.errors import UsageError, require_known
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.datasets.calibration_samples import samples_payload
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.datasets.raw_files import preparation_for
from edgeport.pipeline.datasets.sources import location_named
from edgeport.pipeline.datasets.state_binding import states_of_model
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import tool_versions
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.quantization.range_search import measures, methods_from
from edgeport.pipeline.quantization.recovery import Transformed, named_before_calibration, transform_in_child

_LOG = logging.getLogger(__name__)

__all__ = ["Calibrated", "calibrate_in_children", "calibrate_model", "calibrate_onnx", "origin"]

_FUNCTION = "edgeport.pipeline.quantization.calibration_worker:calibrate"

_MADE = {
    "range": "drawn from the declared range of the inputs",
    "synthetic": "made from BatchNorm statistics",
    "generator": "made by a generator that learned from the model",
    "vae": "drawn from a model of the data (VAE)",
}
"""How samples were made up, in a note; by what their file says."""


def calibrate_in_children(
    payload: Mapping[str, Any], workers: int, *, limits: Limits, on_progress: OnProgress, asked: str
) -> dict[str, Any]:
    """Runs `calibrating_child.calibrate`; the file at `payload["output"]` is the same whatever the number of workers.

    Args:
        payload: Of `calibrating_child.calibrate`.
        workers: Processes; each takes whole batches, and its share of the cores.
        limits: Of each child.
        on_progress: Told of the batches of all of them.
        asked: What the user asked for, for messages about a child that was killed.

    Raises:
        UsageError: No workers, or several for a model with a state.

    """
    if workers < 1:
        raise UsageError(asked=f"calibrate with {workers} workers", found="a number below 1", fix="give 1 or more")
    if workers == 1:
        return run_isolated(_FUNCTION, payload, limits=limits, on_progress=on_progress, asked=asked)
    if payload["model"].get("state"):
        raise UsageError(
            asked=f"calibrate with {workers} workers",
            found="a model with a state, whose samples follow each other",
            fix="leave the workers out: one process takes the samples in their order",
        )
    import psutil

    from edgeport.calibration.merge import merge_calibrations
    from edgeport.pipeline.engine.concurrency import side_by_side

    threads = max(1, (psutil.cpu_count(logical=False) or 1) // workers)
    together = _Together(on_progress, workers)
    with tempfile.TemporaryDirectory(prefix="edgeport-parts-") as folder:
        files = [Path(folder) / f"{index}.safetensors" for index in range(workers)]

        def work(index: int) -> dict[str, Any]:
            own = {**payload, "part": [index, workers], "threads": threads, "output": str(files[index])}
            return run_isolated(_FUNCTION, own, limits=limits, on_progress=together.listener(index), asked=asked)

        found = side_by_side(work, range(workers), lambda done: None, at_once=workers)  # noqa: ARG005 (told by batches)
        parts = [Calibration.load(file) for file, part in zip(files, found, strict=True) if part["sample_count"]]
    calibration = merge_calibrations(parts)
    calibration.save(Path(payload["output"]))
    return {
        "digest": calibration.digest,
        "sample_count": calibration.sample_count,
        "warnings": [warning for part in found for warning in part["warnings"]],
    }


class _Together:
    """Sums up what several children tell of themselves."""

    def __init__(self, on_progress: OnProgress, workers: int) -> None:
        self._on_progress = on_progress
        self._workers = workers
        self._lock = threading.Lock()
        self._told: dict[int, ProgressEvent] = {}

    def listener(self, index: int) -> OnProgress:
        """For child `index`."""

        def tell(event: ProgressEvent) -> None:
            with self._lock:
                self._told[index] = event
                told = self._told.values()
                done = sum(one.done for one in told)
                total = sum(one.total for one in told) * self._workers // len(told)  # parts are about equally large
                self._on_progress(ProgressEvent(stage=event.stage, message=event.message, done=done, total=total))

        return tell


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """The statistics that static int8 is planned from.

    Attributes:
        file: They lie here; None where no candidate is static int8.
        digest: Of the file.
        notes: What a reader must know of the samples and the ranges, a sentence each.
        methods: By dialect, the range method that was measured to be best; empty where the recipe names one.

    """

    file: Path | None = None
    digest: str = ""
    notes: tuple[str, ...] = ()
    methods: Mapping[str, str] = field(default_factory=dict)


def calibrate_model(
    context: RunContext,
    model: OnnxModel,
    samples: PreparedSamples,
    by_device: Mapping[str, Mapping[str, Capabilities]],
    *,
    transforms: Sequence[str] = (),
) -> Calibrated:
    """Statistics of the activations that the targets' plans read, where a candidate needs them.

    Args:
        context: Of the run.
        model: That static int8 is made from.
        samples: Of the recipe.
        by_device: Capabilities by device and backend.
        transforms: What was done to the float model to make `model`.

    Returns:
        What was found; nothing where no candidate is static int8.

    """
    recipe = context.recipe
    targets = [target for target in recipe.targets if target.needs_ranges]
    if not targets or recipe.data.calibration is None:
        return Calibrated()
    context.clock.step("calibrate")
    wanted = sorted({(target.backend, target.device) for target in targets})
    capable = {one: by_device.get(one[1], {}).get(one[0]) for one in wanted}
    known = [one.rules if one is not None else None for one in capable.values()]
    # What is folded depends on which nodes are chosen, so then every activation is watched.
    chosen = any(target.mix.nodes for target in targets)
    rules: list[Any] = []
    for one in known:
        if one is not None and not chosen and to_jsonable(one) not in rules:
            rules.append(to_jsonable(one))
    method = recipe.search.calibration_method
    observers = observers_of(method_named(method))
    measured: dict[str, dict[str, Any]] = {}
    for (backend, _), one in zip(wanted, known, strict=True):
        if one is not None and measures(method):
            measured.setdefault(one.dialect, {"backend": backend, "rules": to_jsonable(one)})
    key = {
        "model": model.digest,
        "samples": samples.calibration_fingerprint,
        "observers": list(observers),
        "state": dict(model.state),
        "initial": dict(recipe.initial),
        "rules": rules,
        "transforms": list(transforms),
        "measure": measured,
        "versions": tool_versions(),
    }

    def build(folder: Path) -> None:
        payload = {
            "model": to_jsonable(model),
            **samples_payload(recipe, samples),
            "initial": dict(recipe.initial),
            "states": [to_jsonable(spec) for spec in states_of_model(recipe, model.inputs)],
            "observers": list(observers),
            "rules": rules,
            "transforms": list(transforms),
            "measure": measured,
            "output": str(folder / "calibration.safetensors"),
        }
        inside = context.clock.inside("calibrate")
        asked = f"calibrate {recipe.name}"
        found = run_isolated(
            "edgeport.pipeline.quantization.calibration_worker:calibrate",
            payload,
            limits=context.limits,
            on_progress=inside,
            asked=asked,
        )
        (folder / "facts.json").write_text(json.dumps(found), encoding="utf-8")

    folder = context.store.get_or_build("calibrate", key, build)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    notes = (
        *(f"Calibration: {warning}" for warning in facts["warnings"]),
        origin(recipe.data.calibration, facts["sample_count"]),
    )
    methods = methods_from(facts)
    notes += tuple(f"Ranges for {name}: {one.said}." for name, one in methods.items() if one.said)
    return Calibrated(
        file=folder / "calibration.safetensors",
        digest=facts["digest"],
        notes=notes,
        methods={name: one.method for name, one in methods.items()},
    )


def origin(location: SamplesLocation | SamplesMade, count: int) -> str:
    """Where ranges come from, as a note."""
    made = location.made if isinstance(location, SamplesFile) else ""
    if not made:
        return f"Ranges come from {count} calibration samples."
    how = _MADE.get(made, f"made by {made}")
    return f"Ranges come from {count} synthetic samples, {how}, not from data: static int8 is calibrated without any."


def calibrate_onnx(  # noqa: PLR0913 (those of the API)
    model: Path,
    samples: Path | str,
    *,
    output: Path,
    observers: tuple[str, ...],
    batch_size: int,
    target: str,
    preprocess: Path | None,
    workers: int,
    recover: Sequence[str],
    on_progress: OnProgress,
    limits: Limits,
) -> Calibration:
    """See `edgeport.api.calibrate`."""
    from edgeport.calibration.observers import OBSERVERS

    for name in observers or ("",):
        require_known("watch tensors with observer", name, OBSERVERS)
    methods = named_before_calibration(recover)
    require_writable(output)
    opened = open_onnx(model)
    about_samples = {
        "samples": to_jsonable(location_named(samples)),
        **preparation_for(preprocess, opened.inputs).as_payload(),
        "target": target,
    }
    done = Transformed(model=opened)
    if methods:
        made = output.resolve().with_name(f"{output.stem}.recovered.onnx")
        payload = {"model": to_jsonable(opened), "methods": methods, **about_samples, "output": str(made)}
        done = transform_in_child(payload, limits, asked=f"recover accuracy of {model.name}")
    payload = {
        **about_samples,
        "model": to_jsonable(done.model),
        "transforms": list(done.said),
        "observers": list(observers),
        "batch_size": batch_size,
        "output": str(output.resolve()),
    }
    found = calibrate_in_children(
        payload, workers, limits=limits, on_progress=on_progress, asked=f"calibrate {model.name}"
    )
    for warning in found["warnings"]:
        _LOG.warning("%s", warning)
    return Calibration.load(output)
