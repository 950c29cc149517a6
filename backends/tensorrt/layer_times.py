"""What each layer of an engine takes, on its GPU: TensorRT's own profiler, with the inspector's word on the layer.

https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/optimization.html
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from edgeport.backends.artifacts import check_artifact
from edgeport.backends.tensorrt.capabilities import capabilities_here, device_of
from edgeport.backends.tensorrt.placement import placement_of_engine
from edgeport.backends.tensorrt.session import profile_engine
from edgeport.contracts import Arrays, Artifact, NodePlacement
from edgeport.errors import BackendError, UnsupportedByBackend

__all__ = ["LayerTime", "layer_times"]


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """One layer of an engine.

    Attributes:
        layer: Its name, the ONNX nodes in it, and what it computes in.
        time_ns: Median over the calls.
        share: Of the sum over all layers, 0..1.

    """

    layer: NodePlacement
    time_ns: int
    share: float


def layer_times(artifact: Artifact, feeds: Arrays, *, calls: int = 20) -> tuple[LayerTime, ...]:
    """The layers, the slowest first; run where the engine's GPU is.

    The profiler waits between layers, so that their sum is more than a call takes.

    Args:
        artifact: That the TensorRT backend compiled.
        feeds: Arrays by input name; of one call.
        calls: Timed, after two that are not.

    Raises:
        UnsupportedByBackend: Nothing here can run it.
        BackendError: The folder changed after it was compiled, or TensorRT refused the engine or the feeds.

    """
    entry = check_artifact(artifact)
    here = capabilities_here(device_of(artifact))
    if not here.can_run:
        raise UnsupportedByBackend(
            asked="time the layers of a TensorRT engine", found=here.reason, fix="run it where a supported GPU is"
        )
    try:
        told, times = profile_engine(str(entry), artifact.settings, feeds, calls)
    except (RuntimeError, ImportError, ValueError) as error:
        raise BackendError(
            asked="time the layers of a TensorRT engine",
            found=str(error),
            fix="compile it again here, and feed what it takes",
        ) from error
    known = {layer.name: layer for layer in placement_of_engine(told).nodes}
    medians = {name: round(statistics.median(of)) for name, of in times.items()}
    whole = sum(medians.values()) or 1
    return tuple(
        LayerTime(layer=known.get(name) or _unknown(name), time_ns=time_ns, share=time_ns / whole)
        for name, time_ns in sorted(medians.items(), key=lambda item: -item[1])
    )


def _unknown(name: str) -> NodePlacement:
    """A copy or a change of format that the inspector does not list."""
    return NodePlacement(name=name, operator="layer", device="GPU", precision="", origin=(name,))
