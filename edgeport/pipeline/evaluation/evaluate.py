"""Outputs of every candidate on the device, and what they are worth."""

from __future__ import annotations

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
)
from edgeport.errors import DeviceError, DeviceLost
from edgeport.pipeline.compilation.candidates import refused
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.engine.concurrency import side_by_side
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.input_tracking import session_state
from edgeport.pipeline.engine.step import Step
from edgeport.pipeline.evaluation.worker import JudgeRequest, judge

__all__ = ["Reference", "Validated", "require_judgeable", "validate_candidates"]

_JUDGE = Step(name="judge", worker=judge)
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
    request = _judging(context, samples, reference)
    return side_by_side(
        lambda candidate: _validated(context, candidate, samples, request),
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
    _judged(context, _judging(context, samples, reference))


def _judging(context: RunContext, samples: PreparedSamples, reference: Reference) -> JudgeRequest:
    """What outputs are judged by, with the reference's own in their place."""
    data = context.recipe.data
    return JudgeRequest(
        outputs=reference.outputs,
        reference=reference.outputs,
        target=samples.target,
        metric=data.metric,
        output=data.output,
        decode=data.decode,
        search_path=context.recipe.search_path,
        allowed_drop=context.recipe.budget.accuracy_drop,
        reference_name=reference.name,
        starts=samples.starts,
    )


def _validated(context: RunContext, candidate: Candidate, samples: PreparedSamples, request: JudgeRequest) -> Validated:
    if candidate.refusal is not None or candidate.artifact is None:
        return Validated(candidate=candidate, outputs=None)
    outputs: Path | None = None
    try:
        outputs = _outputs(context, candidate, candidate.artifact, samples)
        judged = _with_accuracy(
            candidate, _judged(context, replace(request, subject=candidate.artifact.digest, outputs=outputs))
        )
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


def _judged(context: RunContext, request: JudgeRequest) -> AccuracyResult:
    """Always in a child: the metric may be the user's code, and the outputs larger than this process should hold."""
    foreign = ":" in request.metric or bool(request.decode)
    return _JUDGE.run(context, request, asked=f"judge outputs by {request.metric}", traced=foreign)[1]


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
