"""`edgeport tune`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.grouped import grouped
from edgeport.cli.options import FILE, PLACE, device_option, raw_samples, store_option
from edgeport.cli.output import Output, exit_code, output_options
from edgeport.errors import UsageError

__all__ = ["command"]

_ANY = click.Path(exists=True, path_type=Path)

_DEFAULT_S = 300.0
_SECTIONS = {
    "Of a recipe": ("backend",),
    "Of artifacts": ("goal", "p99", "batches", "samples", "preprocess"),
    "How": ("time_", "resume", "device", "store"),
    "What is written": ("folder", "as_json", "quiet"),
}


@click.command(name="tune", cls=grouped(_SECTIONS))
@click.argument("what", type=_ANY, nargs=-1, required=True)
@click.option("--backend", default="", help="Of the target [default: the first with int8]; that runs a plain .onnx.")
@click.option("--for", "goal", type=click.Choice(["latency", "throughput"]), help="What is best [default: latency].")
@click.option("--p99", metavar="20ms", help="For throughput: what 99 % of the calls must keep to.")
@click.option(
    "--batch", "batches", type=click.IntRange(min=1), multiple=True, help="Samples in a call; may be repeated."
)
@click.option("--samples", type=FILE, help=".npz with inputs [default: a bundle's own, or random values].")
@raw_samples
@click.option(
    "--time", "time_", metavar="5m", help="All of it, over every run of this search [default: the target's, or 5m]."
)
@click.option("-o", "--output", "folder", type=PLACE, help="Results [default: edgeport-tuned beside the first].")
@store_option
@click.option(
    "--resume/--fresh", default=True, help="Go on from what earlier runs finished [default], or do all of it anew."
)
@device_option
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    what: tuple[Path, ...],
    backend: str,
    goal: str | None,
    p99: str | None,
    batches: tuple[int, ...],
    samples: Path | None,
    preprocess: Path | None,
    time_: str | None,
    folder: Path | None,
    store: Path | None,
    resume: bool,
    device: str,
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
    from edgeport.cli.measuring_options import duration_of, seconds_of
    from edgeport.cli.render_execution import draw_execution
    from edgeport.cli.render_tune import draw_tune
    from edgeport.contracts import to_jsonable

    time_s = duration_of(time_, "--time")
    if what[0].suffix == ".toml":
        _refuse_others(
            what, {"--for": goal, "--p99": p99, "--batch": batches, "--samples": samples, "--preprocess": preprocess}
        )
        with output.progress() as on_progress:
            found = api.tune(
                what[0],
                output=folder,
                backend=backend,
                time_s=time_s,
                store=store,
                on_progress=on_progress,
                fresh=not resume,
                device=device,
            )
        output.show(lambda: to_jsonable(found), lambda console: draw_tune(console, found))
        return exit_code(found.outcome)
    bound_s = seconds_of(p99, "--p99")
    with output.progress() as on_progress:
        ran = api.tune_execution(
            what,
            goal=goal or ("latency" if bound_s is None else "throughput"),
            p99_ns=None if bound_s is None else 1e9 * bound_s,
            output=folder if folder is not None else what[0].resolve().parent / "edgeport-tuned",
            time_s=time_s or _DEFAULT_S,
            batches=batches,
            backend=backend or "onnxruntime",
            samples=samples,
            preprocess=preprocess,
            store=store,
            on_progress=on_progress,
            fresh=not resume,
            device=device,
        )
    output.show(lambda: to_jsonable(ran), lambda console: draw_execution(console, ran))
    return exit_code(ran.outcome)


def _refuse_others(what: tuple[Path, ...], options: dict[str, object]) -> None:
    """Of a recipe there is one, and what artifacts are asked says nothing of it."""
    given = [name for name, value in options.items() if value]
    if len(what) > 1 or given:
        raise UsageError(
            asked=f"tune {what[0].name}" + (f" with {given[0]}" if given else ""),
            found="options of artifacts beside a recipe" if given else f"{what[1].name} beside a recipe",
            fix="give one recipe alone, or artifacts",
        )
