"""`edgeport tune`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.help_sections import grouped
from edgeport.cli.options import PLACE, given_options, options_of, output_option, resume_option, store_option
from edgeport.cli.output import Output, output_options
from edgeport.errors import UsageError
from edgeport.options.declare import common_fields
from edgeport.options.tune import ExecutionTuneOptions, TuneOptions

__all__ = ["command"]

_SECTIONS = {
    "Of a recipe": ("backend",),
    "Of artifacts": ("goal", "p99_ns", "batches", "samples", "preprocess"),
    "How": ("time_s", "fresh", "device", "store"),
    "What is written": ("place", "as_json", "quiet"),
}


@click.command(name="tune", cls=grouped(_SECTIONS))
@click.argument("what", type=PLACE, nargs=-1, required=True)
@options_of(ExecutionTuneOptions)
@output_option(text="Results [default: edgeport-tuned beside the first].")
@store_option
@resume_option("Go on from what earlier runs finished [default], or do all of it anew.")
@output_options
def command(
    *,
    what: tuple[Path, ...],
    options: ExecutionTuneOptions,
    place: Path | None,
    store: Path | None,
    fresh: bool,
    output: Output,
) -> int:
    """What a search by measured latency finds: WHAT int8 leaves in float, of a recipe; or how artifacts are best run.

    Of a recipe (.toml): which nodes of its model int8 had better leave in float, within the accuracy budget. The best
    plan so far is always saved: OUTPUT/nodes.toml, a [[target]] for the recipe, and OUTPUT/best, its artifact. In the
    end it is measured beside every float that this runtime has here, and the float is saved where it is not surely
    faster.

    Of artifacts, bundles or .onnx files: threads, streams, batch, spinning, affinity, hints and huge pages for the
    lowest latency, or for the highest throughput under a bound of p99. OUTPUT/best is the artifact with the settings
    that were chosen; those that the runtime takes by itself are among what is tried, and stay unless others are surely
    better in fresh pairs.

    A search that was stopped goes on where it was; one whose time is up goes on with a longer --time.

    \b
    Examples:
      edgeport tune recipe.toml
      edgeport tune recipe.toml --backend openvino --time 10m -o tuned
      edgeport tune net-int8 --for throughput --p99 20ms
      edgeport tune net-onnxruntime net-openvino --for latency --device pi5
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_execution import draw_execution
    from edgeport.cli.render_tune import draw_tune

    if what[0].suffix == ".toml":
        _refuse_others(what)
        with output.progress() as on_progress:
            tuned = api.tune(
                what[0],
                output=place,
                options=TuneOptions(**common_fields(TuneOptions, options)),
                store=store,
                on_progress=on_progress,
                fresh=fresh,
            )
        return output.report(tuned, draw_tune)
    with output.progress() as on_progress:
        result = api.tune_execution(
            what,
            output=place if place is not None else what[0].resolve().parent / "edgeport-tuned",
            options=options,
            store=store,
            on_progress=on_progress,
            fresh=fresh,
        )
    return output.report(result, draw_execution)


def _refuse_others(what: tuple[Path, ...]) -> None:
    """Of a recipe there is one, and what artifacts are asked says nothing of it."""
    given = [spelled for name, spelled in given_options().items() if name in _SECTIONS["Of artifacts"]]
    if len(what) > 1 or given:
        raise UsageError(
            asked=f"tune {what[0].name}" + (f" with {given[0]}" if given else ""),
            found="options of artifacts beside a recipe" if given else f"{what[1].name} beside a recipe",
            fix="give one recipe alone, or artifacts",
        )
