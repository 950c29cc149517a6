"""`edgeport schedule`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import PLACE
from edgeport.cli.output import Output, exit_code, output_options
from edgeport.errors import UsageError

__all__ = ["command"]

_ANY = click.Path(exists=True, path_type=Path)


@click.command(name="schedule")
@click.argument("artifacts", type=_ANY, nargs=-1, required=True)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    required=True,
    metavar="p90=20ms",
    help="Of a call; one for each artifact, in their order, or one for all.",
)
@click.option("--backend", default="onnxruntime", show_default=True, help="That runs a plain .onnx.")
@click.option("--rounds", type=click.IntRange(min=6), default=10, show_default=True, help="Of a way that may do.")
@click.option("-o", "--output", "folder", type=PLACE, default=Path("scheduled"), show_default=True)
@output_options
def command(
    *,
    artifacts: tuple[Path, ...],
    budgets: tuple[str, ...],
    backend: str,
    rounds: int,
    folder: Path,
    output: Output,
) -> int:
    """Processors and priorities for ARTIFACTS that are at work at the same time on this machine, each with a BUDGET.

    Each is timed alone, then all at once: as they are, and in the ways to share the processors that their times alone
    leave open. OUTPUT gets each artifact with its settings, and schedule.json, which holds what they cost each other.
    Ends with 0 where every budget is kept, 3 where no way keeps them, 4 where that is not sure.

    \b
    Examples:
      edgeport schedule detector speech --budget p90=30ms --budget p99=10ms
      edgeport schedule detector speech --budget p90=30ms -o both
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_schedule import draw_schedule
    from edgeport.contracts import to_jsonable

    if len(budgets) not in (1, len(artifacts)):
        raise UsageError(
            asked=f"schedule {len(artifacts)} artifacts",
            found=f"{len(budgets)} budgets",
            fix="give one for all, or one for each in their order",
        )
    models: dict[str, tuple[Path, str]] = {}
    each = budgets * len(artifacts) if len(budgets) == 1 else budgets
    for path, budget in zip(artifacts, each, strict=True):
        stem = path.absolute().name.removesuffix(".onnx")
        name = next(name for name in (stem, *(f"{stem}-{number}" for number in range(2, 99))) if name not in models)
        models[name] = (path, budget)
    with output.progress() as on_progress:
        found = api.schedule(models, output=folder, backend=backend, rounds=rounds, on_progress=on_progress)
    output.show(lambda: to_jsonable(found), lambda console: draw_schedule(console, found))
    return exit_code(found.outcome)
