"""`edgeport tune`: the search for one target of a recipe, its plan beside the floats, and the best so far always saved.

What is written to the output folder, and replaced whenever something better is known:

    nodes.toml    the plan as a [[target]] with its [target.nodes], for a recipe or `edgeport quantize --nodes`
    best/         its artifact, as `edgeport quantize` writes one
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeport.atomic import atomic_folder, atomic_write
from edgeport.contracts import (
    Artifact,
    Candidate,
    Comparison,
    Limits,
    OnnxModel,
    OnProgress,
    Outcome,
    Precision,
    SearchedGroup,
    silent,
    to_jsonable,
)
from edgeport.contracts.recipe import Recipe, Target
from edgeport.errors import AlreadyQuantizedError, UsageError
from edgeport.pipeline.benchmarking.screening import confirm_beside_floats
from edgeport.pipeline.build_inputs import Shared, share
from edgeport.pipeline.compilation.candidates import list_candidates, named_apart
from edgeport.pipeline.engine.context import RunContext, run_context
from edgeport.pipeline.engine.estimates import process_s
from edgeport.pipeline.evaluation.evaluate import validate_candidates
from edgeport.pipeline.output.artifact_folder import BEST, make_room, write_artifact_record
from edgeport.pipeline.search.mixed_precision import Material, Tuned, material_of, tune
from edgeport.pipeline.selection.select import Decision, decide
from edgeport.recipe.explain import toml_value

__all__ = ["BEST", "DEFAULT_TIME_S", "NODES_FILE", "TuneResult", "tune_recipe"]

DEFAULT_TIME_S = 300.0
NODES_FILE = "nodes.toml"

_FLOATS = 2
"""That a runtime has here, for the time that comparing with them takes."""


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """What a search found, beside the floats.

    Attributes:
        name: Of the model.
        backend: Of the target.
        rest: Float precision of what is not integer.
        groups: In the order of computation.
        nodes: What `[target.nodes]` gets: node to precision.
        said: The search in a few sentences.
        finished: Nothing was left to try.
        spent_s: Seconds of the search, those of earlier runs among them.
        judged, timed: How many plans were.
        candidates: The plan and the floats, measured side by side; the chosen first.
        chosen: Name of the one that is saved; empty where nothing could be run.
        folder: The output folder.

    """

    name: str
    backend: str
    rest: Precision
    groups: tuple[SearchedGroup, ...]
    nodes: Mapping[str, Precision]
    said: str
    finished: bool
    spent_s: float
    judged: int
    timed: int
    candidates: tuple[Candidate, ...]
    chosen: str
    folder: Path
    outcome: Outcome = Outcome.PASS
    against: Mapping[str, Comparison] = field(default_factory=dict)
    schema_version: int = 1


def tune_recipe(  # noqa: PLR0913 (those of the API)
    recipe: Recipe,
    *,
    output: Path,
    backend: str = "",
    time_s: float | None = None,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
    device: str = "local",
) -> TuneResult:
    """See `edgeport.api.tune`."""
    target = _target(recipe, backend)
    whole_s = time_s or target.tune_s or DEFAULT_TIME_S
    target = replace(target, tune_s=_for_search(recipe, whole_s))
    budget = recipe.target_budgets.get(target.name, recipe.budget)
    # Throughput takes an experiment of its own; `edgeport run` has it.
    budget = replace(budget, throughput_per_s=None)
    alone = replace(recipe, targets=(target,), budget=budget, target_budgets={})
    make_room(output)
    with run_context(alone, store=store, on_progress=on_progress, limits=limits, fresh=fresh, device=device) as context:
        return _tuned(context, target, output)


def _target(recipe: Recipe, backend: str) -> Target:
    """The first target with static int8, of that backend where one is named."""
    asked = f"search a plan for {backend}" if backend else "search a plan"
    able = [target for target in recipe.targets if Precision.INT8 in target.precisions]
    found = [target for target in able if backend in ("", target.backend)]
    if not found:
        raise UsageError(
            asked=asked,
            found=f"int8 in the precisions of {', '.join(target.backend for target in able) or 'no target'}",
            fix='add "int8" to the precisions of a target, and name its backend',
        )
    return found[0]


def _for_search(recipe: Recipe, whole_s: float) -> float:
    """Of the whole time, what is left for the search once the floats are measured beside its plan; half at least."""
    search = recipe.search
    return max(whole_s / 2, whole_s - search.rounds * (_FLOATS + 1) * process_s(search))


def _tuned(context: RunContext, target: Target, output: Path) -> TuneResult:
    context, shared = share(context)
    material = material_of(context, shared)
    if material is None:
        raise AlreadyQuantizedError(
            asked=f"search a plan for {context.recipe.name}",
            found="a model that is quantized already",
            fix="give the float model that it was made from",
        )

    saving = _Saving(folder=output, model=shared.prepared.model, target=target)
    found = tune(context, target, material, on_better=saving.better)
    decision, against = _beside_floats(context, shared, material, found)
    saving.last(found, next((one for one in decision.candidates if one.name == decision.chosen), None))
    return _result(context, found, decision, against, output)


def _beside_floats(
    context: RunContext, shared: Shared, material: Material, found: Tuned
) -> tuple[Decision, Mapping[str, Comparison]]:
    """The plan and every float that its runtime has here, in one fresh experiment: it must beat the fastest of them."""
    recipe, samples = context.recipe, shared.samples
    floats = [one for one in list_candidates(recipe.targets, shared.capabilities) if one.is_float]
    plan = found.plan
    listed = [*floats, *named_apart([plan] if plan is not None else [], floats)]
    validated = validate_candidates(context, material.build(context, listed), samples, shared.prepared.reference)
    name = plan.name if plan is not None else ""
    rows, against, confirmation = confirm_beside_floats(context, validated, samples, name)
    return decide(rows, confirmation.against, confirmation.unusable), against


def _result(
    context: RunContext,
    found: Tuned,
    decision: Decision,
    against: Mapping[str, Comparison],
    output: Path,
) -> TuneResult:
    return TuneResult(
        name=context.recipe.name,
        backend=found.target.backend,
        rest=found.target.mix.rest,
        groups=found.searched,
        nodes={} if found.mix is None else {choice.what: choice.precision for choice in found.mix.nodes},
        said=found.said,
        finished=found.finished,
        spent_s=found.spent_s,
        judged=found.judged,
        timed=found.timed,
        candidates=decision.candidates,
        chosen=decision.chosen,
        folder=output,
        outcome=decision.outcome,
        against=against,
    )


@dataclass(frozen=True, kw_only=True)
class _Saving:
    """Writes the best so far; each file is replaced as a whole."""

    folder: Path
    model: OnnxModel
    target: Target

    def better(self, found: Tuned) -> None:
        """A plan that is better than all before; it is not compared with the floats yet."""
        self._write(found, "not compared with float yet", found.artifact)

    def last(self, found: Tuned, chosen: Candidate | None) -> None:
        """What is left in the end: the plan, or the float that it did not surely beat."""
        if chosen is None:
            self._write(found, "nothing could be run", None)
        elif chosen.is_float:
            self._write(replace(found, mix=None), f"{chosen.name} is what remains", chosen.artifact)
        else:
            self._write(
                found,
                f"surely faster than every float that {self.target.backend} has here, within the accuracy budget",
                chosen.artifact,
            )

    def _write(self, found: Tuned, verdict: str, artifact: Artifact | None) -> None:
        atomic_write(self.folder / NODES_FILE, _as_toml(found, verdict))
        if artifact is not None:
            self._write_artifact(artifact)

    def _write_artifact(self, artifact: Artifact) -> None:
        with atomic_folder(self.folder / BEST, overwrite=True) as draft:
            shutil.copytree(artifact.folder, draft / "artifact")
            plan = artifact.folder.parent / "plan.json"
            if plan.is_file():
                shutil.copyfile(plan, draft / "plan.json")
            write_artifact_record(draft, to_jsonable(artifact), to_jsonable(self.model))


def _as_toml(found: Tuned, verdict: str) -> str:
    target, mix = found.target, found.mix
    said = "".join(letter if letter.isprintable() else "?" for letter in found.said)  # names of nodes are the model's
    lines = [f"# {said}", f"# {verdict}", "[[target]]", f"backend = {toml_value(target.backend)}"]
    precisions = [Precision.FP32] if mix is None else [Precision.FP32, Precision.INT8]
    lines.append(f"precisions = {toml_value([str(one) for one in precisions])}")
    if target.execution.threads is not None:
        lines.append(f"threads = {target.execution.threads}")
    if mix is not None and mix.rest is not Precision.FP32:
        lines.append(f"rest = {toml_value(str(mix.rest))}")
    if mix is not None and mix.nodes:
        lines += ["", "[target.nodes]"]
        lines += [f"{toml_value(choice.what)} = {toml_value(str(choice.precision))}" for choice in mix.nodes]
    return "\n".join(lines) + "\n"
