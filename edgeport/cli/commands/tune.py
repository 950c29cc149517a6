"""`edgeport tune`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import FILE, PLACE, device_option, store_option
from edgeport.cli.output import Output, exit_code, output_options

__all__ = ["command"]


@click.command(name="tune")
@click.argument("recipe", type=FILE)
@click.option("--backend", default="", help="Of the target [default: the first with int8].")
@click.option(
    "--time", "time_", metavar="5m", help="All of it, over every run of this search [default: the target's, or 5m]."
)
@click.option("-o", "--output", "folder", type=PLACE, help="Results [default: edgeport-tuned beside RECIPE].")
@store_option
@click.option(
    "--resume/--fresh", default=True, help="Go on from what earlier runs finished [default], or do all of it anew."
)
@device_option
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    recipe: Path,
    backend: str,
    time_: str | None,
    folder: Path | None,
    store: Path | None,
    resume: bool,
    device: str,
    output: Output,
) -> int:
    """Which nodes of RECIPE's model int8 had better leave in float, within the accuracy budget and by measured latency.

    The best plan so far is always saved: OUTPUT/nodes.toml, a [[target]] for the recipe, and OUTPUT/best, its artifact.
    In the end it is measured beside every float that this runtime has here, and the float is saved where it is not
    surely faster. A search that was stopped goes on where it was; one whose time is up goes on with a longer --time.

    \b
    Examples:
      edgeport tune recipe.toml
      edgeport tune recipe.toml --device pi5
      edgeport tune recipe.toml --backend openvino --time 10m -o tuned
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.measuring_options import duration_of
    from edgeport.cli.render_tune import draw_tune
    from edgeport.contracts import to_jsonable

    with output.progress() as on_progress:
        found = api.tune(
            recipe,
            output=folder,
            backend=backend,
            time_s=duration_of(time_, "--time"),
            store=store,
            on_progress=on_progress,
            fresh=not resume,
            device=device,
        )
    output.show(lambda: to_jsonable(found), lambda console: draw_tune(console, found))
    return exit_code(found.outcome)
