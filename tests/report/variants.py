"""The same run, had it gone otherwise."""

from __future__ import annotations

from dataclasses import replace

from edgeport.contracts import (
    Candidate,
    Change,
    Comparison,
    CompressedBy,
    Interval,
    Outcome,
    Refusal,
    RunResult,
    Verification,
)


def without_winner(result: RunResult) -> RunResult:
    """Had int8 been no faster: the best float ships."""
    speedup = Interval(low=0.99, estimate=1.004, high=1.018)
    refused = replace(
        result.candidates[0],
        outcome=Outcome.INCONCLUSIVE,
        refusal=Refusal(code="NO_GAIN", reason="no certain gain: 1.004x the best float's speed (0.99 to 1.02)"),
        against_float=Comparison(speedup=speedup, change=Change.UNKNOWN, pairs=10, delta=0.02),
    )
    best = replace(result.candidate(result.best_float), outcome=Outcome.PASS, refusal=None)
    others = [c for c in result.candidates[1:] if c.name != best.name]
    return replace(result, candidates=(best, refused, *others), chosen=best.name)


def with_nothing(result: RunResult) -> RunResult:
    """Had nothing been within the budget."""
    refusal = Refusal(code="BUDGET", reason="p50 0.131 ms is over the budget of 0.1 ms")
    refused = [replace(c, outcome=Outcome.FAIL, refusal=c.refusal or refusal) for c in result.candidates]
    return replace(result, candidates=tuple(refused), chosen="", outcome=Outcome.FAIL, bundle=None)


EVIL = "</script><script>window.evil=1</script><img src=x onerror=window.evil=1>$$\\href{https://evil.example}{x}$$"


def hostile(result: RunResult) -> RunResult:
    """The same run of a model whose every name is an attack on whoever opens the report."""
    names = {c.name: f"{c.name} {EVIL}" for c in result.candidates}
    candidates = tuple(_hostile(c, names[c.name]) for c in result.candidates)
    device = replace(result.device, cpu=EVIL, name=EVIL, system=EVIL, isa=(EVIL,), sensors=(EVIL,))
    spec = replace(result.model.inputs[0], name=EVIL, shape=(EVIL, 3))
    return replace(
        result,
        name=EVIL,
        candidates=candidates,
        chosen=names[result.chosen],
        best_float=names[result.best_float],
        measurements={names[name]: found for name, found in result.measurements.items()},
        confirmation={names[name]: found for name, found in result.confirmation.items()},
        device=device,
        model=replace(result.model, inputs=(spec,), outputs=(spec,)),
        notes=(EVIL,),
        versions=dict(result.versions) | {EVIL: EVIL},
        verification=_verified(result.verification),
    )


def _verified(verification: Verification | None) -> Verification | None:
    if verification is None:
        return None
    return replace(verification, outputs=tuple(replace(one, name=EVIL) for one in verification.outputs))


def _hostile(candidate: Candidate, name: str) -> Candidate:
    placement = candidate.placement
    if placement is not None:
        nodes = tuple(replace(n, name=EVIL, operator=EVIL, origin=(EVIL,), reason=EVIL) for n in placement.nodes)
        placement = replace(placement, nodes=nodes, source=EVIL)
    return replace(
        candidate,
        name=name,
        placement=placement,
        refusal=Refusal(code=EVIL, reason=EVIL) if candidate.refusal else None,
        accuracy=replace(candidate.accuracy, metric=EVIL, reference=EVIL) if candidate.accuracy else None,
    )


def compressed(result: RunResult) -> RunResult:
    """Had its winner been made by two steps, and a third one failed."""
    winner = result.candidates[0]
    against = Comparison(speedup=Interval(low=2.8, estimate=2.9, high=3.0), change=Change.FASTER, pairs=6, delta=0.02)
    rows = (
        CompressedBy(step="as it is", variant="original", candidate=result.best_float),
        CompressedBy(
            step="prune units by taylor to 2x the speed",
            variant="pruned",
            candidate=winner.name,
            said=("131,178 weights to 67,162",),
            seconds=43.0,
            against=against,
        ),
        CompressedBy(step="prune blocks (9)", variant="pruned + pruned", problem="there are 3; ask for fewer"),
        CompressedBy(step="train with the rounding of int8, 1 epoch", variant="pruned + trained", seconds=200.0),
    )
    return replace(result, compression=rows)
