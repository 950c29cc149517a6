"""Sample sets, and checks of them before anything is calibrated or judged with them."""

from edgeport.calibration.data.arranged import Arranged, Arrangement
from edgeport.calibration.data.arrays import ArraySamples
from edgeport.calibration.data.check import Lint, check_disjoint, check_samples
from edgeport.calibration.data.function import FunctionSamples
from edgeport.calibration.data.npz import NpzSamples
from edgeport.calibration.data.preprocessed import Preprocessed
from edgeport.calibration.data.rebatch import Rebatched, Subset, rebatch, subset
from edgeport.calibration.data.spooled import Spooled

__all__ = [
    "Arranged",
    "Arrangement",
    "ArraySamples",
    "FunctionSamples",
    "Lint",
    "NpzSamples",
    "Preprocessed",
    "Rebatched",
    "Spooled",
    "Subset",
    "check_disjoint",
    "check_samples",
    "rebatch",
    "subset",
]
