"""`edgeport schedule`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import PLACE, options_of, output_option
from edgeport.cli.output import Output, output_options
from edgeport.errors import UsageError
from edgeport.options.tune import ScheduleOptions

__all__ = ["command"]


@click.command(name="schedule")
@click.argument("artifacts", type=PLACE, nargs=-1, required=True)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    required=True,
    metavar="p90=20ms",
    help="Of a call; one for each artifact, in their order, or one for all.",
)
@options_of(ScheduleOptions)
@output_option("scheduled")
@output_options
def command(
    *,
    artifacts: tuple[Path, ...],
    budgets: tuple[str, ...],
    options: ScheduleOptions,
    place: Path,
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
        found = api.schedule(models, output=place, options=options, on_progress=on_progress)
    return output.report(found, draw_schedule)
