"""Samples from BatchNorm statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeport.contracts import TensorSpec
from edgeport.errors import ExportError
from edgeport.exporter.synthesize import synthesize

SPEC = TensorSpec(name="image", dtype="float32", shape=("batch", 3, 8, 8))


@pytest.fixture(scope="module")
def network():
    """Two BatchNorm layers that have seen images of mean 2 and deviation 0.5, smooth over pixels."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()
    )
    net.train()
    with torch.no_grad():
        for _ in range(60):
            net(2.0 + 0.5 * torch.randn(32, 3, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3))
    return net.eval()


def distance(network, images):
    """Largest difference of means and deviations before the BatchNorm layers, in units of the kept deviation."""
    worst, values = 0.0, torch.from_numpy(images)
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.BatchNorm2d):
                kept = layer.running_var.sqrt()
                mean, deviation = values.mean(dim=(0, 2, 3)), values.std(dim=(0, 2, 3))
                worst = max(worst, float(((mean - layer.running_mean) / kept).abs().max()))
                worst = max(worst, float((deviation / kept - 1).abs().max()))
            values = layer(values)
    return worst


def test_statistics_are_those_that_the_network_keeps(network):
    made = synthesize(network, [SPEC], 32, 0)["image"]
    noise = np.random.default_rng(0).standard_normal((32, 3, 8, 8)).astype(np.float32)
    assert (made.shape, made.dtype) == ((32, 3, 8, 8), np.float32)
    assert distance(network, made) < 0.25
    assert distance(network, noise) > 1.0


def test_the_declared_range_is_kept_to_and_seeds_repeat(network):
    spec = TensorSpec(name="image", dtype="float32", shape=("batch", 3, 8, 8), value_range=(0.0, 2.5))
    first, again = (synthesize(network, [spec], 4, 1)["image"] for _ in range(2))
    assert np.array_equal(first, again)
    assert first.min() >= 0.0
    assert first.max() <= 2.5


def test_the_module_is_left_as_it_was(network):
    network[0].weight.requires_grad_(requires_grad=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    synthesize(network, [SPEC], 2, 0)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert [network[0].weight.requires_grad, network[3].weight.requires_grad] == [False, True]
    assert not network[1]._forward_pre_hooks
    network[0].weight.requires_grad_(requires_grad=True)


@pytest.mark.parametrize(
    ("module", "inputs", "found"),
    [
        pytest.param(nn.Linear(3, 3), [SPEC], "without BatchNorm statistics", id="no layer"),
        pytest.param(nn.BatchNorm1d(3, track_running_stats=False), [SPEC], "without BatchNorm", id="nothing kept"),
        pytest.param(nn.BatchNorm1d(3), [SPEC, SPEC], "2 inputs", id="two inputs"),
        pytest.param(
            nn.BatchNorm1d(3), [TensorSpec(name="x", dtype="float32", shape=("batch", "n"))], "'n'", id="free axis"
        ),
        pytest.param(
            nn.BatchNorm1d(3), [TensorSpec(name="x", dtype="int64", shape=("batch", 3))], "int64", id="integers"
        ),
    ],
)
def test_what_cannot_be_made_is_refused(module, inputs, found):
    with pytest.raises(ExportError, match=found):
        synthesize(module.eval(), inputs, 2, 0)
