"""`edgeport quantize`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeport.cli.options import FILE, options_of, output_option
from edgeport.cli.output import Output, output_options
from edgeport.errors import UsageError
from edgeport.options.declare import option
from edgeport.options.execution import ExecutionOptions
from edgeport.options.quantize import QuantizeOptions

if TYPE_CHECKING:
    from edgeport.contracts import DataParallel, ExecutionConfig, ModelParallel, Placement, SingleStream

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _Options(QuantizeOptions, ExecutionOptions):
    """With what only the command line has.

    Attributes:
        nodes_file: Nodes and `rest` of its first target, where they are not named here.
        rest: Empty for that of the file.

    """

    nodes_file: Path | None = option(
        None, "Those of the first [[target]] in a .toml, as tune writes it.", flag="--nodes"
    )
    rest: str = option("", "Float precision of what is not integer [default: that of --nodes, or fp32].")


@click.command(name="quantize")
@click.argument("model", type=FILE)
@click.option("--calibration", type=FILE, help="From edgeport calibrate; int8 needs it, or --samples.")
@options_of(
    _Options,
    "backend precision method recover samples target preprocess nodes nodes_file rest threads stages stage_processes "
    "streams spinning affinity huge_pages runtime_device batch batch_wait_s form require_placement profile",
)
@output_option("artifact")
@output_options
def command(*, model: Path, calibration: Path | None, options: _Options, place: Path, output: Output) -> int:
    """MODEL (.onnx) to the artifact of one runtime in one precision.

    Ends with 3, and writes nothing, where less than --require-placement of the planned nodes runs as planned.
    Writes OUTPUT/artifact.json and the artifact's files beside it. It is not measured: see edgeport bench and run.
    With --samples alone it is calibrated on the way; for several targets, edgeport calibrate does that once.

    \b
    Examples:
      edgeport quantize net.onnx --samples samples.npz -o net-int8
      edgeport quantize net.onnx --calibration net.calibration.safetensors --backend openvino -o net-openvino
      edgeport quantize net.onnx --precision int8-dynamic --for raspberry-pi-5 -o net-pi5
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_steps import draw_artifact
    from edgeport.contracts import to_jsonable

    listed, its_rest = _listed(options.nodes_file)
    nodes = {name: one for name, one in listed.items() if name not in options.nodes} | dict(options.nodes)
    with output.progress() as on_progress:
        artifact = api.quantize(
            model,
            calibration,
            output=place,
            options=replace(options, nodes=nodes, rest=options.rest or its_rest),
            execution=_execution(options),
            on_progress=on_progress,
        )
    placement = _placement(place)
    made = placement.source if placement is not None and options.form == "onnx-fused" else ""
    ran = placement is None or placement.ran
    output.show(
        lambda: to_jsonable(artifact), lambda console: draw_artifact(console, artifact, place, made=made, ran=ran)
    )
    return 0


def _placement(folder: Path) -> Placement | None:
    """What became of the graph: whether it was fused, and why not; None where nothing tells."""
    from edgeport.contracts import Placement, load_json

    file = folder / "placement.json"
    return load_json(Placement, file.read_bytes()) if file.exists() else None


def _execution(options: ExecutionOptions) -> ExecutionConfig:
    from edgeport.contracts import ExecutionConfig

    return ExecutionConfig(
        threads=options.threads,
        affinity=options.affinity,
        spinning=options.spinning,
        batch=options.batch,
        huge_pages=options.huge_pages,
        layout=_layout(options),
        runtime_device=options.runtime_device,
    )


def _layout(options: ExecutionOptions) -> DataParallel | ModelParallel | SingleStream:
    from edgeport.contracts import DataParallel, ModelParallel, SingleStream

    stages, streams, wait_s = options.stages, options.streams, options.batch_wait_s
    if stages and (streams or wait_s):
        raise UsageError(
            asked=f"run in {stages} stages and {streams or 1} streams",
            found="two layouts",
            fix="take --stages, or --streams: a stage works on one call",
        )
    if stages:
        return ModelParallel(stages=stages, processes=options.stage_processes)
    if options.stage_processes:
        raise UsageError(asked="run stages in processes", found="no stages", fix="give --stages 2 or more too")
    if wait_s is not None:
        return DataParallel(streams=streams or 1, wait_ns=round(1e9 * wait_s))
    return DataParallel(streams=streams) if streams else SingleStream()


def _listed(file: Path | None) -> tuple[dict[str, str], str]:
    """Name to precision, and the float of all others, of the first target in a recipe or in what `tune` wrote."""
    if file is None:
        return {}, "fp32"
    import tomllib

    wrong = UsageError(
        asked=f"--nodes {file}",
        found="no [[target]] with [target.nodes] of names and precisions",
        fix="give the nodes.toml that edgeport tune wrote, or a recipe",
    )
    try:
        target = tomllib.loads(file.read_text(encoding="utf-8"))["target"][0]
        nodes, rest = target.get("nodes", {}), target.get("rest", "fp32")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        raise wrong from error
    if not isinstance(nodes, dict) or not all(isinstance(text, str) for text in (rest, *nodes.values())):
        raise wrong
    return nodes, rest
