"""Learned rounding of one layer's weights: up or down, whichever keeps the layer's outputs. numpy only.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (2020), section 3: a weight w of step s
becomes s * (floor(w / s) + h(V)), h a sigmoid stretched to -0.1..1.1 and cut to 0..1 (equation 23), and V is learned by
Adam so that outputs behind the activation stay near the float ones (equation 25), while a regularizer drives h to 0 or
1 (equation 24). Here the error is counted in units of what rounding to nearest costs, so that one weight of the
regularizer suits layers of any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RoundedLayer", "learn_rounding", "nearest", "reconstruction_error"]

Floats = NDArray[np.float32]

_BATCH = 256
"""Columns in a step."""
_RATE = 0.05
_REGULARIZER = 15.0
_WARM_UP = 0.2
"""Part of the steps before the regularizer begins, as in the authors' settings."""
_BETA = (20.0, 2.0)
"""Exponent of the regularizer, from the first step with it to the last."""
_STRETCH, _SHIFT = 1.2, -0.1
_DECAY, _DECAY_SQUARED, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True)
class RoundedLayer:
    """What a layer computes on some columns of its input, in groups [G].

    Attributes:
        weight: In steps, float32 [G, M, K]: w / s.
        step: float32 [G, M].
        bias: float32 [G, M].
        inputs: As the quantized model gives them, float32 [G, K, N], in random order.
        outputs: Of the float model, on its own inputs, float32 [G, M, N].
        limit: Largest integer; the smallest is minus that.
        relu: Outputs are compared behind a Relu.

    """

    weight: Floats
    step: Floats
    bias: Floats
    inputs: Floats
    outputs: Floats
    limit: int
    relu: bool = False


def nearest(layer: RoundedLayer) -> Floats:
    """The integers [G, M, K] that rounding to nearest gives."""
    return np.clip(np.rint(layer.weight), -layer.limit, layer.limit).astype(np.float32)


def reconstruction_error(layer: RoundedLayer, integers: Floats) -> float:
    """Mean squared difference of the outputs."""
    difference = _outputs(layer, integers, layer.inputs) - _seen(layer, layer.outputs)
    return float(np.square(difference, dtype=np.float64).mean())


def learn_rounding(layer: RoundedLayer, *, steps: int) -> Floats:
    """Integers [G, M, K], each the one below or above its weight; equal arguments give equal ones.

    What lies at the largest integer stays there: it is what the step was made from.

    Args:
        layer: What is rounded.
        steps: Of Adam; some 50 are what it takes to get from one integer to the other.

    """
    below = np.floor(layer.weight)
    kept = np.abs(layer.weight) >= layer.limit - 0.5
    unit = max(reconstruction_error(layer, nearest(layer)), float(np.finfo(np.float32).tiny))
    learned = _inverse(layer.weight - below)
    first, second = np.zeros_like(learned), np.zeros_like(learned)
    count = layer.inputs.shape[-1]
    warm = int(_WARM_UP * steps)
    for step in range(1, steps + 1):
        start = step * _BATCH % max(count - _BATCH + 1, 1)
        columns = slice(start, start + _BATCH)
        up, slope = _rectified(learned)
        gradient = _gradient(layer, below + up, columns) * (slope / np.float32(unit))
        if step > warm:
            progress = (step - warm) / max(steps - warm, 1)
            beta = _BETA[1] + 0.5 * (_BETA[0] - _BETA[1]) * (1.0 + math.cos(math.pi * progress))
            gradient += np.float32(_REGULARIZER / learned.size) * _pull(up, beta) * slope
        first += np.float32(1 - _DECAY) * (gradient - first)
        second += np.float32(1 - _DECAY_SQUARED) * (np.square(gradient) - second)
        rate = _RATE * np.sqrt(1 - _DECAY_SQUARED**step) / (1 - _DECAY**step)
        learned -= np.float32(rate) * first / (np.sqrt(second) + np.float32(_EPSILON / learned.size))
    integers = np.where(kept, np.rint(layer.weight), below + (_rectified(learned)[0] >= 0.5))
    return np.clip(integers, -layer.limit, layer.limit).astype(np.float32)


def _gradient(layer: RoundedLayer, weight: Floats, columns: slice) -> Floats:
    """Of the mean squared difference on these columns, by the weight in steps, [G, M, K]."""
    inputs = layer.inputs[..., columns]
    sums = _sums(layer, weight, inputs)
    difference = _seen(layer, sums) - _seen(layer, layer.outputs[..., columns])
    if layer.relu:
        difference *= sums > 0
    difference *= np.float32(2.0 / difference.size) * layer.step[..., None]
    gradient: Floats = np.matmul(difference, inputs.swapaxes(1, 2))
    return gradient


def _sums(layer: RoundedLayer, weight: Floats, inputs: Floats) -> Floats:
    result: Floats = np.matmul(weight, inputs) * layer.step[..., None] + layer.bias[..., None]
    return result


def _outputs(layer: RoundedLayer, weight: Floats, inputs: Floats) -> Floats:
    return _seen(layer, _sums(layer, weight, inputs))


def _seen(layer: RoundedLayer, sums: Floats) -> Floats:
    return np.maximum(sums, np.float32(0)) if layer.relu else sums


def _rectified(learned: Floats) -> tuple[Floats, Floats]:
    """The h of `learned`, 0..1, and its slope; 0 where it is cut."""
    sigmoid = 1 / (1 + np.exp(-learned))
    stretched = sigmoid * np.float32(_STRETCH) + np.float32(_SHIFT)
    inside = (stretched > 0) & (stretched < 1)
    return np.clip(stretched, 0, 1), np.where(inside, np.float32(_STRETCH) * sigmoid * (1 - sigmoid), np.float32(0))


def _inverse(part: Floats) -> Floats:
    """What `_rectified` makes `part` of."""
    learned: Floats = -np.log(np.float32(_STRETCH) / (part - np.float32(_SHIFT)) - 1)
    return learned


def _pull(up: Floats, beta: float) -> Floats:
    """Slope of 1 - |2 h - 1|**beta by h."""
    centred = 2 * up - 1
    return (-2 * beta * np.sign(centred) * np.abs(centred) ** (beta - 1)).astype(np.float32)
