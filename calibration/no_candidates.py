"""The refusal of a model in which nothing can be quantized: what integers would begin at, and why they don't there."""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx_ir as ir

from edgeport.calibration.graph import is_default_domain
from edgeport.contracts import OnnxModel, QuantizationRules
from edgeport.errors import PlanError

__all__ = ["nothing_to_quantize"]


def nothing_to_quantize(
    model: OnnxModel,
    graph: ir.Graph,
    rules: QuantizationRules,
    begins: Collection[str],
    why_not: Callable[[ir.Node], str],
) -> PlanError:
    """The error.

    Args:
        model: For its name.
        graph: Of it.
        rules: The dialect.
        begins: Operator types at which integers begin; all others follow their inputs.
        why_not: Of a node of such a type, what keeps it in float ("has no constant weight").

    """
    present = sorted({node.op_type for node in graph})
    able = [node for node in graph if node.op_type in begins and is_default_domain(node)]
    if able:
        others = f" (and {len(able) - 1} more like it)" if len(able) > 1 else ""
        found = f"{able[0].op_type} {able[0].name!r}{others} {why_not(able[0])}"
    else:
        following = [name for name in present if name in rules.operators and name not in begins]
        behind = f"; {', '.join(following)} would be integers only behind one of these" if following else ""
        found = (
            f"integers begin at {', '.join(begins)}, and the model has {', '.join(present) or 'no operator'}{behind}"
        )
    return PlanError(
        asked=f"plan {model.path.name} in int8 for {rules.dialect}",
        found=f"no node to quantize: {found}",
        fix="run the model in a float precision",
    )
