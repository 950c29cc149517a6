"""The whole way of a recipe, and drafting one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    Limits,
    OnProgress,
    RunResult,
    silent,
)

if TYPE_CHECKING:
    from edgeport.pipeline.dry_run import DryRun
    from edgeport.recipe_init import Draft

__all__ = [
    "dry_run",
    "init",
    "quickstart",
    "run",
]


def run(
    recipe: Path,
    *,
    output: Path | None = None,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
    device: str = "local",
    require_placement: float | None = None,
) -> RunResult:
    """Walks the whole way of a recipe: export, verify, calibrate, compile, validate, time, choose, bundle, report.

    Args:
        recipe: A TOML file (docs/reference/recipe.md).
        output: Folder for bundle, report and result; `edgeport-out` beside the recipe by default. Where targets are
            named, each has its bundle and report in a folder of its name, and the result one per name (`targets`).
        store: Folder of finished steps; the user's cache folder by default.
        on_progress: Told of every step, with the time left.
        limits: Of each child process; what the recipe's [search] says, if None.
        fresh: Do everything anew; what earlier runs finished is replaced in the store.
        device: Of `list_devices`; where artifacts are validated and timed. Its processor must be of this machine's
            architecture, for which plans are made.
        require_placement: Part of the planned nodes that must run as planned, 0..1, else a candidate is refused; in
            place of what the targets say.

    Raises:
        RecipeError: The recipe is not one.
        EdgeportError: The model or the data can't be used.
        DeviceLost: The device stopped answering; the same call goes on from what was finished.

    """
    from edgeport.pipeline import run_recipe
    from edgeport.recipe import load_recipe

    target = output if output is not None else recipe.parent / "edgeport-out"
    asked = load_recipe(recipe)
    if require_placement is not None:
        targets = tuple(replace(one, least_placement=require_placement) for one in asked.targets)
        asked = replace(asked, targets=targets)
    within = limits if limits is not None else asked.search.limits
    return run_recipe(
        asked, output=target, store=store, on_progress=on_progress, limits=within, fresh=fresh, device=device
    )


def dry_run(
    recipe: Path, *, store: Path | None = None, on_progress: OnProgress = silent, limits: Limits | None = None
) -> DryRun:
    """What `run` would do, step by step: what the store answers, and how long the rest may take. Nothing is written.

    Backends are asked what they can do, and functions that give samples are called, as in every run.

    Args:
        recipe: As in `run`.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`.

    Raises:
        RecipeError: The recipe is not one.
        EdgeportError: What is known before any work can't be used.

    """
    from edgeport.pipeline.dry_run import rehearse
    from edgeport.recipe import load_recipe

    return rehearse(load_recipe(recipe), store=store, on_progress=on_progress, limits=limits)


def quickstart(
    output: Path, *, store: Path | None = None, on_progress: OnProgress = silent, limits: Limits | None = None
) -> RunResult:
    """Trains a small network on scikit-learn's digits and takes it the whole way.

    Args:
        output: Folder that gets the model, its data, a recipe, and the recipe's output in `edgeport-out`.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`.

    Raises:
        DependencyError: The extra `quickstart` is not installed.

    """
    from edgeport.digits import prepare

    return run(prepare(output, on_progress), store=store, on_progress=on_progress, limits=limits)


def init(
    model: str,
    *,
    recipe: Path = Path("edgeport.toml"),
    arguments: Mapping[str, object] | None = None,
    weights: Path | None = None,
    allow_pickle_sha256: str | None = None,
    inputs: Sequence[str] = (),
    samples: str = "",
    calibration: str = "",
    evaluation: str = "",
    target: str = "",
    metric: str = "",
    backends: Sequence[str] = (),
    accuracy_drop: float | None = None,
    latency: str = "",
    quick: bool = False,
    force: bool = False,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> Draft:
    """Looks at a model, tries to export it, and writes a short recipe that `run` takes.

    Where no samples are given, a module with random ones is written beside the recipe and named after it
    (`edgeport_samples.py` for `edgeport.toml`).

    Args:
        model: As a recipe's [model] source; "net.py:create" and a folder of transformers are understood too.
        recipe: The file to write.
        arguments: Of the factory.
        weights: A `.safetensors` file or a safe checkpoint.
        allow_pickle_sha256: As in a recipe.
        inputs: "NAME=batch,3,224,224" or "NAME=batch,time:int64", one per input; found where not given.
        samples: A `.npz`, `.npy`, `.csv` or folder to be split into calibration and evaluation; or a function.
        calibration: Samples that int8 ranges come from, instead.
        evaluation: Samples that candidates are judged on.
        target: Key of the labels.
        metric: Its name, or `pkg.mod:fn`.
        backends: Those that can run here by default.
        accuracy_drop: Of the budget; what the samples can prove by default.
        latency: Of the budget.
        quick: Few and short measurements.
        force: Replace files that are there.
        on_progress: Told of every step.
        limits: Of each child.

    Raises:
        OutputError: A file is there already.
        EdgeportError: The model can't be loaded, run or exported, or the samples do not fit it.

    """
    from edgeport.recipe_init import InitRequest, draft_recipe

    asked = InitRequest(
        model=model,
        recipe=recipe,
        arguments=arguments or {},
        weights=weights,
        allow_pickle_sha256=allow_pickle_sha256,
        inputs=tuple(inputs),
        samples=samples,
        calibration=calibration,
        evaluation=evaluation,
        target=target,
        metric=metric,
        backends=tuple(backends),
        accuracy_drop=accuracy_drop,
        latency=latency,
        quick=quick,
        force=force,
    )
    return draft_recipe(asked, on_progress=on_progress, limits=limits)
