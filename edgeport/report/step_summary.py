"""What a step of [[compress]] did, in sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgeport.contracts import PruneStep, Scale, TrainedStep, load_json
from edgeport.exporter.distill.options import DistillResult
from edgeport.exporter.distill.student_sizing import StudentSize
from edgeport.exporter.prune.cost_model import Costs
from edgeport.exporter.prune.latency_search import Budgeted

__all__ = ["distilled_text", "latency_text", "pruned_text", "sized_text", "trained_text"]

_FEW_ZEROS = 0.01


def pruned_text(pruning: Mapping[str, Any]) -> str:
    """What a pruning took out."""
    (weights, weights_left), (macs, macs_left) = pruning["weights"], pruning["macs"]
    parts = [f"{weights:,.0f} weights to {weights_left:,.0f}", f"{macs:,.0f} multiplications to {macs_left:,.0f}"]
    if pruning["zeros"] > _FEW_ZEROS:
        parts.append(f"{pruning['zeros']:.1%} of the weights are zero")
    if pruning["blocks"]:
        parts.append(f"without {', '.join(pruning['blocks'])}")
    return "; ".join(parts)


def latency_text(step: PruneStep, budgeted: Budgeted, costs: Costs) -> str:
    """What the latency of a pruned model is, and what was asked."""
    before_ns, after_ns = budgeted.before_ns, budgeted.latency_ns
    share = costs.macs(budgeted.counts) / costs.macs({})
    goal = f"asked were {step.latency_ns / 1e6:.4g} ms" if step.latency_ns is not None else f"asked was {step.speedup}x"
    return f"{_measured(before_ns, after_ns)} ({goal}), with {share:.1%} of the multiplications"


def sized_text(scale: Scale, size: StudentSize, before_ns: float) -> str:
    """Which size of a student was chosen for a latency."""
    values = ", ".join(f"{value:g}" for value in sorted(set(scale.values)))
    measured = _measured(before_ns, size.latency_ns)
    return f"{scale.argument} = {size.value:g} of {values}: {measured} (asked were {size.goal_ns / 1e6:.4g} ms)"


def _measured(before_ns: float, after_ns: float) -> str:
    return f"measured on the target {before_ns / 1e6:.4g} ms to {after_ns / 1e6:.4g} ms, {before_ns / after_ns:.3g}x"


def trained_text(trained: TrainedStep) -> str:
    """What a training gave."""
    if trained.best_step == 0:
        return f"trained for {trained.steps} steps, none of which made it better on held-out samples"
    return f"trained for {trained.steps} steps; on held-out samples {_changes(trained.before, trained.after)}"


def distilled_text(distillation: Mapping[str, Any]) -> tuple[str, ...]:
    """What a student learned, a sentence each."""
    results = distillation["results"] if "results" in distillation else [distillation["result"]]
    best = distillation.get("best", 0)
    result = load_json(DistillResult, json.dumps(results[best]))
    teacher, student = distillation["weights"]
    sizes = f"{teacher:,.0f} weights teach {student:,.0f}"
    if "macs" in distillation:
        sizes += f"; {distillation['macs'][0]:,.0f} multiplications to {distillation['macs'][1]:,.0f}"
    learned = f"learned from {result.objective} for {result.steps} steps"
    if not result.after:
        learned += "; nothing told on the way how good it is"
    elif result.best_step == 0:
        learned += ", none of which made it better on held-out samples"
    else:
        learned += f"; on held-out samples {_changes(result.before, result.after)}"
    if result.teacher:
        learned += f"; the teacher has {', '.join(f'{name} {value:.4g}' for name, value in result.teacher.items())}"
    if len(results) > 1:
        learned += f"; the best of {len(results)} students is number {best + 1}"
    return (sizes, learned, *distillation.get("notes", ()))


def _changes(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Numbers before and after: "loss 2.4 to 0.2, top1 0.1 to 0.9"."""
    return ", ".join(f"{name} {before[name]:.4g} to {value:.4g}" for name, value in after.items() if name in before)
