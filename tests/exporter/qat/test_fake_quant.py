"""What rounds in PyTorch gives what the writer of a plan writes, number for number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeport.backends.qdq.blocks import quantize_blocks
from edgeport.backends.qdq.quant_params import activation_parameters, dequantize, quantize, weight_parameters
from edgeport.contracts import ActivationQuantization, WeightQuantization
from edgeport.exporter.qat.fake_quant import FakeActivation, FakeWeight

RANDOM = np.random.default_rng(5)

ACTIVATIONS = [
    ActivationQuantization(dtype="uint8", minimum=-0.7, maximum=2.9),
    ActivationQuantization(dtype="uint8", minimum=0.0, maximum=6.0),
    ActivationQuantization(dtype="int8", minimum=-1.3, maximum=2.9, symmetric=True),
    ActivationQuantization(dtype="uint8", minimum=-1.3, maximum=2.9, symmetric=True),
    ActivationQuantization(dtype="int8", minimum=-0.4, maximum=2.9),
    ActivationQuantization(dtype="uint8", minimum=0.0, maximum=0.0),
]


@pytest.mark.parametrize("spec", ACTIVATIONS, ids=repr)
def test_an_activation_is_rounded_as_it_is_written(spec: ActivationQuantization) -> None:
    value = (RANDOM.standard_normal((3, 50)) * 3).astype(np.float32)
    parameters = activation_parameters(spec)
    fake = FakeActivation(spec, learn=True)

    found = fake(torch.from_numpy(value)).detach().numpy()

    written = dequantize(quantize(value, parameters), parameters)
    assert np.abs(found - written).max() <= float(parameters.scale) * 1.001  # a tie may go either way
    assert (np.abs(found - written) > 1e-5).mean() < 0.02
    again = activation_parameters(fake.spec())
    assert int(again.zero_point) == int(parameters.zero_point)
    if spec.maximum:
        assert float(again.scale) == pytest.approx(float(parameters.scale), rel=1e-6)


WEIGHTS = [
    WeightQuantization(dtype="int8", axis=0),
    WeightQuantization(dtype="int8"),
    WeightQuantization(dtype="int8", axis=1),
    WeightQuantization(dtype="int8", axis=0, reduce_range=True),
    WeightQuantization(dtype="int8", axis=0, power_of_two=True),
    WeightQuantization(dtype="uint8", symmetric=False),
]


@pytest.mark.parametrize("spec", WEIGHTS, ids=repr)
def test_a_weight_is_rounded_as_it_is_written(spec: WeightQuantization) -> None:
    weight = RANDOM.standard_normal((6, 5, 3)).astype(np.float32)
    weight[2] = 0.0
    fake = FakeWeight(torch.from_numpy(weight), spec)

    found = fake(torch.from_numpy(weight)).detach().numpy()

    parameters = weight_parameters(weight, spec)
    assert found == pytest.approx(dequantize(quantize(weight, parameters), parameters), abs=1e-6)
    read_again = weight_parameters(found, spec)
    assert np.array_equal(quantize(found, read_again), quantize(weight, parameters))


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8"])
@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_are_read_from_the_learned_weight_as_they_were_trained(dtype: str, axis: int) -> None:
    weight = RANDOM.standard_normal((40, 40)).astype(np.float32)
    spec = WeightQuantization(dtype=dtype, axis=axis, block_size=16, symmetric=dtype != "uint4")
    fake = FakeWeight(torch.from_numpy(weight), spec)

    found = fake(torch.from_numpy(weight)).detach().numpy()

    blocks = quantize_blocks(found, spec)
    integers = blocks.integers.astype(np.float32)
    zero = np.repeat(blocks.zero_point.astype(np.float32), 16, axis=1)[:, : integers.shape[1]]
    written = (integers - zero) * np.repeat(blocks.scale, 16, axis=1)[:, : integers.shape[1]]
    assert (written.T if axis == 0 else written) == pytest.approx(found, abs=1e-6)
    if dtype == "int4":
        assert fake.is_clipped
        nearest = FakeWeight(torch.from_numpy(weight), spec)
        torch.nn.init.zeros_(nearest.clip)
        assert (
            np.square(found - weight).mean()
            < np.square(nearest(torch.from_numpy(weight)).detach().numpy() - weight).mean()
        )


def test_gradients_pass_inside_the_range_and_teach_the_width() -> None:
    fake = FakeActivation(ActivationQuantization(dtype="uint8", minimum=0.0, maximum=1.0), learn=True)
    value = torch.tensor([-0.5, 0.3, 0.7, 2.0], requires_grad=True)

    fake(value).sum().backward()

    assert value.grad is not None
    assert value.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert fake.width.grad is not None
    assert fake.width.grad.item() > 0  # a wider range would let 2.0 through


def test_a_clip_is_learned_and_leaves_the_largest_at_the_end_of_the_range() -> None:
    weight = torch.nn.Parameter(torch.from_numpy(RANDOM.standard_normal((4, 64)).astype(np.float32)))
    fake = FakeWeight(weight, WeightQuantization(dtype="int4", axis=0))

    rounded = fake(weight)
    rounded.square().sum().backward()

    largest = rounded.detach().abs().amax(dim=1)
    steps = rounded.detach() / (largest[:, None] / 7)
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert (largest < weight.detach().abs().amax(dim=1)).any()
    assert fake.clip.grad is not None
    assert (fake.clip.grad != 0).all()
