"""Students that learn from a trained model, with data and without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    DistillStep,
    Limits,
    ModelSource,
    OnProgress,
    PruneStep,
    Scale,
    TensorSpec,
    WithoutDataStep,
    silent,
)
from edgeport.errors import ContractError, UsageError
from edgeport.options.declare import common_fields
from edgeport.options.distill import DistillOptions, DistillSettings, WithoutDataOptions, WithoutDataSettings
from edgeport.options.goals import GoalTiming
from edgeport.options.imitate import ImitateOptions

if TYPE_CHECKING:
    from edgeport.pipeline.compression.reports import DistillReport, ImitateReport, WithoutDataReport

__all__ = [
    "distill",
    "distill_without_data",
    "imitate",
]

_LOOKS = 10
"""How often what learns to draw samples is looked at on the way."""


def distill(
    teacher: ModelSource,
    samples: Path | str,
    *,
    output: Path,
    student: ModelSource | None = None,
    options: DistillOptions = DistillOptions(),
    target: str = "",
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
) -> DistillReport:
    """Distillation with data: a small student learns from the teacher, min E[L(f_s(x), y)] + lambda E[R(f_s(x))].

    The student's weights that were best on samples that are held out are written, and the course of the training beside
    them (`.metrics.jsonl`). A training that was stopped goes on where it was.

    Args:
        teacher: The trained model; one that is built from code.
        samples: To learn from: `.npz`, a folder, or `pkg.mod:fn`.
        output: `.safetensors`: the student's weights.
        student: Who learns: a model as it begins, with random weights or with some (what `prune` wrote, for one).
        options: The objective, the training, and who learns where no student is given.
        target: Key of the labels in the samples.
        store: As in `run`.
        on_progress: Told of every step.
        limits: Of each child; the one that trains may take a week.
        fresh: Begin anew, whatever an earlier call left.

    Raises:
        DistillationError: An objective that does not suit the student, the teacher or the samples.
        UsageError: No student, or two; settings that can't be; or another process is at this very training.
        SourceError, SamplesError: The models or the samples can't be used.
        TrainingError: It diverged.
        PruningError: The teacher can't be pruned so.
        DependencyError: Several processes, and Lightning Fabric is not installed.

    """
    from edgeport.exporter.distill.options import options_of
    from edgeport.pipeline.benchmarking.artifact import BenchSettings
    from edgeport.pipeline.compression.distill import Student, distill_source

    if len(options.scale) > 1:
        raise UsageError(
            asked=f"choose {' and '.join(options.scale)} for a latency",
            found=f"{len(options.scale)} arguments",
            fix="give one, and let the factory make the others of it",
        )
    goal: dict[str, Any] = {"latency_ns": options.latency_ns, "speedup": options.speedup}
    try:
        step = DistillStep(**common_fields(DistillSettings, options) | _terms(options))
        options_of(step)  # what only the training looks at, before anything is measured
        pruned = None
        if options.prune is not None or (student is None and any(one is not None for one in goal.values())):
            pruned = PruneStep(by=options.by, amount=options.prune, **goal)
        scaled = [Scale(argument=name, values=tuple(values)) for name, values in options.scale.items()]
        chosen = Student(source=student, prune=pruned, scale=scaled[0] if scaled else None, **goal)
    except ContractError as error:
        raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error
    return distill_source(
        teacher,
        chosen,
        samples,
        step,
        output=output,
        target=target,
        device=options.device,
        settings=BenchSettings(**common_fields(GoalTiming, options), limits=limits),
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )


def distill_without_data(
    teacher: ModelSource,
    student: ModelSource,
    inputs: TensorSpec,
    *,
    output: Path,
    options: WithoutDataOptions = WithoutDataOptions(),
    judged: Path | None = None,
    target: str = "",
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
) -> WithoutDataReport:
    """A small student learns from a trained classifier without a sample: a generator makes what it is asked.

    A training that was stopped goes on where it was.

    Args:
        teacher: The trained model: a classifier with one float input, better with BatchNorm layers.
        student: Who learns: a model as it begins, with random weights or with some.
        inputs: What both take: a name and a size for every axis but the first, and the range of its values.
        output: `.safetensors`: the student's weights.
        options: How inputs are made, and how the student learns of them.
        judged: `.npz` of samples with labels that say how good the student is, ten times on the way; the best weights
            are kept. None where there are none: the last ones are kept.
        target: Key of the labels in it.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`; the child that trains may take a week.
        fresh: Not going on with a training that was stopped.

    Raises:
        UsageError: No such method, or a model whose graph is fixed.
        ContractError: A value that the method does not have or can't take.
        DistillationError: A term that is none or needs labels; or a teacher that inputs can't be made for.
        SamplesError: An input without a size; or samples to judge by that do not fit.
        SourceError: A model that can't be loaded.
        TrainingError: It diverged.

    """
    from edgeport.pipeline.compression.data_free import DataFreeRequest
    from edgeport.pipeline.compression.data_free import distill_without_data as distilled

    request = DataFreeRequest(
        teacher=teacher,
        student=student,
        inputs=inputs,
        step=WithoutDataStep(**common_fields(WithoutDataSettings, options) | _terms(options)),
        judged=judged,
        target=target,
        device=options.device,
    )
    return distilled(
        request,
        output=output,
        made=options.made,
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )


def imitate(
    samples: Path,
    *,
    output: Path,
    options: ImitateOptions = ImitateOptions(),
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
) -> ImitateReport:
    """Draws samples that look like those given, by a variational autoencoder, for those who must not see the data.

    They can be distilled from (`distill`) and calibrated with. How much of the data they tell is not bounded: what was
    learned from ten samples looks like these ten.

    Args:
        samples: `.npz` with the inputs of a model.
        output: `.npz`, which says itself that its samples were made.
        options: Of which array, how many, and how they are learned.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`; the child that trains may take a week.
        fresh: Not going on with a training that was stopped.

    Raises:
        SamplesError: No such array, or fewer samples than a batch.
        TrainingError: It diverged.

    """
    from edgeport.contracts import to_jsonable
    from edgeport.exporter.distill.data_free.methods import VaeOptions
    from edgeport.exporter.train import TrainingSettings
    from edgeport.pipeline.compression.data_free import imitate as imitated

    looks = max(1, options.epochs // _LOOKS)
    training = TrainingSettings(**common_fields(TrainingSettings, options), evaluate_every=looks)
    return imitated(
        samples,
        options.inputs,
        output=output,
        count=options.count,
        value_range=options.value_range,
        options=to_jsonable(VaeOptions(**common_fields(VaeOptions, options), training=training)),
        device=options.device,
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )


def _terms(options: DistillOptions | WithoutDataOptions) -> dict[str, tuple[str, ...]]:
    return {"L": _spelled("L", options.L), "R": _spelled("R", options.R)}


def _spelled(name: str, terms: Sequence[object]) -> tuple[str, ...]:
    """Terms as texts; a text alone would be taken for the letters in it.

    Raises:
        UsageError: They are none.

    """
    texts = tuple(one for one in terms if isinstance(one, str))
    if isinstance(terms, str) or len(texts) < len(terms):
        raise UsageError(
            asked=f"learn by {name} = {terms!r}",
            found="a text" if isinstance(terms, str) else "terms that are no texts",
            fix='give a list of texts, ["0.9 soft-targets:4"]; terms as objects are for edgeport.exporter.distill',
        )
    return texts
