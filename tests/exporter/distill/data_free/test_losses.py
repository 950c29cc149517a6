"""Every loss against the formula of its paper, written out in numpy by sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edgeport.exporter.distill.data_free import losses
from edgeport.exporter.distill.learned_losses import formulas

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(6, 4)).astype(np.float32) * 2
STUDENT = TEACHER + RNG.normal(size=(6, 4)).astype(np.float32) * 2
CLASSES = np.array([0, 3, 1, 1, 2, 0])


def of(function, *arrays, **settings):
    return float(function(*(torch.from_numpy(np.asarray(one)) for one in arrays), **settings))


def softmax(scores):
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_one_hot():
    chances = softmax(TEACHER)
    own = np.mean([-math.log(row.max()) for row in chances])
    given = np.mean([-math.log(row[one]) for row, one in zip(chances, CLASSES, strict=True)])
    assert of(losses.one_hot_loss, TEACHER) == pytest.approx(own, rel=1e-5)
    assert of(losses.one_hot_loss, TEACHER, CLASSES) == pytest.approx(given, rel=1e-5)


def test_activation():
    features = RNG.normal(size=(5, 3, 2)).astype(np.float32)
    assert of(losses.activation_loss, features) == pytest.approx(-np.abs(features).sum() / 30, rel=1e-5)


def test_balance():
    often = [sum(row[one] for row in softmax(TEACHER)) / 6 for one in range(4)]
    assert of(losses.balance_loss, TEACHER) == pytest.approx(sum(p * math.log(p) for p in often), rel=1e-5)
    even = np.eye(4, dtype=np.float32) * 50
    assert of(losses.balance_loss, even) == pytest.approx(-math.log(4), rel=1e-5)  # the smallest there is


def test_disagreement_counts_where_both_say_the_same_class():
    total, counted = 0.0, 0
    for own, other in zip(STUDENT, TEACHER, strict=True):
        if own.argmax() == other.argmax():
            p, q = softmax(other), softmax(own)
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            counted += 1
    assert 0 < counted < 6
    assert of(losses.decision_disagreement, STUDENT, TEACHER) == pytest.approx(total / 6, rel=1e-4)


@pytest.mark.parametrize("earlier", [0, 3])
def test_contrast(earlier):
    views, others, before = (
        one / np.linalg.norm(one, axis=1, keepdims=True)
        for one in (RNG.normal(size=(5, 7)), RNG.normal(size=(5, 7)), RNG.normal(size=(earlier, 7)))
    )
    against = np.concatenate([others, before])
    expected = []
    for index, view in enumerate(views):
        powers = [math.exp(float(view @ other) / 0.2) for other in against]
        expected.append(-math.log(powers[index] / sum(powers)))
    given = torch.from_numpy(before) if earlier else None
    found = losses.contrastive_loss(torch.from_numpy(views), torch.from_numpy(others), given, 0.2)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_discriminator_and_who_fools_it():
    def likelihood(score):
        return 1 / (1 + math.exp(-score))

    real, fake = np.array([2.0, -1.0, 0.5], np.float32), np.array([-3.0, 1.0, 0.0], np.float32)
    told = np.mean([-math.log(likelihood(one)) for one in real])
    told += np.mean([-math.log(1 - likelihood(one)) for one in fake])
    fooled = np.mean([-math.log(likelihood(one)) for one in fake])
    assert of(formulas.discriminator_loss, real, fake) == pytest.approx(told, rel=1e-5)
    assert of(formulas.fooling_loss, fake) == pytest.approx(fooled, rel=1e-5)


def test_bound_is_below_the_likelihood_and_meets_it_at_the_true_posterior():
    """z ~ N(0, 1), x = z + N(0, 1): x ~ N(0, 2), and z given x ~ N(x / 2, 1 / 2)."""
    draws = np.random.default_rng(1).normal(size=400_000)
    for mean, variance, tight in ((0.6, 0.5, True), (0.0, 1.0, False)):
        codes = torch.from_numpy(mean + math.sqrt(variance) * draws)[:, None]
        values = torch.full_like(codes, 1.2)
        likelihood = formulas.gaussian_log_likelihood(values, codes, torch.zeros(1)).mean()
        divergence = formulas.gaussian_divergence(torch.tensor([[mean]]), torch.tensor([[math.log(variance)]]))
        bound = float(formulas.evidence_bound(likelihood, divergence[0]))
        exact = -0.5 * (math.log(2 * math.pi * 2.0) + 1.2**2 / 2.0)
        assert (bound == pytest.approx(exact, abs=0.01)) == tight
        assert bound < exact + 0.01


def test_divergence_and_likelihood_by_number():
    mean, log_variance = RNG.normal(size=(2, 3, 4))
    values = RNG.normal(size=(3, 4))
    divergence, likelihood = np.zeros(3), np.zeros(3)
    for row in range(3):
        for m, lv, x in zip(mean[row], log_variance[row], values[row], strict=True):
            divergence[row] += 0.5 * (m * m + math.exp(lv) - 1 - lv)
            likelihood[row] += -0.5 * (math.log(2 * math.pi * math.exp(lv)) + (x - m) ** 2 / math.exp(lv))
    tensors = [torch.from_numpy(one) for one in (values, mean, log_variance)]
    assert formulas.gaussian_divergence(*tensors[1:]).numpy() == pytest.approx(divergence, rel=1e-5)
    assert formulas.gaussian_log_likelihood(*tensors).numpy() == pytest.approx(likelihood, rel=1e-5)
    weighed = formulas.evidence_bound(torch.from_numpy(likelihood), torch.from_numpy(divergence), 4.0)
    assert weighed.numpy() == pytest.approx(likelihood - 4 * divergence)
