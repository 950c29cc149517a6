"""Outputs of every candidate on the device, and what they are worth."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeport.contracts import (
    AccuracyResult,
    Artifact,
    Candidate,
    EvaluateJob,
    Outcome,
    Precision,
    Refusal,
    digest_file,
    load_json,
)
from edgeport.errors import DeviceError, DeviceLost
from edgeport.isolation import run_isolated
from edgeport.pipeline.compilation.candidates import refused
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.engine.concurrency import side_by_side
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import tool_versions
from edgeport.pipeline.engine.input_tracking import run_recorded, session_state, states_of

__all__ = ["Reference", "Validated", "require_judgeable", "validate_candidates"]

_SAME_DB = 60.0


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What candidates are compared with.

    Attributes:
        outputs: `.npz`, one array [N, ...] per output, of the float model over the evaluation set.
        name: For tables ("PyTorch float32").

    """

    outputs: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class Validated:
    """A candidate and its outputs.

    Attributes:
        candidate: With its accuracy, or a refusal.
        outputs: `.npz`, one array [N, ...] per output; None where it has none.

    """

    candidate: Candidate
    outputs: Path | None


def validate_candidates(
    context: RunContext, candidates: list[Candidate], samples: PreparedSamples, reference: Reference
) -> list[Validated]:
    """Runs the evaluation set through every candidate that can run, and judges the outputs."""
    total = len(candidates)
    context.clock.step("validate", f"{samples.count} samples", done=0, total=total)
    basis = _Basis.of(context, samples, reference)
    return side_by_side(
        lambda candidate: _validated(context, candidate, samples, basis),
        candidates,
        lambda done: context.clock.step("validate", candidates[done - 1].name, done=done, total=total),
    )


def require_judgeable(context: RunContext, samples: PreparedSamples, reference: Reference) -> None:
    """Judges the reference against itself: what is wrong with the metric or the labels is found here, and once.

    Raises:
        SamplesError: The labels do not fit the metric.
        SourceError: The user's metric does not import, raises, or returns no usable numbers.
        WrongOutput: The reference's own output holds NaN.

    """
    _judged(context, reference.outputs, "reference", _Basis.of(context, samples, reference))


@dataclass(frozen=True, kw_only=True)
class _Basis:
    """What outputs are judged by.

    Attributes:
        payload: Of `edgeport.pipeline.evaluation.worker.judge`, but for the outputs.
        key: What is known of that, for the store.

    """

    payload: dict[str, object]
    key: dict[str, object]

    @classmethod
    def of(cls, context: RunContext, samples: PreparedSamples, reference: Reference) -> _Basis:
        data, search_path = context.recipe.data, context.recipe.search_path
        asked = {
            "metric": data.metric,
            "output": data.output,
            "decode": data.decode,
            "search_path": str(search_path) if search_path else None,
            "allowed_drop": context.recipe.budget.accuracy_drop,
            "reference_name": reference.name,
            "starts": list(samples.starts),
        }
        target = samples.target
        return cls(
            payload={
                **asked,
                "reference": str(reference.outputs),
                "target": str(target) if target is not None else None,
            },
            key={
                **asked,
                "reference": digest_file(reference.outputs),
                "target": digest_file(target) if target is not None else None,
                "versions": tool_versions(),
            },
        )


def _validated(context: RunContext, candidate: Candidate, samples: PreparedSamples, basis: _Basis) -> Validated:
    if candidate.refusal is not None or candidate.artifact is None:
        return Validated(candidate=candidate, outputs=None)
    outputs: Path | None = None
    try:
        outputs = _outputs(context, candidate, candidate.artifact, samples)
        judged = _with_accuracy(candidate, _judged(context, outputs, candidate.artifact.digest, basis))
    except DeviceLost:  # no candidate's fault, and none can be judged without it
        raise
    except Exception as error:  # noqa: BLE001 (whatever happens to one candidate is its row; the others go on)
        return Validated(candidate=refused(candidate, error), outputs=outputs)
    return Validated(candidate=judged, outputs=outputs)


def _outputs(context: RunContext, candidate: Candidate, artifact: Artifact, samples: PreparedSamples) -> Path:
    """`.npz` with the candidate's outputs over the evaluation set.

    Raises:
        DeviceError: The device ran something else than was built.

    """
    key = {
        "artifact": artifact.digest,
        "session": session_state(artifact.session),
        "batch": candidate.execution.batch,
        "samples": samples.fingerprint,
        "state": [dict(context.recipe.state), dict(context.recipe.initial)],
        "device": context.facts.digest,
    }

    def build(folder: Path) -> None:
        job = EvaluateJob(
            artifact=context.device.push(artifact.folder),
            entry=artifact.entry,
            session=artifact.session,
            settings=artifact.settings,
            feeds=context.device.push(samples.feeds),
            outputs=context.device.reserve("outputs.npz"),
            batch=candidate.execution.batch,
            state=context.recipe.state,
            starts=samples.starts,
            limits=context.limits,
        )
        trace = context.device.run(job)
        if trace.artifact_digest != artifact.digest:
            raise DeviceError(
                asked=f"run artifact {artifact.digest[:12]} ({candidate.name}) over the evaluation set",
                found=f"that artifact {trace.artifact_digest[:12]} was run: it was changed on its way to the device",
                fix="run again; where it stays so, see what writes to the store or to the device's folder",
            )
        context.device.pull(job.outputs, folder / "outputs.npz")
        context.device.discard(job.outputs)

    return context.store.get_or_build("evaluate", key, build) / "outputs.npz"


def _judged(context: RunContext, outputs: Path, whose: str, basis: _Basis) -> AccuracyResult:
    """Always in a child: the metric may be the user's code, and the outputs larger than this process should hold."""
    payload = {**basis.payload, "outputs": str(outputs)}
    key = {**basis.key, "whose": whose, "outputs": digest_file(outputs)}
    function = "edgeport.pipeline.evaluation.worker:judge"
    asked = f"judge outputs by {context.recipe.data.metric}"

    def keep(folder: Path, found: dict[str, Any]) -> None:
        (folder / "accuracy.json").write_text(json.dumps(found["accuracy"]), encoding="utf-8")

    def build(folder: Path) -> None:
        keep(folder, run_isolated(function, payload, limits=context.limits, asked=asked))

    def build_watched(folder: Path) -> dict[str, str]:
        found, rests_on = run_recorded(context, function, payload, asked=asked)
        keep(folder, found)
        return rests_on

    if ":" in context.recipe.data.metric or context.recipe.data.decode:
        folder = context.store.get_or_build_watched("judge", key, build_watched, states_of)
    else:
        folder = context.store.get_or_build("judge", key, build)
    return load_json(AccuracyResult, (folder / "accuracy.json").read_bytes())


def _with_accuracy(candidate: Candidate, accuracy: AccuracyResult) -> Candidate:
    if candidate.precision is Precision.FP32 and accuracy.outcome is Outcome.INCONCLUSIVE:
        accuracy = _same_arithmetic(accuracy)
    candidate = replace(candidate, accuracy=accuracy)
    if accuracy.outcome is Outcome.INVALID:  # nothing to be gained by timing it
        refusal = Refusal(code="WRONG_OUTPUT", reason=accuracy.reason)
        candidate = replace(candidate, outcome=Outcome.INVALID, refusal=refusal)
    return candidate


def _same_arithmetic(accuracy: AccuracyResult) -> AccuracyResult:
    """float32 that agrees with the reference to 60 dB (one part in 1000) is the reference, however few samples."""
    if accuracy.details.get("sqnr_db", 0.0) < _SAME_DB:
        return accuracy
    return replace(accuracy, outcome=Outcome.PASS, reason="")
