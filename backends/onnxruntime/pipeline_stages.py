"""A compiled model in stages: nodes timed here, cut, and written as the files of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeport.backends.onnxruntime.profiler import example_feeds, measure_costs, whole_ns
from edgeport.backends.stages import cut_graph, write_stages
from edgeport.contracts import Arrays, ExecutionConfig, ModelParallel, OnnxModel
from edgeport.errors import UnsupportedByBackend
from edgeport.onnx_files import read_ir

__all__ = ["write_pipeline"]


def write_pipeline(
    path: Path,
    model: OnnxModel,
    execution: ExecutionConfig,
    settings: Mapping[str, object],
    places: Sequence[Mapping[str, object]] = ({},),
) -> dict[str, object]:
    """Puts the stages in the place of the compiled file, and says how a session opens them.

    Stages are balanced by what nodes take on this machine's CPU, with one thread where the execution says nothing else;
    where they run in different places, times what the whole takes there beside what it takes on the CPU.

    Args:
        path: The file as it would run whole; it is removed.
        model: That it was made of.
        execution: With a `ModelParallel` layout.
        settings: Of the whole's session.
        places: Execution providers of all stages, or of each one.

    Raises:
        UnsupportedByBackend: A model with state, whose next call needs the last one's result, or whose nodes can't be
            timed.
        ModelError: It can't be cut into so many stages.
        BackendError: The runtime refused the file.

    """
    layout = execution.layout
    if not isinstance(layout, ModelParallel) or model.state:
        raise UnsupportedByBackend(
            asked=f"run {model.path.name} in stages",
            found="a model with state: a call can't begin before the last one has ended",
            fix="leave the layout at single-stream",
        )
    own = {name: value for name, value in settings.items() if name != "affinity"}
    feeds = example_feeds(model, execution.batch)
    costs = measure_costs(path, feeds, {"threads": 1, **own})
    axes = {spec.shape[0]: execution.batch for spec in model.inputs if spec.shape and isinstance(spec.shape[0], str)}
    given = {name: array.nbytes for name, array in feeds.items()}
    graph = read_ir(path)
    costs = replace(costs, axes=axes, size_bytes={**costs.size_bytes, **given})
    cut = cut_graph(graph, costs, layout.stages, slowness=_slowness(path, feeds, {"threads": 1, **own}, places))
    stages = [{**own, "entry": stage.path.name} for stage in write_stages(graph, cut, path.parent)]
    for file in (path, *path.parent.glob(f"{path.name}.*.data")):
        file.unlink()
    for stage, cores in zip(stages, _cores(layout, execution), strict=True):
        if cores:
            stage["affinity"] = list(cores)
    for index, stage in enumerate(stages):
        stage.update(places[index % len(places)])
    apart = {"processes": True} if layout.processes else {}
    return {"stages": stages, "outputs": [spec.name for spec in model.outputs], **apart}


def _slowness(
    path: Path, feeds: Arrays, settings: Mapping[str, object], places: Sequence[Mapping[str, object]]
) -> tuple[float, ...]:
    """How many times as long as on the CPU the whole takes in each place; nothing where all are the same."""
    if all(place == places[0] for place in places):
        return ()
    here = whole_ns(path, feeds, settings)
    return tuple(whole_ns(path, feeds, {**settings, **place}) / here if place else 1.0 for place in places)


def _cores(layout: ModelParallel, execution: ExecutionConfig) -> tuple[tuple[int, ...], ...]:
    """Of each stage; of an affinity of the whole, equal parts. None where the device shares them out."""
    if layout.cores:
        return layout.cores
    count, all_ = layout.stages, sorted(set(execution.affinity))
    if len(all_) < count:
        return ((),) * count
    return tuple(tuple(all_[stage * len(all_) // count : (stage + 1) * len(all_) // count]) for stage in range(count))
