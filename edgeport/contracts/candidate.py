"""One way to ship the model, and all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeport.contracts.backend import Artifact, Placement
from edgeport.contracts.execution import ExecutionConfig
from edgeport.contracts.node_precision import Mix
from edgeport.contracts.verdict import AccuracyResult, BoundVerdict, Comparison, LatencySummary, Outcome, Throughput
from edgeport.errors import ContractError
from edgeport.options.precision import Precision

__all__ = ["AS_GIVEN", "ORIGINAL", "Budget", "Candidate", "Refusal"]

ORIGINAL = "original"
"""Variant of the model that the recipe names."""

AS_GIVEN = "as given"
"""Variant of a model that came quantized: each runtime gets the file as it is, whatever it holds."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the result must keep to.

    Attributes:
        accuracy_drop: Largest loss against the float model, absolute, in the metric's unit.
        latency_quantile, latency_ns: "p50 at most ...", or None.
        throughput_per_s: Samples per second at least, or None.
        peak_memory_bytes, size_bytes, first_inference_ns: At most, or None.

    """

    accuracy_drop: float = 0.01
    latency_quantile: float = 0.5
    latency_ns: int | None = None
    throughput_per_s: float | None = None
    peak_memory_bytes: int | None = None
    size_bytes: int | None = None
    first_inference_ns: int | None = None

    def __post_init__(self) -> None:
        if self.accuracy_drop < 0 or not 0 < self.latency_quantile < 1:
            raise ContractError(
                asked=f"keep to an accuracy drop of {self.accuracy_drop} at quantile {self.latency_quantile}",
                found="a negative drop, or a quantile outside 0..1",
                fix="give a drop of 0 or more and a quantile between 0 and 1",
            )
        for name in ("latency_ns", "throughput_per_s", "peak_memory_bytes", "size_bytes", "first_inference_ns"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ContractError(asked=f"keep to {name} {value}", found="zero or less", fix="give a positive limit")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a candidate is not shipped.

    Attributes:
        code: Stable name: an error's code, or "ACCURACY", "SLOWER", "NO_GAIN", "NOT_AS_PLANNED", "PLACEMENT", "BUDGET",
            "BEATEN", "NOT_FASTEST", "UNCONFIRMED", "CONFIRMATION_INVALID", "BASELINE".
        reason: In a sentence, with the numbers.

    """

    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model variant, precision plan, backend and execution config; what is not known yet is None.

    Attributes:
        name: Unique in a run ("onnxruntime int8").
        backend: Name of the backend.
        variant: Of the model: `ORIGINAL`, `AS_GIVEN`, or what the steps of [[compress]] made of it ("pruned, trained").
        precision: As planned; what really ran is in `placement`. FP32 for a model as given: nothing is changed.
        recovered_by: What was done to the model to bring accuracy back, before it was quantized; as in its plan.
        lost: Names of nodes that the plan runs as integers and the runtime ran in float; None where it doesn't tell.
        kept: Number of planned integer nodes that really ran so; None where the runtime doesn't tell.
        throughput: Of several calls at once; None where no budget asks for it, or it could not ship anyway.
        bounds: The verdict of each bound of the budget that was measured.
        against_float: Latency against the best float candidate, from paired processes.
        baseline: A float that the recipe did not name, added because a quantized candidate must beat it too.
        mix: What it mixes; nothing in a float.
        unread: Why its device did not tell what its runtime made of it; empty where it did, or was not asked.
        least_placement: Part of its planned nodes that must run as planned, 0..1; None where nobody asked.
        strayed: Names of nodes that were to stay in a float precision by name, and ran in others.
        outcome: PASS where it may ship.
        refusal: Why it is not shipped; None for what may.

    """

    name: str
    backend: str
    variant: str = ORIGINAL
    precision: Precision
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    artifact: Artifact | None = None
    placement: Placement | None = None
    recovered_by: tuple[str, ...] = ()
    kept: int | None = None
    lost: tuple[str, ...] | None = None
    accuracy: AccuracyResult | None = None
    latency: LatencySummary | None = None
    throughput: Throughput | None = None
    bounds: tuple[BoundVerdict, ...] = ()
    against_float: Comparison | None = None
    outcome: Outcome = Outcome.INCONCLUSIVE
    refusal: Refusal | None = None
    baseline: bool = False
    mix: Mix = field(default_factory=Mix)
    strayed: tuple[str, ...] = ()
    unread: str = ""
    least_placement: float | None = None

    @property
    def needs_ranges(self) -> bool:
        """It rests on calibration samples."""
        return self.precision.needs_ranges or self.mix.needs_ranges

    @property
    def is_float(self) -> bool:
        """It is one of those that the others must beat: a float of the model that the recipe names."""
        return self.precision.is_float and self.variant in (ORIGINAL, AS_GIVEN)
