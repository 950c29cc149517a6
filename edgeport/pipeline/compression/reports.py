"""What the commands report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeport.contracts import (
    AccuracyResult,
    Candidate,
    Comparison,
    DistillStep,
    Interval,
    ModelSource,
    Outcome,
    Precision,
    PruneStep,
    TrainedStep,
)
from edgeport.exporter.distill.options import DistillResult
from edgeport.exporter.qat.options import QatResult

__all__ = ["DistillReport", "ImitateReport", "MeasuredTrial", "PruneReport", "QatReport", "WithoutDataReport"]


@dataclass(frozen=True, kw_only=True)
class MeasuredTrial:
    """A network that was measured on the way to a latency.

    Attributes:
        latency_ns: Its median.
        predicted_ns: What the model of latency said before; 0 where nothing was known yet.
        left: Share of the multiplications that it has.

    """

    latency_ns: float
    predicted_ns: float
    left: float


@dataclass(frozen=True, kw_only=True)
class PruneReport:
    """What became of a model.

    Attributes:
        file: The pruned weights (`.safetensors`), or the program (`.pt2`).
        step: What was asked.
        weights, macs: Parameters, and multiplications for one sample, before and after.
        size_bytes: Of the file.
        zeros: Share of the weights that is zero.
        removed: Name of a layer to how many units of it are gone, and of how many.
        blocks: Those that are gone.
        left: Path of a layer that could not be pruned to the reason.
        latency_ns: Medians before and after, where they were measured.
        goal_ns: What was asked of the second one.
        speedup: Over the unpruned model, from fresh pairs; None where it was not measured.
        trials: What was measured on the way.
        trained: What each training gave.
        log: The course of these trainings, a JSON object per line; None where there was none.
        outcome: PASS; FAIL where the latency was not reached, or what came out is not faster and was not kept.
        reason: In a sentence, where it is not PASS.

    """

    file: Path
    step: PruneStep
    weights: tuple[int, int]
    macs: tuple[float, float]
    size_bytes: int
    zeros: float
    removed: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    latency_ns: tuple[float, float] | None = None
    goal_ns: float | None = None
    speedup: Interval | None = None
    trials: tuple[MeasuredTrial, ...] = ()
    trained: tuple[TrainedStep, ...] = ()
    log: Path | None = None
    outcome: Outcome = Outcome.PASS
    reason: str = ""
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class DistillReport:
    """What a student learned.

    Attributes:
        file: Its weights.
        teacher: Where it comes from.
        student: The model that its weights are loaded into.
        step: What was asked.
        results: Of each generation.
        best: The generation that was kept, counted from 0.
        weights, macs: Parameters, and multiplications for one sample, of teacher and student.
        size_bytes: Of the file.
        log: The course of the last training, a JSON object per line.
        latency_ns: Medians of teacher and student, where they were measured.
        goal_ns: What was asked of the second one.
        speedup: Of the student over the teacher, from fresh pairs; None where it was not measured.
        trials: Sizes that were measured on the way, each with its median in ns.
        outcome: PASS; FAIL where no step made the student better, or a latency was not reached.
        reason: In a sentence, where it is not PASS.

    """

    file: Path
    teacher: str
    student: ModelSource
    step: DistillStep
    results: tuple[DistillResult, ...]
    best: int
    weights: tuple[int, int]
    macs: tuple[float, float]
    size_bytes: int
    log: Path
    latency_ns: tuple[float, float] | None = None
    goal_ns: float | None = None
    speedup: Interval | None = None
    trials: tuple[tuple[float, float], ...] = ()
    outcome: Outcome = Outcome.PASS
    reason: str = ""
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class WithoutDataReport:
    """What a student learned without data.

    Attributes:
        file: Its weights.
        teacher: Where the teacher comes from.
        student: The model that the weights are loaded into.
        method: That made the inputs.
        result: Of the training; its numbers are empty where there were no samples to judge by.
        weights: Parameters of teacher and student.
        size_bytes: Of the file.
        made: Samples that were made, as `.npz`; None where they were not asked for.
        log: The course of the training, a JSON object per line.
        notes: What a reader must know, one sentence each.
        outcome: PASS; FAIL where there were samples to judge by, and no step made the student better on them.
        reason: In a sentence, where it is not PASS.

    """

    file: Path
    teacher: str
    student: ModelSource
    method: str
    result: DistillResult
    weights: tuple[int, int]
    size_bytes: int
    made: Path | None = None
    log: Path | None = None
    notes: tuple[str, ...] = ()
    outcome: Outcome = Outcome.PASS
    reason: str = ""
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class ImitateReport:
    """Samples that were drawn.

    Attributes:
        file: A `.npz` with one array, which says itself that they were made.
        count: How many.
        learned_from: How many samples of data.

    """

    file: Path
    count: int
    learned_from: int
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class QatReport:
    """What training with a plan's rounding brought.

    Attributes:
        name: Of the model.
        backend: Of the target.
        precision: Of the plan.
        learned: The training itself.
        difference: Root mean square of the runtime's outputs less PyTorch's with the same rounding, over that of the
            outputs, on the evaluation set; None where it was not run.
        untrained: Accuracy of the plan without training; None where it was not run.
        candidates: The trained plan and the floats of its runtime, measured side by side; the chosen first.
        trained: Name of the trained one.
        chosen: Name of the one that should ship; empty where none may.
        against: Latency against each float.
        folder: The output folder.
        outcome: PASS where something may ship, the float too.
        notes: What a reader must know, one sentence each.

    """

    name: str
    backend: str
    precision: Precision
    learned: QatResult
    difference: float | None
    untrained: AccuracyResult | None
    candidates: tuple[Candidate, ...]
    trained: str
    chosen: str
    folder: Path
    outcome: Outcome
    against: Mapping[str, Comparison] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    schema_version: int = 1
