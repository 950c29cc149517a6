"""A run rehearsed: the whole way is walked with a store that builds nothing, up to the first step that is not in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeport.contracts import (
    Device,
    DeviceFacts,
    Job,
    Limits,
    OnProgress,
    ProcessTrace,
    silent,
)
from edgeport.contracts.recipe import Recipe
from edgeport.pipeline.engine.context import RunContext, reach
from edgeport.pipeline.engine.estimates import stage_names
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.engine.scratch import scratch_folder
from edgeport.pipeline.run import walk
from edgeport.store import Store

__all__ = ["DryRun", "DryStep", "rehearse"]

_ALWAYS = ("probe", "samples")
"""Done in every run, and in its rehearsal."""

_LAST = "bundle"
"""Written in every run, and never in its rehearsal."""


@dataclass(frozen=True, kw_only=True)
class DryStep:
    """One step of a run.

    Attributes:
        name: As progress calls it.
        what: In a few words.
        seconds: That it may take; 0 where the store has it.
        stored: The store has all of it.

    """

    name: str
    what: str
    seconds: float
    stored: bool


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a run would do.

    Attributes:
        name: Of the model.
        steps: In their order.
        seconds: Altogether; a guess for a small machine, better the more the store has.
        store: Folder of finished steps.

    """

    name: str
    steps: tuple[DryStep, ...]
    seconds: float
    store: Path
    schema_version: int = 1


class _NotStored(BaseException):
    """Work is to be done. No `Exception`: what fails for one candidate becomes its row, and this must not."""


class _ReadOnlyStore(Store):
    """Answers what is there; samples that are not are read and checked all the same, into a folder that is removed."""

    scratch: Path | None = None

    def get_or_build(self, step: str, key: object, build: Callable[[Path], None]) -> Path:
        found = self.find(step, key)
        if found is None and step in _ALWAYS and self.scratch is not None:
            found = self.scratch / step
            found.mkdir()
            build(found)
            return found
        if found is None:
            raise _NotStored
        return self._hit(found)

    def get_or_build_watched(
        self,
        step: str,
        key: object,
        build: Callable[[Path], dict[str, str]],
        state_of: Callable[[list[str]], dict[str, str]],
    ) -> Path:
        del build
        found = self.find_watched(step, key, state_of)
        if found is None:
            raise _NotStored
        return self._hit(found)


@dataclass(frozen=True, kw_only=True)
class _Idle:
    """A device on which nothing runs."""

    device: Device

    def facts(self) -> DeviceFacts:
        """See `Device`."""
        return self.device.facts()

    def push(self, path: Path) -> str:
        """See `Device`."""
        return self.device.push(path)

    def reserve(self, name: str) -> str:
        """See `Device`."""
        return self.device.reserve(name)

    def pull(self, path: str, into: Path) -> None:
        """See `Device`."""
        self.device.pull(path, into)

    def discard(self, path: str) -> None:
        """See `Device`."""
        self.device.discard(path)

    def close(self) -> None:
        """See `Device`."""
        self.device.close()

    def run(self, job: Job) -> ProcessTrace:
        """See `Device`."""
        del job
        raise _NotStored


@dataclass
class _Stages(Clock):
    """Keeps which stages were entered, and what each was last expected to take."""

    entered: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    finished: bool = False

    def expect(self, **seconds: float) -> None:
        """See `Clock`."""
        super().expect(**seconds)
        self.seconds |= {name.replace("_", " "): value for name, value in seconds.items()}

    def step(self, stage: str, message: str = "", *, done: int = 0, total: int = 0) -> None:
        """See `Clock`."""
        if stage == _LAST:
            self.finished = True
            raise _NotStored
        if stage not in self.entered:
            self.entered.append(stage)
        super().step(stage, message, done=done, total=total)


def rehearse(
    recipe: Recipe, *, store: Path | None = None, on_progress: OnProgress = silent, limits: Limits | None = None
) -> DryRun:
    """Walks as far as the store has answers; nothing is built, measured or written but in a scratch folder.

    Args:
        recipe: What would be run.
        store: As in `run_recipe`.
        on_progress: Told of every step that is looked at.
        limits: Of each child process; those of the recipe by default.

    Raises:
        EdgeportError: What is known before any work can't be used; a device can't be reached.

    """
    kept, stages = _ReadOnlyStore(store), _Stages(on_progress)
    with scratch_folder(kept.root) as scratch, ExitStack() as stack:
        kept.scratch = scratch
        reached = {
            name: replace(one, device=_Idle(device=one.device), here=True)
            for name in dict.fromkeys(target.device for target in recipe.targets)
            for one in (reach(stack, name, scratch / "devices" / name),)
        }
        first = next(iter(reached.values()))
        context = RunContext(
            recipe=recipe,
            store=kept,
            device=first.device,
            facts=first.facts,
            clock=stages,
            scratch=scratch,
            limits=limits or recipe.search.limits,
            processor=first.processor,
            devices=reached,
        )
        with suppress(_NotStored):
            walk(context, scratch / "never-written")
    steps = tuple(_steps(recipe, stages))
    return DryRun(name=recipe.name, steps=steps, seconds=sum(step.seconds for step in steps), store=kept.root)


def _steps(recipe: Recipe, stages: _Stages) -> list[DryStep]:
    search = recipe.search
    count = sum(len(target.precisions) for target in recipe.targets)
    made = ", as many of what was compressed" if recipe.compress else ""
    what = {
        "probe": "ask each runtime what it can do here",
        "samples": "read and check the samples",
        "export": "open and run the ONNX file" if _is_onnx(recipe) else "export in PyTorch, and run it on the samples",
        "verify": "PyTorch against ONNX Runtime on every sample",
        "calibrate": "statistics of every activation",
        **dict(zip(stage_names(recipe.compress), (step.said for step in recipe.compress), strict=True)),
        "tune": "a search of the nodes that int8 had better leave in float; at most so long",
        "compile": f"{count} candidates{made}, and the floats that they must beat",
        "validate": "every candidate on the evaluation samples",
        "screen": f"{search.screening_rounds} fresh processes for each candidate",
        "roofline": "what this device can do at its best",
        "throughput": "a call per core at once, of what may ship",
        "confirm": f"{search.rounds} fresh pairs of the leading candidate and the best float",
        "bundle": "bundle and report",
        "later targets": "the same for the other named targets",
    }
    if _is_onnx(recipe):
        del what["verify"]
    if not any(target.needs_ranges for target in recipe.targets):
        del what["calibrate"]
    if all(target.tune_s is None for target in recipe.targets):
        del what["tune"]
    if all(group.budget.throughput_per_s is None for group in recipe.groups):
        del what["throughput"]
    if not stages.seconds.get("later targets"):
        del what["later targets"]
    begun = "" if stages.finished else stages.entered[-1]
    done = [name for name in stages.entered if name != begun]
    return [
        DryStep(
            name=name,
            what=said,
            stored=name in done and name not in _ALWAYS,
            seconds=0.0 if name in done and name not in _ALWAYS else stages.seconds.get(name, 0.0),
        )
        for name, said in what.items()
    ]


def _is_onnx(recipe: Recipe) -> bool:
    return recipe.source.location.endswith(".onnx")
