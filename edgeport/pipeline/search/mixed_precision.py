"""A search, within a time limit, for the groups of nodes that int8 had better leave in float.

The search itself is pure (`edgeport.calibration.mixed_precision.search`); here it is handed plans that are really
compiled, judged on the evaluation samples and timed side by side, each step kept in the store. What it finds becomes
one more candidate, which is judged, timed and confirmed as all others: nothing ships only because a search found it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import (
    Artifact,
    Candidate,
    Capabilities,
    Change,
    Interval,
    Mix,
    NodeChoice,
    OnnxModel,
    Outcome,
    PlanSearch,
    Precision,
    SearchedGroup,
    digest_file,
    digest_json,
    load_json,
    to_jsonable,
)
from edgeport.contracts.recipe import Target
from edgeport.errors import DeviceLost, EdgeportError
from edgeport.isolation import run_isolated
from edgeport.pipeline.benchmarking.experiment import Arm, compare_arms, time_arms
from edgeport.pipeline.benchmarking.screening import arm_of
from edgeport.pipeline.build_inputs import Shared
from edgeport.pipeline.compilation.compile import build_candidates
from edgeport.pipeline.datasets.calibration_samples import samples_payload
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.datasets.state_binding import states_of_model
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.estimates import process_s
from edgeport.pipeline.engine.fingerprints import tool_versions
from edgeport.pipeline.engine.time_budget import Inside, Spending
from edgeport.pipeline.evaluation.evaluate import Reference, Validated, validate_candidates
from edgeport.pipeline.quantization.range_search import method_for
from edgeport.pipeline.quantization.recovery import refining_payload

if TYPE_CHECKING:
    from edgeport.calibration.mixed_precision.groups import NodeGroup
    from edgeport.calibration.mixed_precision.search import Kept, SearchState

__all__ = ["Material", "Tuned", "material_of", "tune", "tune_all"]

Build = Callable[[RunContext, Sequence[Candidate]], list[Candidate]]
"""Compiles candidates; what can't be compiled carries its refusal."""

_STAGE = "time plans"
_WORKER = "edgeport.pipeline.search.mixed_precision_worker"
_SENSING_SHARE = 0.5
"""Of the time, that goes to sensitivities at most; groups without one are left in float last."""
_CHUNK_S = 5.0
"""Groups are looked at so many seconds at a time: more would be lost when the run is killed."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What plans are made from and judged by.

    Attributes:
        model: That static int8 is made from.
        calibration, calibration_digest: Its statistics.
        capabilities: By backend.
        methods: By dialect, the range method where one was measured.
        samples, reference: That outputs are judged by.
        build: Compiles candidates.

    """

    model: OnnxModel
    calibration: Path
    calibration_digest: str
    capabilities: Mapping[str, Capabilities]
    samples: PreparedSamples
    reference: Reference
    build: Build
    methods: Mapping[str, str] = field(default_factory=dict)


def material_of(context: RunContext, shared: Shared) -> Material | None:
    """What plans are made from in a run; None where nothing is calibrated, as of a model that came quantized."""
    if shared.calibration is None:
        return None

    def build(within: RunContext, listed: Sequence[Candidate]) -> list[Candidate]:
        return build_candidates(
            within,
            shared.prepared.model,
            shared.capabilities,
            shared.calibration,
            shared.calibration_digest,
            transformed=shared.transformed,
            refining=refining_payload(context.recipe, shared.samples),
            listed=listed,
            methods=shared.methods,
        )

    return Material(
        model=shared.transformed,
        calibration=shared.calibration,
        calibration_digest=shared.calibration_digest,
        capabilities=shared.capabilities,
        samples=shared.samples,
        reference=shared.prepared.reference,
        build=build,
        methods=shared.methods,
    )


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a search found for one target.

    Attributes:
        target: For which it was.
        groups: All groups, in the order of computation.
        noise: Noise over signal of the groups that were looked at, each alone as integers.
        kept: Names of the groups that are left in float; None where no plan holds the accuracy budget.
        mix: That a candidate needs to be so; None where none holds.
        reasons: By name of each group that is left in float, why it is.
        judged, timed: How many plans were judged on the evaluation samples, and how many timed.
        finished: There was nothing left to try.
        spent_s: Seconds, those of earlier runs among them.
        artifact: Of the plan that was found, in the store; None where none holds.
        problem: Why there was no search; empty where there was one.
        unrun: Why no plan that was tried could be run; empty where one could.

    """

    target: Target
    groups: tuple[NodeGroup, ...] = ()
    noise: Mapping[str, float] = field(default_factory=dict)
    kept: frozenset[str] | None = None
    mix: Mix | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    judged: int = 0
    timed: int = 0
    finished: bool = False
    spent_s: float = 0.0
    artifact: Artifact | None = None
    problem: str = ""
    unrun: str = ""

    @property
    def candidate(self) -> Candidate | None:
        """The plan as a candidate; None where there is none, or where it is that of the recipe's own int8."""
        return self.plan if self.kept else None

    @property
    def plan(self) -> Candidate | None:
        """The plan as a candidate, that of the recipe's own int8 too; None where none holds."""
        if self.mix is None:
            return None
        rest = "" if self.mix.rest is Precision.FP32 else f" with {self.mix.rest}"
        return Candidate(
            name=f"{self.target.backend} {Precision.INT8} tuned{rest}",
            backend=self.target.backend,
            precision=Precision.INT8,
            execution=self.target.execution,
            mix=self.mix,
            least_placement=self.target.least_placement,
        )

    @property
    def searched(self) -> tuple[SearchedGroup, ...]:
        """What became of each group, in the order of computation; all of it float where no plan holds."""
        rest = self.target.mix.rest
        nothing = "no plan with integers that was tried is surely within the accuracy budget" if self.groups else ""
        return tuple(
            SearchedGroup(
                name=group.name,
                nodes=group.nodes,
                noise=self.noise.get(group.name),
                precision=rest if self.kept is None or group.name in self.kept else Precision.INT8,
                reason=nothing if self.kept is None else self.reasons.get(group.name, ""),
            )
            for group in self.groups
        )

    def as_search(self, candidate: str) -> PlanSearch:
        """What a run's result keeps of it; `candidate` is what the plan is called there."""
        return PlanSearch(candidate=candidate, backend=self.target.backend, said=self.said, groups=self.searched)

    @property
    def said(self) -> str:
        """All of it in a few sentences."""
        rest, backend = self.target.mix.rest, self.target.backend
        if self.problem:
            return f"{backend}: no plan was searched: {self.problem}."
        if self.unrun:
            found = f"no plan could be run here ({self.unrun})"
        elif self.kept is None:
            which = f"no mix of int8 and {rest}" if self.finished else "no plan that was tried"
            found = f"{which} is surely within the accuracy budget: float is what remains"
        elif not self.kept:
            timed = f"nothing left in {rest} that was timed makes it surely faster"
            untimed = f"nothing left in {rest} was timed beside it"
            found = f"int8 is within the accuracy budget as it is, and {timed if self.timed else untimed}"
        else:
            found = f"{len(self.kept)} of {len(self.groups)} groups of nodes are left in {rest}: {self._named()}"
        work = f"{_counted(self.judged, 'plan')} judged on the evaluation samples, {self.timed} timed"
        end = "" if self.finished else "; no time was left for another step, and more of it would go on from there"
        return f"{backend}, search of {self.spent_s:.0f} s: {found} ({work}{end})."

    def _named(self) -> str:
        names = [group.name for group in self.groups if self.kept is not None and group.name in self.kept]
        shown = 5
        return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def tune_all(context: RunContext, material: Material) -> list[Tuned]:
    """A search for each target of the recipe that asks for one and can have int8 here.

    A search that fails says why; the run goes on without it.
    """
    found = []
    for target in context.recipe.targets:
        here = material.capabilities.get(target.backend)
        if target.tune_s is None or Precision.INT8 not in target.precisions or here is None or not here.can_run:
            continue
        try:
            found.append(tune(context, target, material))
        except DeviceLost:
            raise
        except EdgeportError as error:
            found.append(Tuned(target=target, problem=error.reason))
    return found


def tune(
    context: RunContext, target: Target, material: Material, *, on_better: Callable[[Tuned], None] = lambda _: None
) -> Tuned:
    """The search for one target, as far as its time goes.

    Args:
        context: Of the run.
        target: With `tune_s`.
        material: What plans are made from.
        on_better: Told of each plan that is better than all before, as soon as it is known.

    Raises:
        EdgeportError: There is no plan at all, or its nodes can't be told.

    """
    from edgeport.calibration.mixed_precision.search import search

    limit_s = target.tune_s or 0.0
    context.clock.expect(tune=limit_s)
    asked = _asked(context, target, material)
    spending = Spending(limit_s=limit_s, store=context.store, about=digest_json(asked), clock=context.clock)
    spending.tell(target.backend)
    inner = replace(context, clock=Inside(spending=spending))
    sensing = _Sensing(context=inner, target=target, material=material, asked=asked, spending=spending)
    groups = sensing.groups()
    noise = sensing.noise(groups)
    bench = _Bench(context=inner, target=target, material=material, spending=spending, groups=groups)
    found = Tuned(target=target, groups=groups, noise=noise)
    for standing in search(groups, noise, bench):
        better = standing.best != found.kept
        found = replace(
            found,
            kept=standing.best,
            mix=None if standing.best is None else bench.mix(standing.best),
            reasons=standing.reasons,
            judged=bench.judged,
            timed=len(bench.timed),
            finished=not standing.step,
            unrun=bench.unrun,
            spent_s=spending.spent_s,
            artifact=None if standing.best is None else bench.artifact(standing.best),
        )
        if better:
            on_better(found)
        if not standing.step or not bench.has_time_for(standing):
            break
        spending.tell(standing.why)
    return found


def _asked(context: RunContext, target: Target, material: Material) -> dict[str, Any]:
    """What a search rests on, but for the time that it has."""
    recipe = context.recipe
    return {
        "model": material.model.digest,
        "calibration": material.calibration_digest,
        "backend": target.backend,
        "capabilities": to_jsonable(material.capabilities[target.backend]),
        "execution": to_jsonable(target.execution),
        "mix": to_jsonable(target.mix),
        "method": method_for(material.methods, material.capabilities[target.backend], recipe.search.calibration_method),
        "recovery": list(recipe.search.recovery),
        "samples": [material.samples.fingerprint, material.samples.calibration_fingerprint],
        "state": [dict(recipe.state), dict(recipe.initial)],
        "reference": digest_file(material.reference.outputs),
        "judged": [recipe.data.metric, recipe.data.output, recipe.data.decode, recipe.budget.accuracy_drop],
        "measured": [recipe.search.screening_rounds, recipe.search.duration_s, recipe.search.warmup_s],
        "seed": recipe.search.seed,
        "device": context.facts.digest,
        "versions": tool_versions(),
    }


@dataclass(kw_only=True)
class _Sensing:
    """The groups of a target's int8, and what each costs in accuracy."""

    context: RunContext
    target: Target
    material: Material
    asked: Mapping[str, Any]
    spending: Spending

    def _payload(self) -> dict[str, Any]:
        return {
            "model": to_jsonable(self.material.model),
            "backend": self.target.backend,
            "precision": Precision.INT8,
            "calibration": str(self.material.calibration),
            "method": self.asked["method"],
            "mix": to_jsonable(self.target.mix),
            "processor": to_jsonable(self.material.capabilities[self.target.backend].processor),
        }

    def _key(self) -> dict[str, Any]:
        names = ("model", "calibration", "backend", "capabilities", "mix", "method", "state", "versions")
        return {name: self.asked[name] for name in names}

    def _child(self, function: str, payload: Mapping[str, object], what: str) -> dict[str, Any]:
        return run_isolated(
            function,
            payload,
            limits=self.context.limits,
            on_progress=self.context.clock.inside("sensitivity"),
            asked=f"{what} of {self.material.model.path.name} for {self.target.backend}",
        )

    def groups(self) -> tuple[NodeGroup, ...]:
        """In the order of computation."""
        from edgeport.calibration.mixed_precision.groups import NodeGroup

        def find() -> Any:
            return self.context.store.get_or_build_json(
                "groups", self._key(), lambda: self._child(f"{_WORKER}:groups", self._payload(), "find groups of nodes")
            )

        found = self.spending.step("groups", "", find)
        return tuple(load_json(NodeGroup, json.dumps(group)) for group in found["groups"])

    def noise(self, groups: Sequence[NodeGroup]) -> dict[str, float]:
        """Of as many groups as there is time for."""
        few = self.spending.step("few", "", self._few)
        noise: dict[str, float] = {}
        left = [group.name for group in groups]
        most_s = _SENSING_SHARE * self.spending.limit_s
        at_once = 1
        while left and self.spending.spent_s < most_s and self.spending.allows("noise", at_once):
            some, left = left[:at_once], left[at_once:]
            noise |= self.spending.step("noise", some, lambda some=some: self._noise_of(some, few), units=len(some))  # type: ignore[misc]
            at_once = max(1, min(2 * at_once, int(_CHUNK_S / max(self.spending.each_s("noise"), 0.01))))
        return noise

    def _few(self) -> Path:
        recipe, samples, model = self.context.recipe, self.material.samples, self.material.model
        key = {
            "model": model.digest,
            "samples": samples.calibration_fingerprint,
            "state": self.asked["state"],
            "versions": tool_versions(),
        }

        def build(folder: Path) -> None:
            payload = {
                "model": to_jsonable(model),
                "folder": str(folder),
                "states": [to_jsonable(spec) for spec in states_of_model(recipe, model.inputs)],
                "initial": dict(recipe.initial),
                **samples_payload(recipe, samples),
            }
            self._child("edgeport.pipeline.datasets.calibration_samples:take_few", payload, "take some samples")

        return self.context.store.get_or_build("few", key, build)

    def _noise_of(self, names: Sequence[str], few: Path) -> dict[str, float]:
        """One step in the store for several groups: a child does them with one model loaded."""
        key = {**self._key(), "samples": self.material.samples.calibration_fingerprint, "groups": list(names)}

        def look() -> Any:
            payload = {**self._payload(), "few": str(few), "wanted": list(names)}
            return self._child(f"{_WORKER}:noises", payload, "measure the sensitivity of groups of nodes")["noise"]

        found = self.context.store.get_or_build_json("noise", key, look)
        return {name: float("inf") if one is None else float(one) for name, one in found.items()}


@dataclass(kw_only=True)
class _Bench:
    """Compiles, judges and times plans; see `edgeport.calibration.mixed_precision.search.Bench`.

    Attributes:
        judged: How many plans were judged.
        refused: Why some of them could not be built or run.
        timed: Those that were timed.

    """

    context: RunContext
    target: Target
    material: Material
    spending: Spending
    groups: Sequence[NodeGroup]
    judged: int = 0
    refused: list[str] = field(default_factory=list)
    timed: set[frozenset[str]] = field(default_factory=set)
    _tried: dict[frozenset[str], Validated] = field(default_factory=dict)

    def mix(self, kept: Kept) -> Mix:
        """The target's own choices, and these groups in its float precision."""
        base = self.target.mix
        names = [name for group in self.groups if group.name in kept for name in group.nodes]
        return replace(base, nodes=(*base.nodes, *(NodeChoice(what=name, precision=base.rest) for name in names)))

    def artifact(self, kept: Kept) -> Artifact | None:
        """Of a plan that was tried."""
        return self._tried[kept].candidate.artifact

    @property
    def unrun(self) -> str:
        """Why none of the plans could be run; empty where one could."""
        return self.refused[0] if self.refused and len(self.refused) == self.judged else ""

    def has_time_for(self, standing: SearchState) -> bool:
        """By what the steps before took."""
        if standing.step == "judge":
            return self.spending.allows("judge")
        search, arms = self.context.recipe.search, len(standing.plans)
        return self.spending.allows("time", arms, guess_s=arms * search.screening_rounds * process_s(search))

    def holds(self, kept: Kept) -> bool:
        """See `Bench`; a plan that can't be built or run does not hold."""
        self.judged += 1
        one = self.spending.step("judge", sorted(kept), lambda: self._try(kept))
        accuracy = one.candidate.accuracy
        if one.candidate.refusal is not None and accuracy is None:
            self.refused.append(one.candidate.refusal.reason)
        return one.candidate.refusal is None and accuracy is not None and accuracy.outcome is Outcome.PASS

    def speedups(self, base: Kept, others: Sequence[Kept]) -> dict[Kept, Interval]:
        """See `Bench`; plans that can't be built or run, or whose measurements must not be used, are left out."""
        plans = [base, *others]
        key = [sorted(kept) for kept in plans]
        found = self.spending.step("time", key, lambda: self._timed(base, others), units=len(plans))
        self.timed |= set(plans)
        return found

    def _timed(self, base: Kept, others: Sequence[Kept]) -> dict[Kept, Interval]:
        arms = {kept: arm for kept in (base, *others) if (arm := self._arm(kept)) is not None}
        if base not in arms or len(arms) == 1:
            return {}
        search, samples = self.context.recipe.search, self.material.samples
        timed = time_arms(
            self.context, list(arms.values()), samples.single, stage=_STAGE, rounds=search.screening_rounds
        )
        names = {arms[kept].name: kept for kept in others if kept in arms}
        compared = compare_arms(timed, arms[base].name, list(names))
        return {
            names[name]: one.speedup
            for name, one in compared.items()
            # An interval without 1 in it has a change, unless a measurement is invalid.
            if one.change is not Change.UNKNOWN or one.speedup.low <= 1.0 <= one.speedup.high
        }

    def _arm(self, kept: Kept) -> Arm | None:
        return arm_of(self._try(kept), self.material.samples.timed_row)

    def _try(self, kept: Kept) -> Validated:
        if kept not in self._tried:
            candidate = Candidate(
                name=f"{self.target.backend} int8, {len(kept)} in float, {digest_json(sorted(kept))[:8]}",
                backend=self.target.backend,
                precision=Precision.INT8,
                execution=self.target.execution,
                mix=self.mix(kept),
            )
            (built,) = self.material.build(self.context, [candidate])
            (self._tried[kept],) = validate_candidates(
                self.context, [built], self.material.samples, self.material.reference
            )
        return self._tried[kept]
