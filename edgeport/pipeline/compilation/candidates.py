"""Every candidate of a recipe, named; and the row of one that failed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from edgeport.contracts import Candidate, Capabilities, ExecutionConfig, Mix, OnnxModel, Outcome, Precision, Refusal
from edgeport.contracts.recipe import Target
from edgeport.errors import BackendCrash, ChildCrash, EdgeportError, UsageError

__all__ = ["execution_for", "list_candidates", "named_apart", "refused"]

_FLOATS = (Precision.FP32, Precision.BF16, Precision.FP16)


def list_candidates(targets: tuple[Target, ...], capabilities: Mapping[str, Capabilities]) -> list[Candidate]:
    """One candidate per target and precision, in the recipe's order, then the baselines; each with its own name.

    Args:
        targets: Of the recipe.
        capabilities: By backend, as probed here.

    """
    wanted = [(target, precision, False) for target in targets for precision in target.precisions]
    wanted += [(target, precision, True) for target, precision in _baselines(targets, capabilities)]
    listed: list[Candidate] = []
    names: Counter[str] = Counter()
    for target, precision, baseline in wanted:
        mix = Mix() if precision.is_float else target.mix
        where = f" on {target.execution.runtime_device}" if target.execution.runtime_device else ""
        name = f"{target.backend}{where} {precision}{mix.label}"
        names[name] += 1
        if names[name] > 1:
            name = f"{name} #{names[name]}"
        candidate = Candidate(
            name=name, backend=target.backend, precision=precision, execution=target.execution, mix=mix
        )
        least = None if baseline else target.least_placement
        listed.append(replace(candidate, baseline=baseline, least_placement=least))
    return listed


def named_apart(candidates: Sequence[Candidate], others: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, with a number behind the name of each whose name another has already."""
    taken = {other.name for other in others}
    named = []
    for candidate in candidates:
        numbered = (f"{candidate.name} #{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([candidate.name], numbered) if name not in taken)
        taken.add(name)
        named.append(replace(candidate, name=name))
    return named


def _baselines(
    targets: tuple[Target, ...], capabilities: Mapping[str, Capabilities]
) -> Iterator[tuple[Target, Precision]]:
    """Every float that a quantized candidate's own runtime has here, run in the same way, and nobody named.

    Without them "faster than the best float" could mean: faster than the float of a slower runtime.
    """
    known = [
        (one.backend, one.execution, one.device, precision) for one in targets for precision in one.precisions
    ]  # a list: an execution need not be hashable
    for target in targets:
        here = capabilities.get(target.backend)
        if here is None or not here.can_run or all(precision.is_float for precision in target.precisions):
            continue
        for precision in _FLOATS:
            support = here.precisions.get(precision)
            this = (target.backend, target.execution, target.device, precision)
            if support is not None and support.available and this not in known:
                known.append(this)
                yield target, precision


def refused(candidate: Candidate, error: Exception) -> Candidate:
    """The candidate as the row of what went wrong with it."""
    if not isinstance(error, EdgeportError):
        found = f"an unexpected {type(error).__name__}: {error}"
        error = EdgeportError(asked=f"try {candidate.name}", found=found, fix="report this as a fault in Edgeport")
    if isinstance(error, ChildCrash):
        error = BackendCrash(asked=error.asked, found=error.found, fix=error.fix, details=error.details)
    return replace(candidate, outcome=Outcome.FAIL, refusal=Refusal(code=error.code, reason=error.reason))


def execution_for(model: OnnxModel, execution: ExecutionConfig) -> ExecutionConfig:
    """The settings with the batch that the model is fixed to, if it is.

    Raises:
        UsageError: Another batch was asked for.

    """
    if model.fixed_batch is None:
        return execution
    if execution.batch not in (1, model.fixed_batch):
        raise UsageError(
            asked=f"run {model.path.name} with {execution.batch} samples per call",
            found=f"a model whose batch is fixed to {model.fixed_batch}",
            fix="leave the batch out, or export the model with a free batch",
        )
    return replace(execution, batch=model.fixed_batch)
