"""Whether a backend can do what it is asked to compile; asked before anything is written."""

from __future__ import annotations

from edgeport.backends.qdq.model_match import check_fits
from edgeport.contracts import Capabilities, ExecutionConfig, OnnxModel, QuantizationPlan
from edgeport.errors import PlanError, UnsupportedByBackend

__all__ = ["check_opset", "check_request"]


def check_request(
    model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig, known: Capabilities, *, name: str
) -> None:
    """Raises where the plan or the execution is not for this backend on this machine.

    Args:
        model: What to compile.
        plan: How.
        execution: How it will be run.
        known: What the backend says of itself, its dialect among it.
        name: Of the backend, in sentences.

    Raises:
        PlanError: A plan for another model or dialect.
        UnsupportedByBackend: A precision, a layout or an opset that the backend has not.

    """
    check_fits(model, plan)
    check_opset(model, known.highest_opset, name=name)
    if not plan.precision.is_float and (known.rules is None or plan.dialect != known.rules.dialect):
        raise PlanError(
            asked=f"compile {model.path.name} for {name}",
            found=f"a plan in the dialect {plan.dialect!r}; it takes "
            + (repr(known.rules.dialect) if known.rules else "no integer plans"),
            fix="plan again with the rules of this backend; ranges differ between dialects",
        )
    for precision in sorted({plan.default, *plan.nodes.values()}):
        support = known.precisions[precision]
        if not support.available:
            raise UnsupportedByBackend(
                asked=f"compile {model.path.name} in {precision} for {name}",
                found=support.reason,
                fix="ask for a precision that `edgeport doctor` lists for this machine",
            )
    if execution.layout.kind not in known.layouts:
        raise UnsupportedByBackend(
            asked=f"compile {model.path.name} for {execution.layout.kind} execution on {name}",
            found=f"that this backend runs {' and '.join(known.layouts)} alone",
            fix="take one of these, or another backend; edgeport doctor lists them",
        )


def check_opset(model: OnnxModel, highest: int | None, *, name: str) -> None:
    """Raises where the file is newer than the runtime.

    Raises:
        UnsupportedByBackend: It is.

    """
    if highest is not None and model.opset > highest:
        raise UnsupportedByBackend(
            asked=f"compile {model.path.name} of opset {model.opset} for {name}",
            found=f"that this version takes files up to opset {highest}",
            fix="take a newer runtime, or export the model with an older opset ([export] opset)",
        )
