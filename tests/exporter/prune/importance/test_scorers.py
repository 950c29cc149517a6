"""Each criterion against a second way of computing it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeport.errors import PruningError, SamplesError
from edgeport.exporter.prune.graph.dependency_groups import find_groups
from edgeport.exporter.prune.importance.activations import entropies
from edgeport.exporter.prune.importance.criteria import (
    CRITERIA,
    BatchNormScale,
    Entropy,
    Fisher,
    HessianDiagonal,
    Magnitude,
    NearZero,
    Random,
    Taylor,
    ZeroActivations,
    criterion_named,
    describe,
)
from edgeport.exporter.prune.importance.magnitude import batchnorm_penalty
from edgeport.exporter.prune.importance.scorers import scorer_of
from edgeport.exporter.prune.samples import Samples, output_energy


def _units(criterion: Any, net: Any, samples: Samples) -> dict[str, np.ndarray]:
    groups = find_groups(net, samples).groups
    return {name: score.numpy() for name, score in scorer_of(criterion).units(net, samples, groups).items()}


def _gated(net: Any) -> tuple[Any, Any]:
    """The network with a factor for each channel of the first group, in front of what reads it."""
    import torch

    gate = torch.ones(8, requires_grad=True)
    gated = copy.deepcopy(net)
    gated[3].register_forward_pre_hook(lambda _, arguments: (arguments[0] * gate.reshape(1, -1, 1, 1),))
    return gated, gate


def _losses(net: Any, samples: Samples) -> list[Any]:
    import torch

    x, y = torch.from_numpy(samples.feeds["x"]), torch.from_numpy(samples.target)
    return [torch.nn.functional.cross_entropy(net(x[row : row + 1]), y[row : row + 1]) for row in range(len(x))]


@pytest.mark.parametrize("norm", [1, 2])
def test_magnitude_is_the_mean_norm_of_what_makes_and_reads_a_channel(net: Any, images: Samples, norm: int) -> None:
    found = _units(Magnitude(norm), net, images)["0"]

    first, scale, second = (net[index].weight.detach().numpy() for index in (0, 1, 3))
    expected = (
        (np.abs(first) ** norm).sum(axis=(1, 2, 3))
        + np.abs(scale) ** norm
        + (np.abs(second) ** norm).sum(axis=(0, 2, 3))
    )
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-5)


def test_near_zero_counts_weights_above_the_threshold(net: Any, images: Samples) -> None:
    found = _units(NearZero(0.5), net, images)["3"]

    def many(weight: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return (np.abs(weight) >= 0.5 * np.sqrt((weight**2).mean())).sum(axis=axes)

    first, scale, second = (net[index].weight.detach().numpy() for index in (3, 4, 8))
    expected = many(first, (1, 2, 3)) + many(scale, ()) + many(second, (0,))
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-5)


def test_batchnorm_scale_is_its_factor(net: Any, images: Samples) -> None:
    found = _units(BatchNormScale(), net, images)["0"]
    expected = net[1].weight.detach().abs().numpy()
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-6)


def test_batchnorm_penalty_pulls_every_factor_to_zero(net: Any) -> None:
    import torch

    batchnorm_penalty(net, 0.5).backward()
    for index in (1, 4):
        torch.testing.assert_close(net[index].weight.grad, 0.5 * net[index].weight.detach().sign())


def test_zero_activations_count_what_the_reader_gets(net: Any, images: Samples) -> None:
    import torch

    found = _units(ZeroActivations(), net, images)["0"]
    with torch.no_grad():
        entering = net[:3](torch.from_numpy(images.feeds["x"])).numpy()
    np.testing.assert_allclose(found, (entering != 0).mean(axis=(0, 2, 3)), rtol=1e-6)


def test_entropy_is_of_mean_activations_in_the_layers_bins(net: Any, images: Samples) -> None:
    import scipy.stats
    import torch

    lowest, highest = (_units(Entropy(first, bins=8), net, images)["0"] for first in ("lowest", "highest"))
    with torch.no_grad():
        means = net[:3](torch.from_numpy(images.feeds["x"])).numpy().mean(axis=(2, 3))
    edges = np.linspace(means.min(), means.max(), 9)
    expected = [scipy.stats.entropy(np.histogram(column, edges)[0], base=2) for column in means.T]
    np.testing.assert_allclose(lowest, expected, atol=1e-6)
    np.testing.assert_allclose(lowest + highest, np.full(8, max(expected)), atol=1e-6)


def test_entropy_of_a_constant_is_none() -> None:
    import torch

    values = torch.stack([torch.full((64,), 0.5), torch.linspace(0, 1, 64)], dim=1)
    found = entropies(values, 16)
    assert float(found[0]) == 0.0
    assert float(found[1]) == pytest.approx(4.0, abs=0.01)


def test_taylor_and_fisher_are_derivatives_of_a_factor(net: Any, images: Samples) -> None:
    import torch

    gated, gate = _gated(net)
    slopes = torch.stack([torch.autograd.grad(loss, gate)[0] for loss in _losses(gated, images)]).double().numpy()
    np.testing.assert_allclose(_units(Taylor(), net, images)["0"], np.abs(slopes).mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(_units(Fisher(), net, images)["0"], (slopes**2).mean(axis=0) / 2, rtol=1e-4)


def test_taylor_and_fisher_of_single_weights(net: Any, images: Samples) -> None:
    import torch

    weight = net[3].weight
    grads = torch.stack([torch.autograd.grad(loss, weight)[0] for loss in _losses(net, images)])
    products = (grads * weight).detach()
    taylor, fisher = (scorer_of(one).weights(net, images)["3.weight"] for one in (Taylor(), Fisher()))
    torch.testing.assert_close(taylor, products.abs().mean(dim=0))
    torch.testing.assert_close(fisher, products.square().mean(dim=0) / 2)


def test_hessian_is_the_second_derivative_of_a_factor(net: Any, images: Samples) -> None:
    import torch

    samples = Samples(feeds=images.feeds, target=images.target, batch=6)
    gated, gate = _gated(net)
    x, y = torch.from_numpy(samples.feeds["x"]), torch.from_numpy(samples.target)

    def loss(factors: Any) -> Any:
        gated[3]._forward_pre_hooks.clear()
        gated[3].register_forward_pre_hook(lambda _, arguments: (arguments[0] * factors.reshape(1, -1, 1, 1),))
        return torch.nn.functional.cross_entropy(gated(x), y)

    exact = torch.autograd.functional.hessian(loss, gate.detach()).diagonal().abs().double().numpy() / 2
    groups = [group for group in find_groups(net, samples).groups if group.name == "0"]
    found = scorer_of(HessianDiagonal(draws=700)).units(net, samples, groups)["0"].numpy()
    np.testing.assert_allclose(found, exact, atol=0.12 * exact.max())


def test_hessian_of_single_weights(net: Any, images: Samples) -> None:
    import torch

    samples = Samples(feeds=images.feeds, target=images.target, batch=6)
    x, y = torch.from_numpy(samples.feeds["x"]), torch.from_numpy(samples.target)
    last = net[8].weight.detach()
    features = net[:8](x).detach()

    def loss(weight: Any) -> Any:
        logits = torch.nn.functional.linear(features, weight.reshape(5, 12), net[8].bias)
        return torch.nn.functional.cross_entropy(logits, y)

    curvature = torch.autograd.functional.hessian(loss, last.flatten()).diagonal().reshape(5, 12)
    exact = (curvature * last**2).abs() / 2
    found = scorer_of(HessianDiagonal(draws=600)).weights(net, samples)["8.weight"]
    torch.testing.assert_close(found, exact, rtol=0, atol=0.25 * float(exact.max()))


def test_random_is_the_same_for_a_seed(net: Any, images: Samples) -> None:
    same, other = _units(Random(1), net, images), _units(Random(2), net, images)
    assert all(np.array_equal(same[name], score) for name, score in _units(Random(1), net, images).items())
    assert not np.array_equal(same["0"], other["0"])


def test_gradients_are_as_they_were(net: Any, images: Samples) -> None:
    net[0].weight.requires_grad = False
    _units(Taylor(), net, images)
    assert [one.requires_grad for one in net.parameters()] == [False] + [True] * 9
    assert all(one.grad is None for one in net.parameters())


@pytest.mark.parametrize("name", CRITERIA)
def test_names_come_back(name: str) -> None:
    criterion = criterion_named(name)
    assert criterion_named(describe(criterion)) == criterion
    assert criterion_named(CRITERIA[name].form) == criterion


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("taylr", "did you mean 'taylor'"),
        ("taylor:2", "which takes none"),
        ("entropy:middle", "no such direction"),
        ("hessian:many", "invalid literal"),
    ],
)
def test_unknown_criteria_are_refused(text: str, says: str) -> None:
    with pytest.raises(PruningError, match=says):
        criterion_named(text)


@pytest.mark.parametrize("name", [name for name, row in CRITERIA.items() if not row.of_weights])
def test_criteria_of_channels_refuse_single_weights(name: str, net: Any, images: Samples) -> None:
    with pytest.raises(PruningError, match="single weights"):
        scorer_of(criterion_named(name)).weights(net, images)


@pytest.mark.parametrize("name", [name for name, row in CRITERIA.items() if row.needs_samples])
def test_criteria_that_need_samples_say_so(name: str, net: Any, images: Samples) -> None:
    groups = find_groups(net, images).groups
    with pytest.raises(PruningError, match="no samples"):
        scorer_of(criterion_named(name)).units(net, None, groups)


def test_zeros_that_are_not_there_are_refused(images: Samples, filled: Any) -> None:
    from torch import nn

    smooth = filled(nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 5)))
    with pytest.raises(PruningError, match="no Relu"):
        _units(ZeroActivations(), smooth, images)


def test_without_labels_the_length_of_the_outputs_counts(net: Any, images: Samples) -> None:
    import torch

    samples = Samples(feeds=images.feeds)
    gated, gate = _gated(net)
    x = torch.from_numpy(samples.feeds["x"])
    slopes = [torch.autograd.grad(gated(x[row : row + 1]).square().sum() / 2, gate)[0].double() for row in range(6)]
    expected = torch.stack(slopes).abs().mean(dim=0).numpy()
    np.testing.assert_allclose(_units(Taylor(), net, samples)["0"], expected, rtol=1e-4)


def test_numbers_of_the_whole_batch_have_no_length_that_counts() -> None:
    import torch

    values, loss = torch.ones(3, 2), torch.tensor(5.0)
    assert float(output_energy({"loss": loss, "values": values}, None)) == 1.0
    with pytest.raises(PruningError, match=r"no floats for each sample among loss: torch\.float32 \[\]"):
        output_energy({"loss": loss}, None)
    with pytest.raises(PruningError, match=r"among index: torch\.int64 \[3\]"):
        output_energy({"index": values.argmax(dim=1)}, None)


def test_labels_of_classes_that_the_network_does_not_have_are_refused(net: Any, images: Samples) -> None:
    wrong = replace(images, target=images.target + 90)
    with pytest.raises(SamplesError, match="labels of 90 to 94 for 5 classes"):
        scorer_of(Taylor()).units(net, wrong, find_groups(net, images).groups)
