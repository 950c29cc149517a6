"""`edgeport compare`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.ci_files import CiFiles, ci_options
from edgeport.cli.grouped import grouped
from edgeport.cli.measuring_options import measuring_options, seconds_of, share_of
from edgeport.cli.options import device_option
from edgeport.cli.output import Output, exit_code, output_options

__all__ = ["command"]

_ANY = click.Path(exists=True, path_type=Path)

_SECTIONS = {
    "What is asked": ("delta", "fail_on"),
    "How long": ("rounds", "until", "time_", "duration", "cool_down"),
    "How they are run": ("device", "backend", "threads", "samples", "preprocess"),
    "What is written": ("as_json", "junit", "markdown", "quiet"),
}


@click.command(name="compare", cls=grouped(_SECTIONS))
@click.argument("old", type=_ANY)
@click.argument("new", type=_ANY)
@click.option(
    "--delta", metavar="3%", help="A difference that does not matter [default: what this machine shows, at least 2 %]."
)
@click.option(
    "--fail-on",
    type=click.Choice(["slower", "regressed"]),
    default="slower",
    show_default=True,
    help="Any certain slowdown, or only one that is surely above delta.",
)
@device_option
@measuring_options
@ci_options
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    old: Path,
    new: Path,
    delta: str | None,
    fail_on: str,
    device: str,
    backend: str,
    samples: Path | None,
    preprocess: Path | None,
    rounds: int,
    duration: float,
    threads: int | None,
    until: str | None,
    time_: str | None,
    cool_down: str | None,
    files: CiFiles,
    output: Output,
) -> int:
    """Is NEW faster or slower than OLD? Both are run in turn, in pairs of fresh processes.

    OLD and NEW are folders of quantize, bundles, or .onnx files. The answer is IMPROVED or REGRESSED (surely by more
    than delta), FASTER or SLOWER (surely, but perhaps by less), EQUIVALENT (surely within delta), or UNKNOWN.

    Ends with 0 for FASTER, IMPROVED and EQUIVALENT, 3 for SLOWER and REGRESSED, 4 for UNKNOWN, 5 where the numbers
    must not be used.

    \b
    Examples:
      edgeport compare net.onnx net-int8
      edgeport compare net.onnx net-int8 --until 1% --time 30s --fail-on regressed
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_bench import draw_compare
    from edgeport.contracts import to_jsonable

    files.check()
    with output.progress() as on_progress:
        found = api.compare(
            old,
            new,
            device=device,
            backend=backend,
            samples=samples,
            preprocess=preprocess,
            rounds=rounds,
            duration_s=duration,
            threads=threads,
            delta=share_of(delta, "--delta"),
            fail_on=fail_on,
            until=share_of(until, "--until"),
            time_s=seconds_of(time_, "--time"),
            cool_down_s=seconds_of(cool_down, "--cool-down") or 0.0,
            on_progress=on_progress,
        )
    files.write(f"edgeport compare {found.old.name} {found.new.name}", found.rows())
    output.show(lambda: to_jsonable(found), lambda console: draw_compare(console, found))
    return exit_code(found.outcome)
