"""`edgeport qat`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import FILE, options_of, output_option, resume_option, store_option
from edgeport.cli.output import Output, output_options
from edgeport.options.qat import QatOptions

__all__ = ["command"]


@click.command(name="qat")
@click.argument("recipe", type=FILE)
@options_of(
    QatOptions,
    "backend precision samples epochs batch_size rate loss teacher mixed patience seed device processes",
)
@output_option(text="Results [default: edgeport-qat beside RECIPE].")
@store_option
@resume_option("Reuse finished work, as by default; or do everything anew.")
@output_options
def command(
    *, recipe: Path, options: QatOptions, place: Path | None, store: Path | None, fresh: bool, output: Output
) -> int:
    """RECIPE's PyTorch model learns with the rounding of one target's plan: for what quantizing costs too much.

    Writes OUTPUT/model.onnx and plan.json (what was learned), OUTPUT/best (its artifact) and metrics.jsonl. It is
    judged on the evaluation samples and measured beside every float of its runtime. Training that was stopped goes on
    where it was.

    \b
    Examples:
      edgeport qat recipe.toml --samples samples.npz
      edgeport qat recipe.toml --precision int4-weights-32 --loss teacher --epochs 5 -o trained
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_qat import draw_qat

    with output.progress() as on_progress:
        report = api.qat(recipe, output=place, options=options, store=store, on_progress=on_progress, fresh=fresh)
    return output.report(report, draw_qat)
