"""What a whole run found; the CLI prints it, the report draws it, the bundle keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeport.contracts.candidate import AS_GIVEN, Budget, Candidate
from edgeport.contracts.device import DeviceFacts
from edgeport.contracts.measurement import Measurement
from edgeport.contracts.model import OnnxModel
from edgeport.contracts.node_precision import PlanSearch
from edgeport.contracts.verdict import Comparison, Outcome
from edgeport.errors import ContractError

__all__ = ["CompressedBy", "Lack", "NearCandidate", "OutputDifference", "RunResult", "Verification", "worst_of"]


@dataclass(frozen=True, kw_only=True)
class OutputDifference:
    """One output of the exported model against PyTorch.

    Attributes:
        name: Of the output.
        max_abs, mean_abs: Largest and mean absolute difference.
        sqnr_db: Signal to quantization noise ratio, 10 log10(sum x^2 / sum (x - y)^2); inf when equal.

    """

    name: str
    max_abs: float
    mean_abs: float
    sqnr_db: float


@dataclass(frozen=True, kw_only=True)
class Verification:
    """PyTorch against the exported model on real samples.

    Attributes:
        outputs: One per output.
        samples: Number of samples compared.
        batch_sizes: Batch sizes that were run.
        metric: Its name; empty where none was asked.
        pytorch, onnx: The metric of both; None where none was asked.
        tolerance: Largest absolute difference that passes, relative to the largest output.
        outcome: PASS or FAIL.
        sizes: Free axis, but the batch, to the sizes beside the samples' own at which the outputs were compared too.

    """

    outputs: tuple[OutputDifference, ...]
    samples: int
    batch_sizes: tuple[int, ...]
    metric: str = ""
    pytorch: float | None = None
    onnx: float | None = None
    tolerance: float
    outcome: Outcome
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class Lack:
    """One thing that keeps a candidate from shipping.

    Attributes:
        of: What is bounded ("p90", "size", "accuracy drop", "throughput", "speed").
        found: The estimate, in ns, bytes, samples per second, the metric's unit, or times the best float's speed; None
            where there is none.
        limit: In the same unit.
        factor: How many times `found` is beyond the limit; 1 where it is not, or not known.
        sure: More evidence would not change it.
        text: All of this as a person says it.
        change: What would have to change.

    """

    of: str
    found: float | None
    limit: float
    factor: float = 1.0
    sure: bool = True
    text: str
    change: str


@dataclass(frozen=True, kw_only=True)
class NearCandidate:
    """A candidate that comes near to shipping.

    Attributes:
        name: Of the candidate.
        lacks: At least one.
        kept: The bounds that it keeps to, as `Lack.of` names them.

    """

    name: str
    lacks: tuple[Lack, ...]
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CompressedBy:
    """What one step of a recipe's [[compress]] gave and cost; its accuracy, size and latency are its candidate's.

    Attributes:
        step: In a few words ("prune units by taylor to 2x the speed").
        variant: Of the model after it and all before it ("pruned, trained"); "original" for the model before the first.
        candidate: Name of the candidate that shows it; empty where there is none.
        said: What it did to the model, a sentence each.
        seconds: That it took when it was done.
        against: Its latency against that of the original's, paired in the screening; None where one has none.
        verification: Of its export against its own PyTorch module; None where it has no export of its own.
        problem: Why it gave nothing; empty where it did.
        courses: Folder with `metrics.jsonl` of each of its trainings, and `tensorboard/` where that is installed; None
            where nothing was trained.

    """

    step: str
    variant: str
    candidate: str = ""
    said: tuple[str, ...] = ()
    seconds: float = 0.0
    against: Comparison | None = None
    verification: Verification | None = None
    problem: str = ""
    courses: Path | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Everything that a run found: for one bundle, or, where the recipe names its targets, for each name.

    Attributes:
        name: Of the model.
        target: Name of the targets that it was found for; empty where they have none.
        targets: One per name, in the recipe's order. Then `candidates`, `best_float`, `chosen`, `nearest`,
            `measurements`, `confirmation` and `bundle` are theirs, and empty here.
        model: The exported model.
        verification: None where the model came as ONNX.
        candidates: Every one, those that failed too; the chosen first, then by latency.
        best_float: Name of the float candidate that the others had to beat; empty where no float ran.
        chosen: Name of the candidate that ships; empty where none does.
        nearest: Where none does, those that come nearest, the nearest first.
        searches: For nodes that int8 had better leave in float, one per target that asks for one.
        compression: The original model and what each step of [[compress]] gave, in order; empty where there is none.
        budget: As asked.
        device: Where it was measured.
        measurements: Raw traces by candidate name.
        confirmation: Raw traces of the last, fresh pairs: the winner and the best float, by candidate name.
        outcome: PASS where the chosen one is within the budget; of several targets, see `worst_of`.
        bundle: Folder of the bundle; None where nothing ships.
        report: The report's file.
        folder: Output folder of the run.
        elapsed_s: Wall-clock seconds.
        reused: Number of steps that the store answered.
        notes: What a reader must know (skipped backends, data-free ranges), one sentence each.
        versions: Of Edgeport, Python and the runtimes.

    """

    name: str
    target: str = ""
    targets: tuple[RunResult, ...] = ()
    model: OnnxModel
    verification: Verification | None
    candidates: tuple[Candidate, ...]
    best_float: str
    chosen: str
    nearest: tuple[NearCandidate, ...] = ()
    searches: tuple[PlanSearch, ...] = ()
    compression: tuple[CompressedBy, ...] = ()
    budget: Budget
    device: DeviceFacts
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    confirmation: Mapping[str, Measurement] = field(default_factory=dict)
    outcome: Outcome
    bundle: Path | None = None
    report: Path | None = None
    folder: Path
    elapsed_s: float
    reused: int = 0
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = 2

    def __post_init__(self) -> None:
        if self.targets and (self.candidates or self.chosen or self.measurements or self.bundle):
            raise ContractError(
                asked=f"keep what {self.name!r} gave for {len(self.targets)} targets",
                found="candidates beside them",
                fix="report this as a fault in Edgeport",
            )

    @property
    def as_given(self) -> bool:
        """The model came quantized, and went to each runtime as it is: no candidate is a float."""
        return any(candidate.variant == AS_GIVEN for candidate in self.candidates)

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name."""
        return next(candidate for candidate in self.candidates if candidate.name == name)


_ORDER = (Outcome.FAIL, Outcome.INVALID, Outcome.INCONCLUSIVE, Outcome.UNMEASURED, Outcome.PASS)


def worst_of(outcomes: Iterable[Outcome]) -> Outcome:
    """Of several targets: FAIL where one surely keeps to no budget, then INVALID, INCONCLUSIVE, UNMEASURED, PASS."""
    return min(outcomes, key=_ORDER.index, default=Outcome.PASS)
