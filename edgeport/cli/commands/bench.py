"""`edgeport bench`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.ci_files import CiFiles, ci_options
from edgeport.cli.grouped import grouped
from edgeport.cli.measuring_options import duration_of, measuring_options, part_of, rate_of, seconds_of, share_of
from edgeport.cli.options import FILE, PLACE, device_option, given_options, placement_option
from edgeport.cli.output import Output, exit_code, output_options
from edgeport.errors import UsageError

__all__ = ["command"]

_ANY = click.Path(exists=True, path_type=Path)

_SECTIONS = {
    "What is asked": ("budgets", "against", "baseline", "require_placement"),
    "How long": ("rounds", "until", "time_", "duration", "cool_down", "soak"),
    "How it is run": ("device", "scenario", "streams", "rate", "energy", "backend", "threads", "samples", "preprocess"),
    "What is written": ("as_json", "junit", "markdown", "save_baseline", "quiet"),
}


@click.command(name="bench", cls=grouped(_SECTIONS))
@click.argument("artifact", type=_ANY)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="NAME=LIMIT",
    help="p99=20ms, throughput=200/s, memory=300MB, size=10MB or first-inference=1s; may be given several times.",
)
@click.option("--against", type=_ANY, help="Another artifact, measured in turn with this one.")
@click.option("--baseline", type=FILE, help="What --save-baseline wrote, earlier and on this machine.")
@click.option("--save-baseline", type=PLACE, metavar="FILE.json", help="Keep the raw measurement for --baseline.")
@placement_option
@click.option(
    "--scenario",
    type=click.Choice(["single-stream", "multi-stream", "server", "offline"]),
    default="single-stream",
    show_default=True,
    help="One call after the other; one per stream at once; at random times; all streams as fast as they can.",
)
@click.option("--streams", type=click.IntRange(min=1), help="Calls at the same time [default: one per core].")
@click.option("--rate", metavar="100/s", help="Of the calls that come to a server.")
@click.option("--energy", is_flag=True, help="Measure joules per sample, where there is a meter; some 20 s more.")
@click.option("--soak", metavar="1h", help="Keep it at work so long: how fast it is at first, and how fast it stays.")
@device_option
@measuring_options
@ci_options
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    artifact: Path,
    budgets: tuple[str, ...],
    against: Path | None,
    baseline: Path | None,
    save_baseline: Path | None,
    require_placement: str | None,
    scenario: str,
    streams: int | None,
    rate: str | None,
    energy: bool,
    soak: str | None,
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
    """The latency of ARTIFACT (a folder of quantize, a bundle, or an .onnx file), with a verdict.

    With a --budget or --until, measuring goes on until there is an answer, at most --time; else for --rounds.

    Ends with 0 where every budget is kept and it is not slower than --against and --baseline, 3 where that is not so,
    4 where the evidence is too thin, 5 where the numbers must not be used.

    \b
    Examples:
      edgeport bench net-int8
      edgeport bench net-int8 --budget p99=20ms --budget memory=300MB
      edgeport bench net-int8 --until 1% --time 30s
      edgeport bench net-int8 --device pi5
      edgeport bench net-int8 --device pi5 --soak 1h
      edgeport bench net-int8 --scenario server --rate 100/s --budget p99=50ms
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_bench import draw_bench
    from edgeport.cli.render_soak import draw_soak
    from edgeport.contracts import to_jsonable

    files.check()
    if soak is not None:
        _refuse_beside_soak()
        with output.progress() as on_progress:
            soaked = api.soak(
                artifact,
                time_s=duration_of(soak, "--soak") or 0.0,
                backend=backend,
                samples=samples,
                preprocess=preprocess,
                threads=threads,
                device=device,
                on_progress=on_progress,
            )
        output.show(lambda: to_jsonable(soaked), lambda console: draw_soak(console, soaked))
        return exit_code(soaked.outcome)
    with output.progress() as on_progress:
        found = api.bench(
            artifact,
            backend=backend,
            samples=samples,
            preprocess=preprocess,
            rounds=rounds,
            duration_s=duration,
            threads=threads,
            against=against,
            budgets=budgets,
            until=share_of(until, "--until"),
            time_s=seconds_of(time_, "--time"),
            cool_down_s=seconds_of(cool_down, "--cool-down") or 0.0,
            scenario=scenario,
            streams=streams,
            rate_per_s=rate_of(rate, "--rate"),
            energy=energy,
            device=device,
            baseline=baseline,
            save_baseline=save_baseline,
            require_placement=part_of(require_placement, "--require-placement"),
            on_progress=on_progress,
        )
    files.write(f"edgeport bench {found.name}", found.rows())
    output.show(lambda: to_jsonable(found), lambda console: draw_bench(console, found))
    return exit_code(found.outcome)


_WITH_SOAK = frozenset(
    {"artifact", "soak", "device", "backend", "samples", "preprocess", "threads", "as_json", "quiet"}
)


def _refuse_beside_soak() -> None:
    """What is said of many processes, or held to a budget, can't be asked of one that runs for an hour.

    Raises:
        UsageError: Another option was given.

    """
    given = [spelled for name, spelled in given_options().items() if name not in _WITH_SOAK]
    if given:
        raise UsageError(
            asked=f"bench with --soak and {given[0]}",
            found="that a soak is one process, which is not judged",
            fix=f"leave out {', '.join(given)}, or --soak",
        )
