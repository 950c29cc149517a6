"""Whether a plan was made for this very model; loads nothing heavy."""

from __future__ import annotations

from edgeport.contracts import OnnxModel, QuantizationPlan
from edgeport.errors import PlanError

__all__ = ["check_fits"]


def check_fits(model: OnnxModel, plan: QuantizationPlan) -> None:
    """Refuses the plan of another model; its names may fit by chance, its ranges do not.

    Raises:
        PlanError: The digests differ.

    """
    if plan.model_digest != model.digest:
        raise PlanError(
            asked=f"compile {model.path.name} ({model.digest[:12]})",
            found=f"a plan for a model of digest {plan.model_digest[:12]}",
            fix="calibrate and plan again with this very file",
        )
