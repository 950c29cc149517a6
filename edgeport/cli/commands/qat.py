"""`edgeport qat`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import FILE, PLACE, PRECISIONS, samples_place, store_option
from edgeport.cli.output import Output, exit_code, output_options

__all__ = ["command"]

_LEARNED = tuple(name for name in PRECISIONS if name == "int8" or "weights" in name)


@click.command(name="qat")
@click.argument("recipe", type=FILE)
@click.option("--backend", default="", help="Of the target [default: the recipe's first].")
@click.option("--precision", type=click.Choice(_LEARNED), default="int8", show_default=True)
@click.option("--samples", help="To learn from: .npz, a folder or pkg.mod:fn [default: the recipe's training samples].")
@click.option("--epochs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Highest learning rate [default: 2e-5; 3e-4 for 4 bits].",
)
@click.option(
    "--loss", default="auto", show_default=True, help="cross-entropy, mse, pkg.mod:fn, teacher (no labels), auto."
)
@click.option(
    "--teacher",
    type=click.FloatRange(0, 1),
    help="Weight of the float model's outputs beside the labels [default: 1; 0.5 for 4 bits, and beside a --loss].",
)
@click.option(
    "--mixed", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True, help="While training."
)
@click.option("--patience", type=click.IntRange(min=1), help="Stop after so many epochs without better weights.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="That share a batch: one per GPU."
)
@click.option("-o", "--output", "folder", type=PLACE, help="Results [default: edgeport-qat beside RECIPE].")
@store_option
@click.option("--resume/--fresh", default=True, help="Reuse finished work, as by default; or do everything anew.")
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    recipe: Path,
    backend: str,
    precision: str,
    samples: str | None,
    epochs: int,
    batch_size: int,
    rate: float | None,
    loss: str,
    teacher: float | None,
    mixed: str,
    patience: int | None,
    seed: int,
    device: str,
    processes: int,
    folder: Path | None,
    store: Path | None,
    resume: bool,
    output: Output,
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
    from edgeport.contracts import to_jsonable

    with output.progress() as on_progress:
        report = api.qat(
            recipe,
            output=folder,
            backend=backend,
            precision=precision,
            samples=samples_place(samples) if samples is not None else None,
            epochs=epochs,
            batch_size=batch_size,
            rate=rate,
            loss=loss,
            teacher=teacher,
            mixed=mixed,
            patience=patience,
            seed=seed,
            device=device,
            processes=processes,
            store=store,
            on_progress=on_progress,
            fresh=not resume,
        )
    output.show(lambda: to_jsonable(report), lambda console: draw_qat(console, report))
    return exit_code(report.outcome)
