"""How models are best run: precisions by the node, executions, and several models beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    Limits,
    OnProgress,
    silent,
)
from edgeport.options.declare import common_fields
from edgeport.options.tune import ExecutionTuneOptions, ScheduleOptions, TuneOptions

if TYPE_CHECKING:
    from edgeport.pipeline.search.colocation import ScheduleResult
    from edgeport.pipeline.search.execution import ExecutionTuned
    from edgeport.pipeline.search.mixed_precision_command import TuneResult
    from edgeport.recipe.bounds import Bound

__all__ = [
    "schedule",
    "tune",
    "tune_execution",
]

_DEFAULT_S = 300.0


def tune(
    recipe: Path,
    *,
    output: Path | None = None,
    options: TuneOptions = TuneOptions(),
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
) -> TuneResult:
    """Searches the nodes that int8 had better leave in float, for one target of a recipe.

    The plan is judged by the recipe's accuracy budget and timed on the device. `nodes.toml` in the output folder is
    its [[target]], `best/` its artifact; both are replaced whenever a better plan is known. In the end the plan is
    measured beside every float that its runtime has here; where it is not surely faster, the float is what is saved.

    Args:
        recipe: A TOML file; its `tune`, `nodes` and `rest` of the target count.
        output: Folder for what is found; `edgeport-tuned` beside the recipe by default.
        options: For which target, and how long.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`.
        fresh: As in `run`.

    Raises:
        UsageError: No target with int8, or a model with a state.
        AlreadyQuantizedError: The model is quantized.
        OutputError: Something else is in the output's place.
        EdgeportError: The model or the data can't be used.

    """
    from edgeport.pipeline.search.mixed_precision_command import tune_recipe
    from edgeport.recipe import load_recipe

    return tune_recipe(
        load_recipe(recipe),
        output=output if output is not None else recipe.parent / "edgeport-tuned",
        backend=options.backend,
        time_s=options.time_s,
        device=options.device,
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )


def tune_execution(
    artifacts: Sequence[Path],
    *,
    output: Path,
    options: ExecutionTuneOptions = ExecutionTuneOptions(),
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
) -> ExecutionTuned:
    """Searches how an artifact is best run on a device: threads, streams, batch, spinning, affinity, hints, huge pages.

    What the runtime does by itself is among what is tried, and is what is saved unless something else is surely better
    in fresh pairs of processes. The output folder gets `best/`, the artifact or bundle with the settings that were
    chosen (which `run.py` and `bench` apply), and `tuned.json`.

    Args:
        artifacts: Folders that `quantize` wrote, bundles or `.onnx` files; of several, of one model, the best is saved.
        output: Folder for what is found.
        options: What is best, on which device, and how long is searched for it.
        store: Of finished rounds, from which a search that was killed goes on.
        on_progress: Told before each process.
        limits: Of each child.
        fresh: Measure everything anew.

    Raises:
        UsageError: No such goal, nothing that can be timed, or a backend that has no other way to run it.
        OutputError: Something else is in the output's place.
        BackendError, IsolationError: It does not run.

    """
    from edgeport.pipeline.search.execution import ExecutionAsked
    from edgeport.pipeline.search.execution import tune_execution as tuned
    from edgeport.pipeline.search.successive_halving import Goal

    chosen = common_fields(ExecutionAsked, options) | {
        "goal": Goal(of=options.resolved_goal, p99_ns=options.p99_ns),
        "time_s": options.time_s or _DEFAULT_S,
        "backend": options.backend or "onnxruntime",
    }
    asked = ExecutionAsked(**chosen, limits=limits)
    return tuned(artifacts, asked, output=output, store=store, fresh=fresh, on_progress=on_progress)


def schedule(
    models: Mapping[str, tuple[Path, str | Bound]],
    *,
    output: Path,
    samples: Mapping[str, Path] | None = None,
    options: ScheduleOptions = ScheduleOptions(),
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> ScheduleResult:
    """Finds processors and priorities with which several models at work on this machine keep a budget each.

    Each model is timed alone on some of the processors, then all of them at the same time, each in a process of its own
    that calls without a pause: as they are, and in the ways to share the processors in which none is over its budget
    even alone. The output folder gets each artifact with its settings, in a folder of its name, and `schedule.json`.

    Args:
        models: Name to an artifact (as in `bench`) and its budget: "p90=20ms".
        output: Folder for what is found.
        samples: By name, as in `bench`.
        options: How they are timed.
        on_progress: Told before each round.
        limits: Of each child.

    Raises:
        UsageError: Fewer than two models, no bound of a latency, or a backend that has no other way to run it.
        BackendError, IsolationError: One of them does not run.

    """
    from edgeport.pipeline.benchmarking.bench import parse_bounds
    from edgeport.pipeline.search.colocation import schedule as scheduled

    held = {name: (path, parse_bounds([bound])[0]) for name, (path, bound) in models.items()}
    return scheduled(held, output=output, samples=samples, **vars(options), on_progress=on_progress, limits=limits)
