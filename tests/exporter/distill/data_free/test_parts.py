"""Statistics of BatchNorm, the memory, views, and networks of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeport.contracts import TensorSpec
from edgeport.errors import SamplesError
from edgeport.exporter.distill.data_free.augmentation import Views
from edgeport.exporter.distill.data_free.batch_norm import BatchNormMatch
from edgeport.exporter.distill.data_free.replay_buffer import Memory
from edgeport.exporter.distill.learned_losses.networks import encoder_of, generator_of, sizes_of


class Twisted(nn.Module):
    """Calls its layers in another order than they are named in."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.early = nn.BatchNorm1d(5), nn.BatchNorm2d(3)
        self.linear = nn.Linear(3, 5)

    def forward(self, images):
        return self.late(self.linear(self.early(images).mean(dim=(2, 3))))


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = Twisted()
    with torch.no_grad():
        for layer in (made.late, made.early):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
    return made.eval()


def by_hand(network, images, carried=None, carry=0.0):
    """Sum over layers of the lengths of both differences; statistics by numpy."""
    entering = {"early": images.numpy().astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1)}
    with torch.no_grad():
        entering["late"] = network.linear(network.early(images).mean(dim=(2, 3))).numpy().astype(np.float64).T
    total, seen = 0.0, {}
    for name, values in entering.items():
        layer = getattr(network, name)
        seen[name] = values.mean(axis=1), values.var(axis=1)
        kept = layer.running_mean.numpy(), layer.running_var.numpy()
        for index in range(2):
            own = seen[name][index]
            if carried is not None:
                own = (1 - carry) * own + carry * carried[name][index]
            total += np.sqrt(((own - kept[index]) ** 2).sum())
    return total, seen


def test_distance_is_that_of_all_layers_and_earlier_batches_count(network):
    match = BatchNormMatch(network, carry=0.75)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = torch.randn(2, 16, 3, 4, 4)
    with match.watching():
        network(first)
    expected, seen = by_hand(network, first)
    assert match.distance().item() == pytest.approx(expected, rel=1e-5)
    match.remember()

    second.requires_grad_()
    with match.watching():
        network(second)
    expected, _ = by_hand(network, second.detach(), seen, 0.75)
    found = match.distance()
    found.backward()

    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert float(second.grad.abs().sum()) > 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.early._forward_pre_hooks
    assert "early" not in str(match.state_dict().keys())  # the teacher is no part of it


def test_nothing_to_match_is_no_distance():
    match = BatchNormMatch(nn.Linear(2, 2))
    with match.watching():
        pass
    assert (match.layers, float(match.distance())) == (0, 0.0)


@pytest.mark.parametrize("value_range", [None, (-1.0, 3.0)])
def test_memory_keeps_the_newest(value_range):
    memory = Memory(5, (2,), value_range)
    with pytest.raises(IndexError):
        memory.draw(1)
    given = torch.linspace(-1, 3, 16).reshape(8, 2)
    for rows in (given[:3], given[3:6], given[6:]):
        memory.add(rows)
    assert len(memory) == 5
    kept = memory.first(9)
    step = 0.0 if value_range is None else 4 / 255 / 2 + 1e-6
    wanted = given[3:]
    distances = (kept[:, None] - wanted[None]).abs().amax(dim=2)
    assert (distances.min(dim=0).values <= step).all()
    assert (memory.draw(50)[:, None] - wanted[None]).abs().amax(dim=2).min(dim=1).values.max() <= step
    again = Memory(5, (2,), value_range)
    again.load_state_dict(memory.state_dict())
    assert torch.equal(again.first(5), kept)


def test_views_shift_by_whole_pixels_and_mirror():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 8, 8).repeat(64, 1, 1, 1)
    padded = nn.functional.pad(image[:1], (1, 1, 1, 1))
    crops = [padded[:, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    wanted = torch.cat(
        [
            *crops,
            *(
                nn.functional.pad(image[:1], (1, 1, 1, 1)).flip(3)[:, :, y : y + 8, x : x + 8]
                for y in range(3)
                for x in range(3)
            ),
        ]
    )
    made = Views(shift=0.125, mirror=True)(image)
    distances = (made[:, None] - wanted[None]).abs().amax(dim=(2, 3, 4))
    assert distances.min(dim=1).values.max() < 1e-5
    assert len(set(distances.argmin(dim=1).tolist())) > 12
    assert Views(shift=0.0)(image) is image
    numbers = torch.rand(4, 3)
    assert Views()(numbers) is numbers


def test_views_cut_out():
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 32).expand(200, 1, 32, 32)
    made = Views(shift=0.0, least=0.25)(ramp)
    spans = made[:, 0, 16, -2] - made[:, 0, 16, 1]
    assert 0.4 < float(spans.min()) < 0.6  # half of the width
    assert float(spans.max()) < 0.95
    assert float((made == 0).float().mean()) < 0.01  # nothing from outside


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 17, 40), (7,), (4, 5)])
@pytest.mark.parametrize("value_range", [None, (0.0, 1.0)])
def test_networks_of_any_size(shape, value_range):
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", *shape), value_range=value_range)
    generator = generator_of(spec, shape, latent=5, width=4)
    made = generator(generator.codes(6)).detach()
    assert made.shape == (6, *shape)
    assert encoder_of(shape, 9, 4)(made).shape == (6, 9)
    if value_range is None:
        assert float(made.transpose(0, 1).flatten(1).mean(dim=1).abs().max()) < 1e-4
    else:
        assert 0 <= float(made.min()) < float(made.max()) <= 1


@pytest.mark.parametrize(
    ("specs", "found"),
    [
        pytest.param([("a", "float32", (1, 2)), ("b", "float32", (1, 2))], "2 inputs", id="two"),
        pytest.param([("a", "int64", ("batch", 2))], "int64", id="tokens"),
        pytest.param([("a", "float32", ("batch", "n"))], "'n'", id="free"),
    ],
)
def test_inputs_that_cannot_be_made_are_refused(specs, found):
    inputs = [TensorSpec(name=name, dtype=dtype, shape=shape) for name, dtype, shape in specs]
    with pytest.raises(SamplesError, match=found):
        sizes_of(inputs, "make inputs")
