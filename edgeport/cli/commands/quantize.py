"""`edgeport quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeport.cli.measuring_options import part_of, seconds_of
from edgeport.cli.options import FILE, PLACE, PRECISIONS, placement_option, raw_samples, samples_place
from edgeport.cli.output import Output, output_options
from edgeport.errors import UsageError

if TYPE_CHECKING:
    from edgeport.contracts import DataParallel, ModelParallel, Placement, SingleStream

__all__ = ["command"]


@click.command(name="quantize")
@click.argument("model", type=FILE)
@click.option("--calibration", type=FILE, help="From edgeport calibrate; int8 needs it, or --samples.")
@click.option("--backend", default="onnxruntime", show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="int8", show_default=True)
@click.option(
    "--method",
    help="Ranges: auto, average, entropy, global[:-6:6], measured, minmax, mse, percentile[:99.99], pow2 "
    "[default: measured on --samples, else minmax].",
)
@click.option(
    "--recover", multiple=True, metavar="METHOD", help="Bring accuracy back to int8: rounding, bias-correction."
)
@click.option("--samples", help="To calibrate with, to measure ranges, and for --recover: .npz or pkg.mod:fn.")
@click.option("--target", default="", help="Key in the .npz that is no input, but the labels.")
@raw_samples
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME=PRECISION",
    help="Another precision for a node, a pattern (*), a PyTorch module or an operator type; may be repeated.",
)
@click.option("--nodes", "nodes_file", type=FILE, help="Those of the first [[target]] in a .toml, as tune writes it.")
@click.option("--rest", help="Float precision of what is not integer [default: that of --nodes, or fp32].")
@click.option("--threads", type=click.IntRange(min=1), help="Inside one call [default: the runtime's own].")
@click.option(
    "--stages",
    type=click.IntRange(min=2),
    help="Cut it into stages that work on several calls at once, each on its own cores (ONNX Runtime).",
)
@click.option("--stage-processes", is_flag=True, help="With --stages: each in a process of its own, not in a thread.")
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    help="Run so many calls at once, each with --threads threads (ONNX Runtime, OpenVINO).",
)
@click.option("--spinning/--no-spinning", default=None, help="Idle threads spin (ONNX Runtime) [default: its own].")
@click.option("--affinity", metavar="0,1", help="Logical processors that it may use [default: all].")
@click.option("--huge-pages", is_flag=True, help="Memory goes into huge pages before the second call (Linux 6.1).")
@click.option(
    "--runtime-device",
    default="",
    help="Where the runtime computes, in its words: CUDA, GPU, HETERO:GPU,CPU [default: the CPU].",
)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Samples in one call.")
@click.option(
    "--batch-wait",
    metavar="2ms",
    help="Samples come one by one: gather up to --batch of them, the first waiting so long for others.",
)
@click.option(
    "--form",
    type=click.Choice(["onnx", "onnx-fused", "ort", "ort-device"]),
    default="onnx",
    show_default=True,
    help="For ONNX Runtime: fused where that is faster; or its own format, for every machine or for this one.",
)
@placement_option
@click.option("--for", "profile", metavar="PROFILE", help="A kind of device, of edgeport devices profiles.")
@click.option("-o", "--output", "folder", type=PLACE, default=Path("artifact"), show_default=True)
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    model: Path,
    calibration: Path | None,
    backend: str,
    precision: str,
    method: str | None,
    recover: tuple[str, ...],
    samples: str | None,
    target: str,
    preprocess: Path | None,
    nodes: tuple[str, ...],
    nodes_file: Path | None,
    rest: str | None,
    threads: int | None,
    stages: int | None,
    stage_processes: bool,
    streams: int | None,
    spinning: bool | None,
    affinity: str | None,
    huge_pages: bool,
    runtime_device: str,
    batch: int,
    batch_wait: str | None,
    form: str,
    require_placement: str | None,
    profile: str | None,
    folder: Path,
    output: Output,
) -> int:
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
    from edgeport.contracts import ExecutionConfig, to_jsonable

    listed, its_rest = _listed(nodes_file)
    chosen = _chosen(nodes)
    with output.progress() as on_progress:
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
            nodes={name: one for name, one in listed.items() if name not in chosen} | chosen,
            rest=rest or its_rest,
            execution=ExecutionConfig(
                threads=threads,
                affinity=_processors(affinity),
                spinning=spinning,
                batch=batch,
                huge_pages=huge_pages,
                layout=_layout(stages, streams, batch_wait, processes=stage_processes),
                runtime_device=runtime_device,
            ),
            require_placement=part_of(require_placement, "--require-placement"),
            profile=profile,
            form=form,
            on_progress=on_progress,
        )
    placement = _placement(folder)
    made = placement.source if placement is not None and form == "onnx-fused" else ""
    ran = placement is None or placement.ran
    output.show(
        lambda: to_jsonable(artifact), lambda console: draw_artifact(console, artifact, folder, made=made, ran=ran)
    )
    return 0


def _placement(folder: Path) -> Placement | None:
    """What became of the graph: whether it was fused, and why not; None where nothing tells."""
    from edgeport.contracts import Placement, load_json

    file = folder / "placement.json"
    return load_json(Placement, file.read_bytes()) if file.exists() else None


def _processors(text: str | None) -> tuple[int, ...]:
    """Of "0,1"; none where nothing is said."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(","))) if text else ()
    except ValueError:
        raise UsageError(
            asked=f"--affinity {text}", found="no list of numbers", fix="write --affinity 0,1, as in /proc/cpuinfo"
        ) from None


def _layout(
    stages: int | None, streams: int | None, batch_wait: str | None, *, processes: bool
) -> DataParallel | ModelParallel | SingleStream:
    from edgeport.contracts import DataParallel, ModelParallel, SingleStream

    if stages and (streams or batch_wait):
        raise UsageError(
            asked=f"run in {stages} stages and {streams or 1} streams",
            found="two layouts",
            fix="take --stages, or --streams: a stage works on one call",
        )
    if stages:
        return ModelParallel(stages=stages, processes=processes)
    if processes:
        raise UsageError(asked="run stages in processes", found="no stages", fix="give --stages 2 or more too")
    wait_s = seconds_of(batch_wait, "--batch-wait")
    if wait_s is not None:
        return DataParallel(streams=streams or 1, wait_ns=round(1e9 * wait_s))
    return DataParallel(streams=streams) if streams else SingleStream()


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
