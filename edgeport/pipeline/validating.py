"""Outputs of every candidate on the device, and what they are worth."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from edgeport.contracts import (
    AccuracyResult,
    Artifact,
    Candidate,
    EvaluateJob,
    Outcome,
    Precision,
    Refusal,
    load_json,
    to_jsonable,
)
from edgeport.errors import SourceError, UsageError
from edgeport.isolation import run_isolated
from edgeport.pipeline.building import refused
from edgeport.pipeline.context import RunContext, side_by_side
from edgeport.pipeline.dependencies import session_state
from edgeport.pipeline.samples import PreparedSamples

__all__ = ["Reference", "validate_candidates"]

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
    evaluated = side_by_side(
        lambda candidate: _evaluate(context, candidate, samples),
        candidates,
        lambda done: context.clock.step("validate", candidates[done - 1].name, done=done, total=total),
    )
    return [_judge(context, one, samples, reference) for one in evaluated]


def _evaluate(context: RunContext, candidate: Candidate, samples: PreparedSamples) -> Validated:
    if candidate.refusal is not None or candidate.artifact is None:
        return Validated(candidate=candidate, outputs=None)
    try:
        return Validated(candidate=candidate, outputs=_outputs(context, candidate, candidate.artifact, samples))
    except Exception as error:  # noqa: BLE001 (whatever happens to one candidate is its row; the others go on)
        return Validated(candidate=refused(candidate, error), outputs=None)


def _outputs(context: RunContext, candidate: Candidate, artifact: Artifact, samples: PreparedSamples) -> Path:
    """`.npz` with the candidate's outputs over the evaluation set."""
    key = {
        "artifact": artifact.digest,
        "session": session_state(artifact.session),
        "batch": candidate.execution.batch,
        "samples": samples.fingerprint,
        "device": context.facts.digest,
    }

    def build(folder: Path) -> None:
        context.scratch.mkdir(parents=True, exist_ok=True)
        there = context.scratch / f"outputs-{artifact.digest}.npz"
        job = EvaluateJob(
            artifact=context.device.push(artifact.folder),
            entry=artifact.entry,
            session=artifact.session,
            settings=artifact.settings,
            feeds=context.device.push(samples.feeds),
            outputs=str(there),
            batch=candidate.execution.batch,
            limits=context.limits,
        )
        trace = context.device.run(job)
        context.device.pull(job.outputs, folder / "outputs.npz")
        (folder / "trace.json").write_text(str(to_jsonable(trace)["flags"]), encoding="utf-8")
        there.unlink(missing_ok=True)

    return context.store.get_or_build("evaluate", key, build) / "outputs.npz"


def _judge(context: RunContext, one: Validated, samples: PreparedSamples, reference: Reference) -> Validated:
    if one.outputs is None:
        return one
    from edgeport.pipeline.children import judge

    data, search_path = context.recipe.data, context.recipe.source.search_path
    payload = {
        "outputs": str(one.outputs),
        "reference": str(reference.outputs),
        "target": str(samples.target) if samples.target is not None else None,
        "metric": data.metric,
        "output": data.output,
        "search_path": str(search_path) if search_path else None,
        "allowed_drop": context.recipe.budget.accuracy_drop,
        "reference_name": reference.name,
    }
    try:
        if ":" in data.metric:  # the user's code, which must not run in this process
            found = run_isolated("edgeport.pipeline.children:judge", payload, limits=context.limits)
        else:
            found = judge(payload)
    except (SourceError, UsageError):
        raise  # about the metric, not about this candidate
    except Exception as error:  # noqa: BLE001 (whatever happens to one candidate is its row; the others go on)
        return replace(one, candidate=refused(one.candidate, error))
    accuracy = load_json(AccuracyResult, json.dumps(found["accuracy"]))
    if one.candidate.precision is Precision.FP32 and accuracy.outcome is Outcome.INCONCLUSIVE:
        accuracy = _same_arithmetic(accuracy)
    candidate = replace(one.candidate, accuracy=accuracy)
    if accuracy.outcome is Outcome.INVALID:  # nothing to be gained by timing it
        refusal = Refusal(code="WRONG_OUTPUT", reason=accuracy.reason)
        candidate = replace(candidate, outcome=Outcome.INVALID, refusal=refusal)
    return replace(one, candidate=candidate)


def _same_arithmetic(accuracy: AccuracyResult) -> AccuracyResult:
    """float32 that agrees with the reference to 60 dB (one part in 1000) is the reference, however few samples."""
    if accuracy.details.get("sqnr_db", 0.0) < _SAME_DB:
        return accuracy
    return replace(accuracy, outcome=Outcome.PASS, reason="")
