"""Names of recovery methods, as single steps are asked for them."""

from __future__ import annotations

from collections.abc import Sequence

from edgeport.contracts import Precision
from edgeport.errors import UsageError

__all__ = ["named_after_plan", "named_before_calibration"]


def named_before_calibration(recover: Sequence[str]) -> list[str]:
    """Names of the methods that make the model which is calibrated.

    Raises:
        CalibrationError: No such method.
        UsageError: One fits a model to a plan.

    """
    from edgeport.calibration.recovery import after_plan, describe, recoveries_named

    methods = recoveries_named(recover)
    if late := after_plan(methods):
        raise UsageError(
            asked=f"calibrate with {describe(late[0])}",
            found="a method that fits a model to the plan of one target",
            fix=f"calibrate without it, then edgeport quantize --recover {describe(late[0])} --samples ...",
        )
    return [describe(method) for method in methods]


def named_after_plan(recover: Sequence[str], precision: str, *, given: bool) -> list[str]:
    """Names of the methods that fit a model to its plan.

    Args:
        recover: As asked for.
        precision: That is compiled.
        given: There are samples.

    Raises:
        CalibrationError: No such method.
        UsageError: They are for static int8, need samples, or one is for the calibration.

    """
    from edgeport.calibration.recovery import before_calibration, describe, recoveries_named

    methods = recoveries_named(recover)
    if not methods:
        return []
    asked = f"recover accuracy by {', '.join(map(describe, methods))}"
    if early := before_calibration(methods):
        raise UsageError(
            asked=asked,
            found=f"{describe(early[0])}, which makes the model that is calibrated",
            fix=f"edgeport calibrate --recover {describe(early[0])}, then quantize the model that it writes",
        )
    if precision != Precision.INT8:
        raise UsageError(asked=asked, found=f"precision {precision}", fix="leave it out, or compile static int8")
    if not given:
        raise UsageError(
            asked=asked, found="no samples", fix="give samples (--samples), such as those of the calibration"
        )
    return [describe(method) for method in methods]
