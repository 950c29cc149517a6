"""Whether a candidate is as accurate as the float model, on the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeport.accuracy.intervals import bootstrap_mean, bootstrap_statistic, bounded_mean, paired_proportions, wilson
from edgeport.accuracy.metrics import SQNR_CEILING_DB, Evaluation, Metric, Truth, evaluate, judged_output
from edgeport.contracts.samples import Array, Arrays
from edgeport.contracts.verdict import AccuracyResult, Interval, Outcome
from edgeport.errors import SamplesError, WrongOutput

__all__ = ["accuracy_result", "least_samples"]

_MOST_SAMPLES = 10_000_000
"""More than this is "no number of samples" to whoever must collect them."""


def accuracy_result(  # noqa: PLR0913 (what is compared, and how it is judged)
    metric: Metric,
    candidate_outputs: Arrays,
    reference_outputs: Arrays,
    target: Array | None,
    *,
    allowed_drop: float,
    reference_name: str,
    output: str = "",
    confidence: float = 0.95,
    seed: int = 0,
    starts: Sequence[int] = (),
) -> AccuracyResult:
    """Judges the drop from the reference to the candidate, paired over samples.

    PASS when the upper bound of the drop is within the budget, FAIL when its lower bound is beyond it, else
    INCONCLUSIVE; INVALID when the candidate's output holds NaN or Inf where the reference's does not.

    Args:
        metric: See `metric_named`.
        candidate_outputs: Arrays [N, ...] by output name.
        reference_outputs: The float model's, of the same samples in the same order.
        target: Labels [N, ...], or None.
        allowed_drop: In the metric's unit, 0 or more.
        reference_name: For tables ("PyTorch float32").
        output: Name of the output that is judged; empty for the reference's first.
        confidence: Of the intervals.
        seed: Of the bootstrap, where there is one.
        starts: Indices of the samples at which a sequence begins, where samples are the steps of sequences: these are
            independent of each other, and their steps are not.

    Raises:
        SamplesError: No labels for a metric that needs them, or shapes that do not fit.
        WrongOutput: The reference itself holds NaN.

    """
    name = output or next(iter(reference_outputs), "")
    candidate, reference = judged_output(candidate_outputs, name), judged_output(reference_outputs, name)
    _same_shape(name, candidate, reference)
    truth = _truth(metric, target, reference)
    broken = _broken_samples(candidate, reference, reference_name)
    if broken.size:
        return _invalid(metric, reference_name, len(reference), broken)
    evidence = _Evidence(
        metric=metric,
        candidate=candidate,
        reference=reference,
        truth=truth,
        ours=evaluate(metric, {"": candidate}, truth),
        theirs=evaluate(metric, {"": reference}, truth),
        confidence=confidence,
        seed=seed,
        starts=tuple(starts) if 0 < len(starts) < len(reference) else (),
    )
    drop = evidence.drop()
    outcome = _outcome(drop, allowed_drop)
    return AccuracyResult(
        metric=metric.name,
        value=evidence.value(),
        drop=drop,
        samples=len(reference),
        outcome=outcome,
        reason=_reason(evidence, drop, outcome, allowed_drop),
        reference=reference_name,
        details=_details(evidence),
    )


def least_samples(allowed_drop: float, *, sequences: bool = False, confidence: float = 0.95) -> int | None:
    """Samples below which a metric of right and wrong answers can't pass, whatever the candidate answers.

    Even without a single discordant pair the interval's upper bound is beyond the budget with fewer.

    Args:
        allowed_drop: 0..1.
        sequences: Count sequences of one length, where samples are their steps.
        confidence: Of the interval.

    Returns:
        None where no number of a sensible size would do.

    """

    def passes(samples: int) -> bool:
        high = paired_proportions(0, 0, samples, confidence=confidence).high
        if sequences:  # as `bounded_mean` has it where all values are 0
            high = max(high, 1 - ((1 - confidence) / 2) ** (1 / samples))
        return high <= allowed_drop

    few, many = 0, 1
    while not passes(many):
        few, many = many, many * 2
        if many > _MOST_SAMPLES:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if passes(middle) else (middle, many)
    return many


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """Both models' outputs [N, ...] on the same samples, and what the metric says of them.

    `starts` is empty where each sample stands for itself.
    """

    metric: Metric
    candidate: Array
    reference: Array
    truth: Array
    ours: Evaluation
    theirs: Evaluation
    confidence: float
    seed: int
    starts: tuple[int, ...] = ()

    def value(self) -> Interval:
        """Of the candidate."""
        scores = self.ours.scores
        if scores is None:
            return self._bootstrap(lambda chosen: self._measured(self.ours, self.candidate, chosen))
        proportion = self.discordant() is not None
        if self.starts and proportion:
            return self._of_sequences(scores, least=0.0)
        if self.starts:
            return self._bootstrap(lambda chosen: float(scores[chosen].mean()))
        if proportion:
            return wilson(float(scores.sum()), len(scores), confidence=self.confidence)
        return bootstrap_mean(scores, confidence=self.confidence, seed=self.seed)

    def drop(self) -> Interval:
        """The reference's value minus the candidate's."""
        if self.ours.scores is None or self.theirs.scores is None:
            return self._bootstrap(
                lambda chosen: (
                    self._measured(self.theirs, self.reference, chosen)
                    - self._measured(self.ours, self.candidate, chosen)
                )
            )
        discordant, lost = self.discordant(), self.theirs.scores - self.ours.scores
        if self.starts and discordant is not None:
            return self._of_sequences(lost, least=-1.0)
        if self.starts:
            return self._bootstrap(lambda chosen: float(lost[chosen].mean()))
        if discordant is not None:
            return paired_proportions(*discordant, len(self.ours.scores), confidence=self.confidence)
        return bootstrap_mean(lost, confidence=self.confidence, seed=self.seed)

    def discordant(self) -> tuple[int, int] | None:
        """Samples that only the reference has right, and only the candidate; None where scores are not 0 or 1."""
        if self.ours.scores is None or self.theirs.scores is None:
            return None
        # A user's function does not say so, but its scores do.
        own_function = ":" in self.metric.name
        both = np.concatenate([self.ours.scores, self.theirs.scores])
        declared = self.ours.right_or_wrong and self.theirs.right_or_wrong
        if not declared and not (own_function and bool(np.isin(both, (0, 1)).all())):
            return None
        difference = self.theirs.scores - self.ours.scores
        return int(np.sum(difference > 0)), int(np.sum(difference < 0))

    def _of_sequences(self, scores: Array, *, least: float) -> Interval:
        """Of right and wrong answers, and their differences: no more than 1."""
        return bounded_mean(scores, self.starts, least=least, most=1.0, confidence=self.confidence, seed=self.seed)

    def _measured(self, whole: Evaluation, output: Array, chosen: Array) -> float:
        if whole.weighted is not None:
            return whole.weighted(np.bincount(chosen, minlength=len(output)))
        return evaluate(self.metric, {"": output[chosen]}, self.truth[chosen]).value

    def _bootstrap(self, statistic: Callable[[Array], float]) -> Interval:
        return bootstrap_statistic(
            statistic, len(self.truth), confidence=self.confidence, seed=self.seed, starts=self.starts
        )


def _same_shape(name: str, candidate: Array, reference: Array) -> None:
    if candidate.shape != reference.shape:
        raise SamplesError(
            asked=f"compare output {name!r} with the float model's",
            found=f"shapes {list(candidate.shape)} and {list(reference.shape)}",
            fix="run both over the same samples; an output whose shape depends on the data needs a metric of your own",
        )


def _truth(metric: Metric, target: Array | None, reference: Array) -> Array:
    if metric.truth is Truth.REFERENCE or (metric.truth is Truth.EITHER and target is None):
        return reference
    if target is None:
        raise SamplesError(
            asked=f"compute {metric.name}",
            found="evaluation samples without labels",
            fix='name the labels in [data] target, or take metric = "agreement", which needs none',
        )
    return np.asarray(target)


def _broken_samples(candidate: Array, reference: Array, reference_name: str) -> Array:
    """Indices of samples with NaN, or with Inf that the reference has not; such Inf may be a mask in the model."""
    if not np.issubdtype(reference.dtype, np.inexact):
        return np.zeros(0, np.int64)
    count = len(reference)
    if np.isnan(reference).any():
        first = int(np.flatnonzero(np.isnan(reference).reshape(count, -1).any(axis=1))[0])
        raise WrongOutput(
            asked=f"take {reference_name} as the reference",
            found=f"NaN in its output for sample {first}",
            fix="check that sample and the model in float first",
        )
    wrong = ~np.isfinite(candidate) & (candidate != reference)
    return np.flatnonzero(wrong.reshape(count, -1).any(axis=1))


def _invalid(metric: Metric, reference_name: str, samples: int, broken: Array) -> AccuracyResult:
    worst = 0.0 if metric.proportion else -math.inf
    lost = 1.0 if metric.proportion else math.inf
    return AccuracyResult(
        metric=metric.name,
        value=Interval(low=worst, estimate=worst, high=worst),
        drop=Interval(low=lost, estimate=lost, high=lost),
        samples=samples,
        outcome=Outcome.INVALID,
        reason=f"the output holds NaN or Inf for {broken.size} of {samples} samples, first for sample {broken[0]}",
        reference=reference_name,
        details={"nonfinite_samples": float(broken.size), "first_nonfinite_sample": float(broken[0])},
    )


def _outcome(drop: Interval, allowed: float) -> Outcome:
    if drop.high <= allowed:
        return Outcome.PASS
    return Outcome.FAIL if drop.low > allowed else Outcome.INCONCLUSIVE


def _reason(evidence: _Evidence, drop: Interval, outcome: Outcome, allowed: float) -> str:
    if outcome is Outcome.PASS:
        return ""
    metric, samples = evidence.metric, len(evidence.truth)
    unit = f" {metric.unit}" if metric.unit else ""
    span = f"{metric.name} drops by {drop.low:.4g} to {drop.high:.4g}{unit} ({drop.confidence:.0%} interval)"
    if outcome is Outcome.FAIL:
        return f"{span}, {allowed:.4g}{unit} is allowed"
    sequences = len(evidence.starts)
    if sequences == 1:
        return f"{samples} samples are the steps of one sequence, which tells nothing of others: give 20 or more"
    if sequences:
        return (
            f"{span}, {allowed:.4g}{unit} is allowed, so {sequences} sequences can't tell: give more of them "
            "([data] sequence), for their steps do not count as independent"
        )
    needed = _samples_needed(drop, allowed, samples, evidence.discordant())
    advice = (
        f"about {_rounded_up(needed - samples)} more evaluation samples would decide it"
        if needed is not None
        else "the drop is so close to the limit that no number of samples would decide it; allow a little more"
    )
    return f"{span}, {allowed:.4g}{unit} is allowed, so {samples} samples can't tell: {advice}"


def _samples_needed(drop: Interval, allowed: float, samples: int, discordant: tuple[int, int] | None) -> int | None:
    """Samples at which the same estimate would pass or fail; None where none of a sensible number would."""
    if discordant is None:
        distance = abs(allowed - drop.estimate)
        half = drop.high - drop.estimate if drop.estimate <= allowed else drop.estimate - drop.low
        if distance == 0 or not math.isfinite(half):
            return None
        needed = math.ceil(samples * (half / distance) ** 2)
        return needed if needed <= _MOST_SAMPLES else None

    def decided(factor: float) -> bool:
        lost, gained = discordant
        scaled = paired_proportions(lost * factor, gained * factor, samples * factor, confidence=drop.confidence)
        return _outcome(scaled, allowed) is not Outcome.INCONCLUSIVE

    few, many = 1.0, 2.0
    while not decided(many):
        few, many = many, many * 2
        if many * samples > _MOST_SAMPLES:
            return None
    for _ in range(20):
        middle = (few + many) / 2
        few, many = (few, middle) if decided(middle) else (middle, many)
    return math.ceil(many * samples)


def _rounded_up(count: int) -> int:
    """To two digits: an estimate should not look exact."""
    count = max(count, 1)
    step = int(10 ** max(len(str(count)) - 2, 0))
    return -(-count // step) * step


def _details(evidence: _Evidence) -> dict[str, float]:
    """SQNR and errors against the reference over the values that are finite there; discordant pairs, if any."""
    candidate, reference = evidence.candidate, evidence.reference
    details = {"reference_value": evidence.theirs.value}
    if np.issubdtype(reference.dtype, np.number):
        finite = np.isfinite(reference)
        wanted = reference[finite].astype(np.float64)
        error = candidate[finite].astype(np.float64) - wanted
        signal, noise = float(np.square(wanted).sum()), float(np.square(error).sum())
        if noise == 0:
            details["sqnr_db"] = SQNR_CEILING_DB
        elif signal > 0:
            details["sqnr_db"] = min(10 * math.log10(signal / noise), SQNR_CEILING_DB)
        details["max_abs_error"] = float(np.abs(error).max(initial=0.0))
    discordant = evidence.discordant()
    if discordant is not None:
        details |= {"lost": float(discordant[0]), "gained": float(discordant[1])}
    return details
