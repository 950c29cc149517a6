"""`edgeport bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from edgeport.cli.ci_files import CiFiles, ci_options
from edgeport.cli.help_sections import grouped
from edgeport.cli.options import PLACE, given_options, options_of
from edgeport.cli.output import Output, output_options
from edgeport.errors import UsageError
from edgeport.options.bench import BenchOptions, ExecuteOptions
from edgeport.options.declare import common_fields, option

__all__ = ["command"]

_SECTIONS = {
    "What is asked": ("budgets", "against", "baseline", "require_placement"),
    "How long": ("rounds", "until", "time_s", "duration_s", "cool_down_s", "soak_s"),
    "How it is run": (
        *("device", "scenario", "streams", "rate_per_s", "energy"),
        *("backend", "threads", "samples", "preprocess"),
    ),
    "What is written": ("as_json", "junit", "markdown", "save_baseline", "quiet"),
}


@dataclass(frozen=True, kw_only=True)
class _Options(BenchOptions):
    """With what makes it a soak.

    Attributes:
        soak_s: Seconds of calls.

    """

    soak_s: float | None = option(
        None,
        "Keep it at work so long: how fast it is at first, and how fast it stays.",
        flag="--soak",
        parse="duration",
        metavar="1h",
    )


@click.command(name="bench", cls=grouped(_SECTIONS))
@click.argument("artifact", type=PLACE)
@options_of(_Options)
@ci_options
@output_options
def command(*, artifact: Path, options: _Options, files: CiFiles, output: Output) -> int:
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

    files.check()
    if options.soak_s is not None:
        _refuse_beside_soak()
        with output.progress() as on_progress:
            soaked = api.soak(
                artifact,
                time_s=options.soak_s,
                options=ExecuteOptions(**common_fields(ExecuteOptions, options)),
                on_progress=on_progress,
            )
        return output.report(soaked, draw_soak)
    with output.progress() as on_progress:
        result = api.bench(artifact, options=options, on_progress=on_progress)
    files.write(f"edgeport bench {result.name}", result.rows())
    return output.report(result, draw_bench)


_WITH_SOAK = frozenset(
    {"artifact", "soak_s", "device", "backend", "samples", "preprocess", "threads", "as_json", "quiet"}
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
