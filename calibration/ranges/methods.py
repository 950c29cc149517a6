"""The range methods: what a recipe or a caller chooses. What each computes is in the files beside this one.

Weights have ranges of their own, read from the weight itself and one per channel where a runtime's rules allow that;
these methods are for activations, which no runtime here takes per channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeport.errors import CalibrationError

__all__ = [
    "MEASURED",
    "Auto",
    "Average",
    "Entropy",
    "FixedRange",
    "LeastSquares",
    "Measured",
    "MinMax",
    "OneRange",
    "Percentile",
    "PowerOfTwo",
    "RangeMethod",
]


@dataclass(frozen=True)
class MinMax:
    """From the smallest to the largest value seen: nothing is clipped, one outlier costs everyone resolution."""


@dataclass(frozen=True)
class Average:
    """From the mean of the samples' minima to the mean of their maxima: an outlier in one of n samples counts 1/n.

    What is usually called moving average (Jacob et al. 2018, section 3.1, and the `MovingAverageMinMaxObserver` of
    PyTorch) decays over batches, so it depends on the order of the samples and on the batch size. The plain mean over
    samples does not, and can be merged; with equal weights it is the limit of a decay of 1/n.
    """


@dataclass(frozen=True)
class Percentile:
    """Cuts `100 - percentile` percent of the values off at each end.

    Follows the percentile calibration of Wu et al., "Integer Quantization for Deep Learning Inference" (2020),
    section 5.2, there on magnitudes; here each end has its own.

    Attributes:
        percentile: Above 50, at most 100 (which is min-max).

    """

    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not 50.0 < self.percentile <= 100.0:
            raise CalibrationError(
                asked=f"take the {self.percentile} percentile as range",
                found="a number outside 50..100",
                fix="give a percentile above 50 and at most 100, such as 99.99",
            )


@dataclass(frozen=True)
class Entropy:
    """The threshold that loses least information: the least Kullback-Leibler divergence of the integers' distribution.

    S. Migacz, "8-bit Inference with TensorRT" (GPU Technology Conference 2017).
    """


@dataclass(frozen=True)
class LeastSquares:
    """The range with the least mean squared error, rounding and clipping together, on the histogram.

    Sung et al., "Resiliency of Deep Neural Networks under Quantization" (2015); here both ends are searched.
    """


@dataclass(frozen=True)
class PowerOfTwo:
    """Steps that are powers of two, so that hardware shifts instead of multiplying; the one of least squared error.

    Nothing says that it covers all values: one power less clips some and halves the step. Weights get the power of two
    that covers them. Compare Jain et al., "Trained Quantization Thresholds for Accurate and Efficient Fixed-Point
    Inference of Deep Neural Networks" (2020).
    """


@dataclass(frozen=True)
class FixedRange:
    """One given range for every activation of the model.

    Attributes:
        minimum, maximum: The range; it holds zero.

    """

    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        finite = math.isfinite(self.minimum) and math.isfinite(self.maximum)
        if not (finite and self.minimum <= 0.0 <= self.maximum and self.minimum < self.maximum):
            raise CalibrationError(
                asked=f"give every activation the range {self.minimum}..{self.maximum}",
                found="a range that does not hold zero, or is empty or not finite",
                fix="give a minimum of 0 or less and a maximum of 0 or more, such as global:-6:6",
            )


@dataclass(frozen=True)
class OneRange:
    """One range for every activation of the model, found: from the smallest to the largest value of all of them."""


@dataclass(frozen=True)
class Auto:
    """Per tensor the method whose range does its readers least harm, and clips nothing that every sample reaches.

    See `automatic.py`.
    """


@dataclass(frozen=True)
class Measured:
    """Of `MEASURED` the one whose integers come nearest the float model's outputs on a few calibration samples.

    It takes samples, so the statistics alone are not enough: `edgeport.calibration.range_method_search` finds the
    method, and that one makes the plan.
    """


MEASURED = (MinMax(), Auto(), Percentile(99.99), Entropy())
"""What `Measured` measures: no one of them is the best for every model."""

RangeMethod = (
    MinMax | Average | Percentile | Entropy | LeastSquares | PowerOfTwo | FixedRange | OneRange | Auto | Measured
)
"""What `range_of` takes; grows with `METHODS`."""
