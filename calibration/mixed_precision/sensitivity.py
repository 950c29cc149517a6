"""What a group of nodes costs in accuracy: the noise at the model's outputs where it alone runs as integers.

Each part is looked at by itself, as in HAWQ (Dong et al. 2019, https://arxiv.org/abs/1905.03696); but what is looked at
is the noise that really comes out, which needs no gradients, no labels and few samples.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeport.calibration.graph import float_graph
from edgeport.calibration.mixed_precision.groups import NodeGroup
from edgeport.contracts import Array, Arrays, OnnxModel, OpenModel, QuantizationPlan

__all__ = [
    "most_sensitive_first",
    "noise_of_groups",
    "noise_over_signal",
    "noises",
    "restricted_plan",
    "share_of",
    "signal_and_noise",
    "sqnr_db",
]

_LEAST, _MOST = 1e-15, 1e6
"""Of one call: less noise is none, and where the signal is all zero any noise is this much."""

_SILENT = 1e-15
"""Noise over signal that is the same as none: 150 dB."""


def restricted_plan(graph: ir.Graph, plan: QuantizationPlan, names: Collection[str]) -> QuantizationPlan:
    """The plan with these nodes alone as integers: every tensor that they read or write is rounded as in the whole.

    So a sum whose other operand would be float then is rounded all the same, and its noise is seen.

    Args:
        graph: Of the model.
        plan: Of the whole model.
        names: Of nodes in it.

    """
    nodes = [node for node in graph if node.name in names]
    touched = {value.name for node in nodes for value in (*node.inputs, *node.outputs) if value is not None}
    return QuantizationPlan(
        dialect=plan.dialect,
        model_digest=plan.model_digest,
        nodes={name: precision for name, precision in plan.nodes.items() if name in names},
        activations={name: spec for name, spec in plan.activations.items() if name in touched},
        weights={name: spec for name, spec in plan.weights.items() if name in touched},
        found_by=plan.found_by,
        data_free=plan.data_free,
    )


def noise_of_groups(
    model: OnnxModel,
    plan: QuantizationPlan,
    groups: Sequence[NodeGroup],
    batches: Sequence[Arrays],
    open_model: OpenModel,
    write: Callable[[OnnxModel, QuantizationPlan, Path], OnnxModel],
) -> Iterator[tuple[str, float]]:
    """Name and noise of each group, one after the other.

    Args:
        model: Float.
        plan: Of the whole model.
        groups: Of the plan's nodes.
        batches: Feeds by input name.
        open_model: Opens an ONNX file with some runtime.
        write: The dialect's writer.

    Yields:
        The name, and the noise over the signal, 0 or more, at the output where it is largest; infinite where something
        was finite and is no longer.

    """
    graph = float_graph(model)
    with open_model(model.path) as run:
        reference = [run(feeds) for feeds in batches]
    for group in groups:
        with tempfile.TemporaryDirectory(prefix="edgeport-noise-") as folder:
            alone = restricted_plan(graph, plan, frozenset(group.nodes))
            written = write(model, alone, Path(folder) / model.path.name)
            with open_model(written.path) as run:
                yield group.name, noise_over_signal(reference, (run(feeds) for feeds in batches))


def noise_over_signal(reference: Sequence[Arrays], outputs: Iterator[Arrays]) -> float:
    """Power of the error over that of the reference, at the output where that is largest; see `noise_of_groups`.

    Args:
        reference: Outputs of each call.
        outputs: Of the same calls, from another model.

    """
    return noises(reference, outputs)[0]


def noises(reference: Sequence[Arrays], outputs: Iterable[Arrays]) -> tuple[float, float]:
    """Noise over signal in all, and of a typical call (the geometric mean over the calls), each at its worst output.

    Args:
        reference: Outputs of each call.
        outputs: Of the same calls, from another model; looked at one after the other, and not kept.

    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    logs: dict[str, list[float]] = {}
    for theirs, mine in zip(reference, outputs, strict=True):
        for name, array in theirs.items():
            strength, error = signal_and_noise(array, mine[name])
            signal[name] = signal.get(name, 0.0) + strength
            noise[name] = noise.get(name, 0.0) + error
            logs.setdefault(name, []).append(math.log(min(max(share_of(error, strength), _LEAST), _MOST)))
    means = [math.exp(sum(each) / len(each)) for each in logs.values()]
    return max((share_of(noise[name], signal[name]) for name in signal), default=0.0), max(means, default=0.0)


def signal_and_noise(true: Array, other: Array) -> tuple[float, float]:
    """Signal and noise, as sums of squares over what is finite in the reference; values that differ where no floats.

    Args:
        true: Of the reference, any shape.
        other: Of the same shape, or the noise is infinite.

    """
    if true.shape != other.shape:
        return 1.0, math.inf
    if true.dtype.kind != "f":
        return float(true.size), float((true != other).sum())
    finite = np.isfinite(true)
    wanted = true[finite].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = float(np.square(other[finite].astype(np.float64) - wanted).sum())
    return float(np.square(wanted).sum()), error if math.isfinite(error) else math.inf


def share_of(noise: float, signal: float) -> float:
    """Noise over signal; infinite where there is noise alone."""
    if noise == 0:
        return 0.0
    return noise / signal if signal > 0 else math.inf


def most_sensitive_first(groups: Sequence[NodeGroup], noise: Mapping[str, float]) -> tuple[str, ...]:
    """Names of the groups, those with the most noise first; equal ones, and those without a number, in their order."""
    return tuple(
        group.name for group in sorted(groups, key=lambda group: -noise.get(group.name, 0.0))
    )  # `sorted` keeps the order of equals


def sqnr_db(noise: float) -> float:
    """Signal to quantization noise ratio in dB, at most 150."""
    if math.isinf(noise):
        return -math.inf
    return -10 * math.log10(max(noise, _SILENT))
