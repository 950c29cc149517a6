"""`edgeport bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeport.cli.options import FILE
from edgeport.cli.output import Output, exit_code, output_options
from edgeport.errors import UsageError

if TYPE_CHECKING:
    from edgeport.contracts import Budget

__all__ = ["command"]

_ANY = click.Path(exists=True, path_type=Path)


@click.command(name="bench")
@click.argument("artifact", type=_ANY)
@click.option("--backend", default="onnxruntime", show_default=True, help="That runs a plain .onnx.")
@click.option("--samples", type=FILE, help=".npz with inputs; else a bundle's own, or random values.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="Fresh processes.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), default=0.3, show_default=True, metavar="S")
@click.option("--threads", type=click.IntRange(min=1), help="For a plain .onnx [default: the runtime's own].")
@click.option("--against", type=_ANY, help="Another artifact, measured in turn with this one.")
@click.option("--latency", metavar="LIMIT", help='A budget, such as "p50 <= 5 ms".')
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    artifact: Path,
    backend: str,
    samples: Path | None,
    rounds: int,
    duration: float,
    threads: int | None,
    against: Path | None,
    latency: str | None,
    output: Output,
) -> int:
    """The latency of ARTIFACT: a folder of quantize, a bundle, or an .onnx file.

    Ends with 0 where it keeps the budget and is not slower than --against, 3 where it does not, 4 where the evidence
    is too thin, 5 where the numbers must not be used.

    \b
    Examples:
      edgeport bench net-int8
      edgeport bench net-int8 --against net.onnx --latency "p90 <= 5 ms"
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_steps import draw_bench
    from edgeport.contracts import to_jsonable

    budget = _budget(latency)
    with output.progress() as on_progress:
        found = api.bench(
            artifact,
            backend=backend,
            samples=samples,
            rounds=rounds,
            duration_s=duration,
            threads=threads,
            against=against,
            budget=budget,
            on_progress=on_progress,
        )
    output.show(lambda: to_jsonable(found), lambda console: draw_bench(console, found))
    return exit_code(found.outcome)


def _budget(latency: str | None) -> Budget | None:
    if latency is None:
        return None
    from edgeport.contracts import Budget
    from edgeport.recipe.quantities import NotAQuantity, parse_latency

    try:
        quantile, limit_ns = parse_latency(latency)
    except NotAQuantity as error:
        raise UsageError(asked=f"keep to --latency {latency}", found="no latency", fix=f"give {error}") from error
    return Budget(latency_quantile=quantile, latency_ns=limit_ns)
