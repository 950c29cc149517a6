"""Every candidate of a recipe, compiled in a child of its own: one that fails is one row."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from edgeport.contracts import (
    Artifact,
    Candidate,
    Capabilities,
    InspectJob,
    OnnxModel,
    Outcome,
    Placement,
    Precision,
    Refusal,
    digest_file,
    load_json,
    to_jsonable,
)
from edgeport.errors import DeviceLost, EdgeportError
from edgeport.isolation import run_isolated
from edgeport.pipeline.compilation.candidates import list_candidates, refused
from edgeport.pipeline.engine.concurrency import side_by_side
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.input_tracking import run_recorded, runs_foreign_code, session_state, states_of
from edgeport.pipeline.quantization.range_search import method_for
from edgeport.pipeline.quantization.recovery import refining_key

__all__ = ["build_candidates", "build_planned"]

_LOG = logging.getLogger(__name__)
_COMPILING = threading.BoundedSemaphore(psutil.cpu_count(logical=False) or 1)
"""Candidates of several devices may be compiled at the same time, but this machine has only so many processors."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    candidate: Candidate
    capabilities: Capabilities
    model: OnnxModel
    calibration: Path | None
    calibration_digest: str
    refining: dict[str, Any] | None
    method: str


def build_candidates(  # noqa: PLR0913 (what all candidates are made from)
    context: RunContext,
    model: OnnxModel,
    capabilities: dict[str, Capabilities],
    calibration: Path | None,
    calibration_digest: str,
    *,
    transformed: OnnxModel | None = None,
    refining: dict[str, Any] | None = None,
    listed: Sequence[Candidate] | None = None,
    methods: Mapping[str, str] | None = None,
) -> list[Candidate]:
    """Compiles every candidate of the recipe, and the baselines; what can't be compiled carries its refusal.

    Args:
        context: Of the run.
        model: The exported model.
        capabilities: By backend.
        calibration: The calibration's file, or None.
        calibration_digest: Of that file; empty where there is none.
        transformed: What static int8 is made from instead of the exported model, where that is another file.
        refining: How static int8 is fitted to its plan (`refining_payload`), fp8 never; None where it isn't.
        listed: What is compiled instead of the recipe's candidates (`list_candidates`); of these backends.
        methods: By dialect, the range method instead of the recipe's.

    """
    if listed is None:
        listed = list_candidates(context.recipe.targets, capabilities)
    jobs = [
        _Job(
            candidate=_with_batch_of(model, candidate),
            capabilities=capabilities[candidate.backend],
            model=transformed if transformed is not None and candidate.needs_ranges else model,
            calibration=calibration,
            calibration_digest=calibration_digest,
            refining=refining if candidate.precision is not Precision.FP8 else None,
            method=method_for(methods or {}, capabilities[candidate.backend], context.recipe.search.calibration_method),
        )
        for candidate in listed
    ]
    total = len(jobs)
    context.clock.step("compile", f"{total} candidates", done=0, total=total)
    return side_by_side(
        lambda job: _build_one(context, job),
        jobs,
        lambda done: context.clock.step("compile", jobs[done - 1].candidate.name, done=done, total=total),
    )


def _with_batch_of(model: OnnxModel, candidate: Candidate) -> Candidate:
    """A model with a fixed batch is called with as many samples, whatever was asked."""
    if model.fixed_batch is None:
        return candidate
    return replace(candidate, execution=replace(candidate.execution, batch=model.fixed_batch))


def _build_one(context: RunContext, job: _Job) -> Candidate:
    try:
        with _COMPILING:
            built = _compiled(context, job)
        return _placed_there(context, built, job.model)
    except DeviceLost:  # no candidate's fault
        raise
    except Exception as error:  # noqa: BLE001 (whatever happens to one candidate is its row; the others go on)
        return refused(job.candidate, error)


def _compiled(context: RunContext, job: _Job) -> Candidate:
    candidate = job.candidate
    missing = _missing(job)
    if missing is not None:
        return replace(candidate, outcome=Outcome.UNMEASURED, refusal=missing)
    static = candidate.needs_ranges
    key = {
        "model": job.model.digest,
        "backend": candidate.backend,
        "capabilities": to_jsonable(job.capabilities),
        "precision": candidate.precision,
        "execution": to_jsonable(candidate.execution),
        "calibration": job.calibration_digest if static else "",
        "method": job.method if static else "",
        "recovery": refining_key(job.refining) if static else None,
        "mix": to_jsonable(candidate.mix),
    }

    payload = {
        "model": to_jsonable(job.model),
        "backend": candidate.backend,
        "precision": candidate.precision,
        "execution": to_jsonable(candidate.execution),
        "calibration": str(job.calibration) if job.calibration and static else None,
        "method": job.method,
        "recovery": job.refining if static else None,
        "mix": to_jsonable(candidate.mix),
        "processor": to_jsonable(job.capabilities.processor),
    }
    function, asked = "edgeport.pipeline.compilation.worker:build", f"compile {candidate.name}"

    def keep(folder: Path, found: dict[str, Any]) -> None:
        (folder / "built.json").write_text(json.dumps(found), encoding="utf-8")

    def build(folder: Path) -> None:
        keep(folder, run_isolated(function, {**payload, "folder": str(folder)}, limits=context.limits, asked=asked))

    def build_watched(folder: Path) -> dict[str, str]:
        found, rests_on = run_recorded(context, function, {**payload, "folder": str(folder)}, asked=asked)
        keep(folder, found)
        return rests_on

    if runs_foreign_code(candidate.backend):
        folder = context.store.get_or_build_watched("compile", key, build_watched, states_of)
    else:
        folder = context.store.get_or_build("compile", key, build)
    return _built(candidate, folder, job.capabilities)


def build_planned(
    context: RunContext, candidate: Candidate, model: OnnxModel, plan: Path, capabilities: Capabilities
) -> Candidate:
    """Compiles a candidate by a plan that is there already; as `build_candidates` else.

    Args:
        context: Of the run.
        candidate: What is compiled.
        model: That the plan is for.
        plan: Its file.
        capabilities: Of the backend.

    """
    payload = {
        "model": to_jsonable(model),
        "backend": candidate.backend,
        "precision": candidate.precision,
        "execution": to_jsonable(candidate.execution),
        "plan": str(plan),
        "processor": to_jsonable(capabilities.processor),
    }
    key = {**payload, "model": model.digest, "plan": digest_file(plan), "capabilities": to_jsonable(capabilities)}

    def build(folder: Path) -> None:
        asked, function = f"compile {candidate.name}", "edgeport.pipeline.compilation.worker:build"
        found = run_isolated(function, {**payload, "folder": str(folder)}, limits=context.limits, asked=asked)
        (folder / "built.json").write_text(json.dumps(found), encoding="utf-8")

    try:
        built = _built(candidate, context.store.get_or_build("compile", key, build), capabilities)
        return _placed_there(context, built, model)
    except DeviceLost:
        raise
    except Exception as error:  # noqa: BLE001 (as in build_candidates)
        return refused(candidate, error)


def _missing(job: _Job) -> Refusal | None:
    """Why this candidate can't be built at all, from what the backend told of itself."""
    capabilities, candidate = job.capabilities, job.candidate
    if not capabilities.installed:
        return Refusal(code="DEPENDENCY_MISSING", reason=capabilities.reason or f"{capabilities.backend} is missing")
    chosen = (choice.precision for choice in candidate.mix.nodes)
    rest = () if candidate.mix.is_plain else (candidate.mix.rest,)  # a backend may have no floats at all
    for precision in dict.fromkeys((candidate.precision, *rest, *chosen)):
        support = capabilities.precisions.get(precision)
        if support is None or not support.available:
            reason = support.reason if support is not None and support.reason else f"{precision} is not offered"
            return Refusal(code="BACKEND_UNSUPPORTED", reason=reason)
    return None


def _built(candidate: Candidate, folder: Path, capabilities: Capabilities) -> Candidate:
    found: dict[str, Any] = json.loads((folder / "built.json").read_text(encoding="utf-8"))
    artifact = load_json(Artifact, json.dumps(found["artifact"]))
    artifact = replace(artifact, folder=folder / "artifact")  # it was built beside its final place
    candidate = _with_placement(replace(candidate, artifact=artifact, recovered_by=tuple(found["recovered_by"])), found)
    if not capabilities.can_run:
        reason = f"built, not run: {capabilities.reason or 'nothing here can run it'}"
        return replace(candidate, outcome=Outcome.UNMEASURED, refusal=Refusal(code="UNMEASURED", reason=reason))
    return candidate


def _with_placement(candidate: Candidate, found: Mapping[str, Any]) -> Candidate:
    placement = load_json(Placement, json.dumps(found["placement"])) if found["placement"] else None
    candidate = replace(candidate, placement=placement, strayed=tuple(found["strayed"]))
    if found["kept"] is not None:
        candidate = replace(candidate, kept=found["kept"]["kept"], lost=tuple(found["kept"]["lost"]))
    return candidate


def _placed_there(context: RunContext, candidate: Candidate, model: OnnxModel) -> Candidate:
    """The candidate with what the device's own runtime made of it, where it was built for another processor.

    A device or a backend that can't say leaves it as it is: the run's notes name what was not read.

    Raises:
        DeviceLost: The device is gone.

    """
    artifact = candidate.artifact
    if artifact is None or candidate.refusal is not None or context.processor is None:
        return candidate
    plan = artifact.folder.parent / "plan.json"
    key = {
        "artifact": artifact.digest,
        "plan": digest_file(plan),
        "session": session_state(artifact.session),
        "device": context.facts.digest,
    }

    def build(folder: Path) -> None:
        job = InspectJob(
            artifact=context.device.push(artifact.folder),
            entry=artifact.entry,
            session=artifact.session,
            settings=artifact.settings,
            outputs=context.device.reserve("told.zip"),
            limits=context.limits,
        )
        context.device.run(job)
        context.device.pull(job.outputs, folder / "told.zip")
        context.device.discard(job.outputs)
        payload = {
            "model": to_jsonable(model),
            "artifact": to_jsonable(artifact),
            "plan": str(plan),
            "told": str(folder / "told.zip"),
            "processor": to_jsonable(context.processor),
        }
        asked = f"see what became of {candidate.name} on {context.facts.name}"
        found = run_isolated(
            "edgeport.pipeline.compilation.worker:placed_there", payload, limits=context.limits, asked=asked
        )
        (folder / "placed.json").write_text(json.dumps(found), encoding="utf-8")

    try:
        folder = context.store.get_or_build("placement", key, build)
    except DeviceLost:
        raise
    except EdgeportError as error:
        _LOG.info("%s: %s", candidate.name, error)
        return replace(candidate, unread=error.found)
    return _with_placement(candidate, json.loads((folder / "placed.json").read_text(encoding="utf-8")))
