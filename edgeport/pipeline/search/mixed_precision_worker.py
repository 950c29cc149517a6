"""Groups of nodes that int8 may leave in float, and what each costs in accuracy; in child processes.

Every function takes and returns JSON values; `edgeport.isolation.run_isolated` calls them by name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import (
    Mix,
    OnnxModel,
    OnProgress,
    ProgressEvent,
    QuantizationPlan,
    QuantizationRules,
    load_json,
    silent,
)
from edgeport.contracts import to_jsonable as plain
from edgeport.errors import PlanError, UnsupportedByBackend
from edgeport.pipeline.datasets.calibration_samples import load_few, open_in_steps

if TYPE_CHECKING:
    from edgeport.calibration.mixed_precision.groups import NodeGroup

__all__ = ["groups", "noises"]


def groups(payload: dict[str, Any]) -> dict[str, Any]:
    """The groups of the plan that `edgeport.pipeline.quantization.planning.plan_for` makes of the payload.

    Raises:
        PlanError: All integer nodes were chosen by name.

    """
    planned = _Planned.of(payload)
    found = planned.groups
    if not found:
        raise PlanError(
            asked=f"search the nodes of {planned.model.path.name} that are better left in float",
            found="that every integer node was given its precision by name",
            fix="leave some of [target.nodes] out, or the search",
        )
    return {"groups": [plain(group) for group in found]}


def noises(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Noise over signal of some groups, each alone as integers, on ONNX Runtime.

    Args:
        payload: As in `groups`; `wanted` (names of groups) and `few` (the folder of `take_few`).
        on_progress: Told of each group.

    Returns:
        `noise`: by name of the group; None for an infinite one.

    """
    from edgeport.backends.qdq.write import write_plan
    from edgeport.calibration.mixed_precision.sensitivity import noise_of_groups

    planned = _Planned.of(payload)
    wanted = [group for group in planned.groups if group.name in payload["wanted"]]
    batches = load_few(Path(payload["few"]))
    noise: dict[str, float | None] = {}
    on_progress(ProgressEvent(stage="tune", done=0, total=len(wanted)))

    def write(model: OnnxModel, plan: QuantizationPlan, path: Path) -> OnnxModel:
        return write_plan(model, plan, planned.rules, path)

    opened = partial(open_in_steps, state=planned.model.state)
    for name, one in noise_of_groups(planned.model, planned.plan, wanted, batches, opened, write):
        noise[name] = one if one != float("inf") else None
        on_progress(ProgressEvent(stage="tune", message=name, done=len(noise), total=len(wanted)))
    return {"noise": noise}


@dataclass(frozen=True, kw_only=True)
class _Planned:
    model: OnnxModel
    rules: QuantizationRules
    plan: QuantizationPlan
    groups: tuple[NodeGroup, ...]

    @classmethod
    def of(cls, payload: dict[str, Any]) -> _Planned:
        """The plan of a payload of `edgeport.pipeline.quantization.planning.plan_for`, in groups."""
        from edgeport.backends.registry import backend as backend_named
        from edgeport.calibration.graph import float_graph
        from edgeport.calibration.mixed_plan import chosen_precisions
        from edgeport.calibration.mixed_precision.groups import node_groups
        from edgeport.pipeline.quantization.planning import plan_for, plan_for_processor

        plan_for_processor(payload)
        model, backend = load_json(OnnxModel, json.dumps(payload["model"])), backend_named(payload["backend"])
        plan, rules = plan_for(model, backend, payload), backend.capabilities().rules
        if rules is None:
            raise UnsupportedByBackend(
                asked=f"search a plan for {payload['backend']}",
                found="a backend without quantization rules",
                fix="leave the search out for this target",
            )
        graph = float_graph(model)
        chosen = chosen_precisions(graph, load_json(Mix, json.dumps(payload["mix"])).nodes)
        return cls(model=model, rules=rules, plan=plan, groups=node_groups(graph, plan, frozenset(chosen)))
