"""Range methods: from what observers saw of a tensor to the range that is mapped to integers."""

from edgeport.calibration.ranges.automatic import choose
from edgeport.calibration.ranges.grid import Grid, Scheme, grid_of
from edgeport.calibration.ranges.methods import (
    MEASURED,
    Auto,
    Average,
    Entropy,
    FixedRange,
    LeastSquares,
    Measured,
    MinMax,
    OneRange,
    Percentile,
    PowerOfTwo,
    RangeMethod,
)
from edgeport.calibration.ranges.mse import cover_by_power_of_two
from edgeport.calibration.ranges.registry import (
    METHODS,
    describe,
    form_of,
    method_named,
    observers_of,
    range_of,
    resolve,
)

__all__ = [
    "MEASURED",
    "METHODS",
    "Auto",
    "Average",
    "Entropy",
    "FixedRange",
    "Grid",
    "LeastSquares",
    "Measured",
    "MinMax",
    "OneRange",
    "Percentile",
    "PowerOfTwo",
    "RangeMethod",
    "Scheme",
    "choose",
    "cover_by_power_of_two",
    "describe",
    "form_of",
    "grid_of",
    "method_named",
    "observers_of",
    "range_of",
    "resolve",
]
