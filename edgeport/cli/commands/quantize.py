"""`edgeport quantize`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import FILE, PLACE, PRECISIONS, raw_samples, samples_place
from edgeport.cli.output import Output, output_options
from edgeport.errors import UsageError

__all__ = ["command"]


@click.command(name="quantize")
@click.argument("model", type=FILE)
@click.option("--calibration", type=FILE, help="From edgeport calibrate; needed for int8.")
@click.option("--backend", default="onnxruntime", show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="int8", show_default=True)
@click.option(
    "--method",
    default="minmax",
    show_default=True,
    help="Ranges: auto, average, entropy, global[:-6:6], minmax, mse, percentile[:99.99], pow2.",
)
@click.option(
    "--recover", multiple=True, metavar="METHOD", help="Bring accuracy back to int8: rounding, bias-correction."
)
@click.option("--samples", help="For --recover: .npz or pkg.mod:fn, such as those of the calibration.")
@click.option("--target", default="", help="Key in the .npz that is no input, but the labels.")
@raw_samples
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME=PRECISION",
    help="Another precision for a node, a pattern (*), a PyTorch module or an operator type; may be repeated.",
)
@click.option("--rest", default="fp32", show_default=True, help="Float precision of what is not integer.")
@click.option("--threads", type=click.IntRange(min=1), help="Inside one call [default: the runtime's own].")
@click.option("-o", "--output", "folder", type=PLACE, default=Path("artifact"), show_default=True)
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    model: Path,
    calibration: Path | None,
    backend: str,
    precision: str,
    method: str,
    recover: tuple[str, ...],
    samples: str | None,
    target: str,
    preprocess: Path | None,
    nodes: tuple[str, ...],
    rest: str,
    threads: int | None,
    folder: Path,
    output: Output,
) -> int:
    """MODEL (.onnx) to the artifact of one runtime in one precision.

    Writes OUTPUT/artifact.json and the artifact's files beside it. It is not measured: see edgeport bench and run.

    \b
    Example:
      edgeport quantize net.onnx --calibration net.calibration.safetensors --backend openvino -o net-int8
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_steps import draw_artifact
    from edgeport.contracts import ExecutionConfig, to_jsonable

    artifact = api.quantize(
        model,
        calibration,
        backend=backend,
        precision=precision,
        method=method,
        recover=recover,
        samples=samples_place(samples) if samples is not None else None,
        target=target,
        preprocess=preprocess,
        output=folder,
        nodes=_chosen(nodes),
        rest=rest,
        execution=ExecutionConfig(threads=threads),
    )
    output.show(lambda: to_jsonable(artifact), lambda console: draw_artifact(console, artifact, folder))
    return 0


def _chosen(nodes: tuple[str, ...]) -> dict[str, str]:
    """Name to precision; the last `=` parts them, for a node's name may hold one."""
    chosen: dict[str, str] = {}
    for text in nodes:
        name, equals, precision = text.rpartition("=")
        if not equals or not name:
            raise UsageError(asked=f"--node {text}", found="no NAME=PRECISION", fix="write --node encoder.layer.0=fp32")
        chosen.pop(name, None)
        chosen[name] = precision
    return chosen
