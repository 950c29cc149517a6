"""What brings back accuracy that integers cost: methods that change a model's constants before it is quantized.

Each is chosen by itself (`methods.py`); none is on unless it is asked for. Nothing heavy is imported here.
"""

from edgeport.calibration.recovery.methods import (
    RECOVERIES,
    BiasCorrection,
    Equalization,
    Recovery,
    Rounding,
    Smoothing,
    after_plan,
    before_calibration,
    describe,
    recoveries_named,
)

__all__ = [
    "RECOVERIES",
    "BiasCorrection",
    "Equalization",
    "Recovery",
    "Rounding",
    "Smoothing",
    "after_plan",
    "before_calibration",
    "describe",
    "recoveries_named",
]
