"""What is removed, what stays, and that what stays computes what it should."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeport.errors import PruningError, SamplesError, SourceError
from edgeport.exporter.loaders.weights import load_weights
from edgeport.exporter.prune.allocation import Scope, choose_counts, lowest
from edgeport.exporter.prune.bn_recalibration import recalibrate
from edgeport.exporter.prune.config import Blocks, Gradual, Iterative, OneShot, Pattern, Units, Unstructured
from edgeport.exporter.prune.cost_model import GroupSpec, count_costs
from edgeport.exporter.prune.graph.dependency_groups import find_groups
from edgeport.exporter.prune.graph.group_validation import difference
from edgeport.exporter.prune.graph.surgery import remove
from edgeport.exporter.prune.importance.criteria import Magnitude, Random, Taylor
from edgeport.exporter.prune.pruning import prune
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.structure.groups import Kind
from edgeport.exporter.structure.pruned_weights import is_pruned, save_pruned


def _residual() -> Any:
    """A stem, two residual blocks with grouped and depthwise convolutions, and a concatenation."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.one = nn.Conv2d(width, 12, 1)
            self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=3)
            self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
            self.norm = nn.BatchNorm2d(12)
            self.two = nn.Conv2d(12, width, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.norm(self.depthwise(self.grouped(torch.relu(self.one(x))))))
            return x + self.two(y)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.blocks = nn.Sequential(Block(8), Block(8))
            self.side = nn.Conv2d(8, 6, 1)
            self.head = nn.Linear(14, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.blocks(torch.relu(self.stem(x)))
            both = torch.cat([x, torch.relu(self.side(x))], dim=1)
            return self.head(both.mean(dim=(2, 3)))

    return Net()


def _attention() -> Any:
    """Two blocks of attention as timm writes it, on [N, 3, 8, 8] taken as 64 tokens."""
    import torch
    from torch import nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_heads, self.head_dim = 4, 4
            self.qkv = nn.Linear(16, 48)
            self.proj = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            batch, tokens, _ = x.shape
            q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.proj(y.transpose(1, 2).reshape(batch, tokens, -1))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
            self.attn = Attention()
            self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            x = x + self.attn(self.norm1(x))
            return (x + self.mlp(self.norm2(x)),)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(3, 16)
            self.position = nn.Parameter(torch.zeros(1, 64, 16))
            self.layers = nn.ModuleList([Block(), Block(), Block()])
            self.head = nn.Linear(16, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.embed(x.flatten(2).transpose(1, 2)) + self.position
            for layer in self.layers:
                x = layer(x)[0]
            return self.head(x.mean(dim=1))

    return Net()


def _recurrent() -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(24, 16, batch_first=True)
            self.head = nn.Linear(16, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x.permute(0, 3, 1, 2).flatten(2))[0][:, -1])

    return Net()


def _shared() -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.twice = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.head = nn.Linear(8 * 16, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.stem(x))
            for _ in range(2):
                x = torch.relu(self.twice(x))
            return self.head(nn.functional.avg_pool2d(x, 2).flatten(1))

    return Net()


NETS = {"residual": _residual, "attention": _attention, "recurrent": _recurrent, "shared": _shared}

GROUPS = {
    "residual": {
        "stem": (Kind.CHANNELS, 8),
        "blocks.0.one": (Kind.CHANNELS, 4),
        "blocks.0.grouped": (Kind.CHANNELS, 4),
        "blocks.1.one": (Kind.CHANNELS, 4),
        "blocks.1.grouped": (Kind.CHANNELS, 4),
        "side": (Kind.CHANNELS, 6),
    },
    "attention": {
        **{f"layers.{index}.attn": (Kind.HEADS, 4) for index in range(3)},
        **{f"layers.{index}.mlp.0": (Kind.NEURONS, 32) for index in range(3)},
    },
    "recurrent": {"lstm": (Kind.NEURONS, 16)},
    "shared": {"stem": (Kind.CHANNELS, 8)},
}


@pytest.fixture(params=NETS)
def case(request: pytest.FixtureRequest, filled: Callable[[Any], Any]) -> tuple[str, Any]:
    return request.param, filled(NETS[request.param]())


def test_groups_are_found_and_the_rest_is_named(case: tuple[str, Any], images: Samples) -> None:
    name, net = case
    found = find_groups(net, images)
    by_root = {group.name: (group.kind, group.units) for group in found.groups}
    if name in ("residual", "shared"):  # one group, whichever of its layers it is called after
        assert sorted(by_root.values()) == sorted(GROUPS[name].values())
    else:
        assert by_root == GROUPS[name]
    assert "head" in found.left
    assert "output" in found.left["head"]


def test_removing_is_silencing(case: tuple[str, Any], images: Samples) -> None:
    _, net = case
    groups = find_groups(net, images).groups
    random = np.random.default_rng(0)
    removed = {group.name: random.permutation(group.units)[: group.units // 2].tolist() for group in groups}
    assert difference(net, groups, removed, images) < 1e-4


def test_silencing_changes_outputs(case: tuple[str, Any], images: Samples) -> None:
    """Else the test above would say nothing."""
    import torch

    _, net = case
    from edgeport.exporter.prune.graph.surgery import silence

    for group in find_groups(net, images).groups:
        quieter = copy.deepcopy(net)
        silence(quieter, [group], {group.name: [0, 1]})
        with torch.no_grad():
            one, other = images.outputs(net)["output"], images.outputs(quieter)["output"]
        assert float((one - other).abs().max()) > 1e-4 * float(one.abs().max()), group.name


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.9), round_to=st.sampled_from([1, 2, 4]))
def test_any_pruning_runs_and_is_as_small_as_it_says(seed: int, share: float, round_to: int) -> None:
    samples = Samples(feeds={"x": np.random.default_rng(seed).normal(size=(2, 3, 8, 8)).astype(np.float32)})
    net = _residual().eval()
    try:
        done = prune(net, Units(macs=share, round_to=round_to), Random(seed), samples)
    except PruningError:  # what may go does not suffice; that it says so is tested elsewhere
        return
    assert samples.outputs(net)["output"].shape == (2, 5)
    assert done.macs[1] <= done.macs[0] * (1 - share) * 1.0001
    assert done.macs[1] == count_costs(net, samples).macs({})
    groups = {group.name: group for group in find_groups(net, samples).groups}
    for group in groups.values():
        assert group.units * group.width % round_to == 0 or group.name not in done.removed
    assert done.weights[1] == sum(one.numel() for one in net.parameters()) < done.weights[0]


@pytest.mark.parametrize("name", ["residual", "attention", "recurrent"])
def test_a_pruned_network_comes_back_from_disk(
    name: str, images: Samples, filled: Callable[[Any], Any], tmp_path: Path
) -> None:
    import torch

    net = filled(NETS[name]())
    prune(net, Units(macs=0.3, round_to=1), Magnitude(), images)
    save_pruned(net, path := tmp_path / "net.safetensors")
    assert is_pruned(path)

    fresh = NETS[name]().eval()
    load_weights(fresh, path)

    with torch.no_grad():
        torch.testing.assert_close(images.outputs(fresh)["output"], images.outputs(net)["output"])
    assert sum(one.numel() for one in fresh.parameters()) == sum(one.numel() for one in net.parameters())


def test_a_convolution_that_became_depthwise_comes_back_from_disk(
    images: Samples, filled: Callable[[Any], Any], tmp_path: Path
) -> None:
    """First it loses its multiplier, then channels: its shapes tell no more how many groups it has."""
    import torch
    from torch import nn

    def made() -> nn.Module:
        layers = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=8), nn.ReLU(), nn.Conv2d(16, 4, 1)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

    net = filled(made())
    for _ in range(2):
        groups = [one for one in find_groups(net, images).groups if any(part.module == "1" for part in one.slices)]
        remove(net, groups, {"1": [0]})
    save_pruned(net, path := tmp_path / "net.safetensors")
    fresh = made().eval()
    load_weights(fresh, path)
    assert (fresh[1].groups, fresh[1].in_channels, fresh[1].out_channels) == (7, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(images.outputs(fresh)["output"], images.outputs(net)["output"])


def test_why_heads_of_torchs_own_attention_stay_is_said(images: Samples) -> None:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(3, 16)
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
            self.head = nn.Linear(16, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.embed(x.flatten(2).transpose(1, 2))
            tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
            return self.head(tokens.mean(1))

    assert "attention (MultiheadAttention) goes along, which ties its heads to its width" in set(
        find_groups(Net().eval(), images).left.values()
    )


def test_blocks_go_by_their_influence_and_come_back_from_disk(
    images: Samples, filled: Callable[[Any], Any], tmp_path: Path
) -> None:
    import torch

    net = filled(_attention())
    with torch.no_grad():  # the second block hardly changes what goes through it
        for part in (net.layers[1].attn.proj, net.layers[1].mlp[2]):
            part.weight.mul_(1e-3)
            part.bias.mul_(1e-3)
        before = images.outputs(net)["output"]
    done = prune(net, Blocks(count=1), Random(), images)
    assert done.blocks == ("layers.1",)
    save_pruned(net, path := tmp_path / "net.safetensors")
    fresh = _attention().eval()
    load_weights(fresh, path)
    with torch.no_grad():
        after = images.outputs(fresh)["output"]
    torch.testing.assert_close(after, before, atol=5e-3 * float(before.abs().max()), rtol=0)


@pytest.mark.parametrize("other", ["recurrent", "shared"])
def test_weights_of_another_network_are_refused(
    other: str, images: Samples, filled: Callable[[Any], Any], tmp_path: Path
) -> None:
    net = filled(_residual())
    prune(net, Units(macs=0.3, round_to=1), Magnitude(), images)
    save_pruned(net, path := tmp_path / "net.safetensors")
    with pytest.raises(SourceError):
        load_weights(NETS[other](), path)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"layers.0.attn.num_heads": 8}, "has 4"),
        ({"layers.0.training": 1}, "has True"),
        ({"nowhere.size": 1}, "has None"),
    ],
    ids=str,
)
def test_a_record_sets_no_attribute_but_smaller_sizes(sizes: dict[str, int], says: str, tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file

    net = _attention()
    record = {"schema_version": 1, "sizes": sizes, "blocks": {}}
    save_file(net.state_dict(), path := tmp_path / "net.safetensors", metadata={"edgeport.pruning": json.dumps(record)})
    with pytest.raises(SourceError, match=says):
        load_weights(_attention(), path)


@pytest.mark.parametrize(
    "schedule", [OneShot(), Iterative(steps=3), Gradual(steps=3)], ids=lambda one: type(one).__name__
)
def test_weights_go_in_steps_and_training_leaves_them_zero(net: Any, images: Samples, schedule: Any) -> None:
    import torch

    seen: list[float] = []

    def train(module: Any, step: int) -> None:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for loss in images.losses(module):
            loss.backward()
        optimizer.step()
        weights = [module[index].weight for index in (0, 3, 8)]
        seen.append(sum(int((one == 0).sum()) for one in weights) / sum(one.numel() for one in weights))
        assert step == len(seen) - 1

    done = prune(net, Unstructured(amount=0.6), Magnitude(), images, schedule=schedule, fine_tune=train)

    np.testing.assert_allclose(seen, [0.6 * share for share in schedule.shares()], atol=0.01)
    assert done.zeros == pytest.approx(0.6, abs=0.01)
    assert "0.weight_mask" not in net.state_dict()


def test_the_weights_of_attention_are_trained_too(filled: Callable[[Any], Any]) -> None:
    """Its last layer is read, never called, by which alone its mask would be put in front of it once only."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
            return found

    net = filled(Net())
    samples = Samples(feeds={"tokens": np.random.default_rng(0).normal(size=(8, 5, 16)).astype(np.float32)})
    before: list[torch.Tensor] = []

    def train(module: Any, step: int) -> None:
        del step
        before.append(module.attention.out_proj.weight.detach().clone())
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            module(torch.from_numpy(samples.feeds["tokens"])).square().mean().backward()
            optimizer.step()

    prune(net, Unstructured(amount=0.5), Magnitude(), samples, fine_tune=train)

    (was,), weight = before, net.attention.out_proj.weight
    assert torch.equal(was == 0, weight == 0)
    assert not torch.equal(was, weight)
    assert not net._forward_pre_hooks


def test_random_steps_do_not_take_more_than_is_asked(net: Any, images: Samples) -> None:
    assert prune(net, Unstructured(amount=0.5), Random(), images, schedule=Iterative(steps=4)).zeros == pytest.approx(
        0.5, abs=0.01
    )


def test_channels_go_in_steps(images: Samples, filled: Callable[[Any], Any]) -> None:
    macs: list[float] = []
    net = filled(_residual())
    whole = count_costs(net, images).macs({})
    structure = Units(macs=0.6, round_to=1)
    done = prune(
        net,
        structure,
        Magnitude(),
        images,
        schedule=Iterative(steps=3),
        fine_tune=lambda module, _: macs.append(count_costs(module, images).macs({}) / whole),
    )
    for found, most in zip(macs, (0.8, 0.6, 0.4), strict=True):
        assert most - 0.15 < found <= most
    assert all(0 < gone < units for gone, units in done.removed.values())


def test_what_must_stay_is_a_share_of_the_network_before_the_first_step(
    images: Samples, filled: Callable[[Any], Any]
) -> None:
    net = filled(_residual())
    asked = Units(macs=0.7, round_to=1, least=0.3, per_cost=False)
    done = prune(net, asked, Magnitude(), images, schedule=Iterative(steps=4))
    assert all(units - gone >= 0.3 * units for gone, units in done.removed.values())


def test_channels_of_a_convolution_that_became_depthwise_are_told_by_themselves(
    images: Samples, filled: Callable[[Any], Any]
) -> None:
    from torch import nn

    layers = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=8), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = filled(nn.Sequential(*layers, nn.Linear(16, 5)))
    done = prune(net, Units(macs=0.7, round_to=1), Magnitude(), images, schedule=Iterative(steps=2))
    assert done.removed["1"] == (1, 2)
    gone, units = done.removed["1 from step 2"]
    assert 0 < gone < units == 8


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (4, 8)], ids=["2:4", "4:8"])
def test_patterns_keep_the_best_of_every_few_inputs(net: Any, images: Samples, keep: int, of: int) -> None:
    import torch

    before = net[3].weight.detach().clone()
    done = prune(net, Pattern(keep=keep, of=of), Magnitude(), images)
    after = net[3].weight.detach()
    parts = after.movedim(1, -1).reshape(-1, of)
    assert bool(((parts != 0).sum(dim=1) == keep).all())
    expected = before.movedim(1, -1).reshape(-1, of).abs().topk(keep, dim=1).values.sum(dim=1)
    torch.testing.assert_close(parts.abs().sum(dim=1), expected)
    assert done.left["0.weight"] == f"its inputs are no multiple of {of}"  # three colours


def test_layers_lose_the_same_share_where_they_do_not_compete() -> None:
    group_specs = [
        GroupSpec(name=name, kind="channels", units=units, scores=tuple(float(factor * unit) for unit in range(units)))
        for name, units, factor in (("a", 32, 1), ("b", 64, 100))
    ]
    counts = choose_counts(group_specs, lambda counts: sum(counts.values()) >= 48, scope=Scope.LAYER, round_to=8)
    assert counts == {"a": 16, "b": 32}
    counts = choose_counts(group_specs, lambda counts: sum(counts.values()) >= 24, round_to=8, least=0.25)
    assert counts == {"a": 24, "b": 0}
    assert lowest(group_specs[0], 3) == [0, 1, 2]


def test_what_is_left_is_rounded_from_any_width() -> None:
    group_spec = GroupSpec(name="a", kind="channels", units=21, scores=tuple(map(float, range(21))))
    counts = choose_counts([group_spec], lambda counts: counts["a"] >= 1, round_to=8)
    assert 21 - counts["a"] == 16
    with pytest.raises(PruningError, match="ask for less"):
        choose_counts([group_spec], lambda counts: counts["a"] >= 20, round_to=8)
    for units, left in ((8, 8), (9, 8), (16, 8), (17, 8)):
        group_spec = GroupSpec(name="a", kind="channels", units=units, scores=(1.0,) * units)
        assert units - choose_counts([group_spec], lambda _: False, round_to=8, far=True)["a"] == left


def test_saving_weighs_scores() -> None:
    group_specs = [GroupSpec(name=name, kind="channels", units=8, scores=(1.0,) * 8) for name in ("dear", "cheap")]
    price = {"dear": 10.0, "cheap": 1.0}
    counts = choose_counts(
        group_specs,
        lambda counts: sum(counts.values()) >= 4,
        saving=lambda one, other: sum(price[name] * (other[name] - one[name]) for name in price),
    )
    assert counts == {"dear": 4, "cheap": 0}


def test_networks_without_anything_to_remove_are_refused_by_name(images: Samples, filled: Callable[[Any], Any]) -> None:
    from torch import nn

    net = filled(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))
    with pytest.raises(PruningError, match="output of the network"):
        prune(net, Units(macs=0.5), Taylor(), images)


def test_a_module_that_was_looked_at_is_as_it_was(net: Any, images: Samples) -> None:
    import torch

    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    find_groups(net, images)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_statistics_are_those_of_the_samples(net: Any, images: Samples) -> None:
    import torch

    weights = {name: one.clone() for name, one in net.named_parameters()}
    assert recalibrate(net, images.first(4)) == 2
    with torch.no_grad():
        entering = net[0](torch.from_numpy(images.feeds["x"][:4]))
    torch.testing.assert_close(net[1].running_mean, entering.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(net[1].running_var, entering.var(dim=(0, 2, 3), unbiased=True))
    assert not net[1].training
    assert net[1].momentum == 0.1
    assert all(torch.equal(weights[name], one) for name, one in net.named_parameters())


def test_statistics_are_taken_before_training(net: Any, images: Samples) -> None:
    before = net[4].running_mean.clone()
    seen: list[bool] = []
    prune(
        net,
        Unstructured(amount=0.5),
        Magnitude(),
        images,
        recalibrated=True,
        fine_tune=lambda module, _: seen.append(bool((module[4].running_mean != before).any())),
    )
    assert seen == [True]


def test_a_last_head_comes_back_from_disk(images: Samples, filled: Callable[[Any], Any], tmp_path: Path) -> None:
    import torch

    net = filled(_attention())
    groups = [group for group in find_groups(net, images).groups if group.kind is Kind.HEADS]
    remove(net, groups, {group.name: [0, 1, 3] for group in groups})
    save_pruned(net, path := tmp_path / "net.safetensors")
    fresh = _attention().eval()
    load_weights(fresh, path)
    assert fresh.layers[0].attn.num_heads == 1
    with torch.no_grad():
        torch.testing.assert_close(images.outputs(fresh)["output"], images.outputs(net)["output"])


def test_samples_that_the_module_does_not_take_are_an_error_about_the_samples():
    import torch

    with pytest.raises(SamplesError, match=r"run Linear on the samples \(input float32 \[4, 7\]\)"):
        Samples(feeds={"input": np.zeros((4, 7), np.float32)}).require_fit(torch.nn.Linear(8, 2))
    Samples(feeds={"input": np.zeros((4, 8), np.float32)}).require_fit(torch.nn.Linear(8, 2))
    with pytest.raises(SamplesError, match="NaN or Inf in input"):
        Samples(feeds={"input": np.full((4, 8), np.nan, np.float32)}).require_fit(torch.nn.Linear(8, 2))


@pytest.mark.parametrize(("added", "passes"), [(float("nan"), False), (float("inf"), True)], ids=["NaN", "Inf"])
def test_outputs_that_are_no_numbers_are_not_equal(added: float, passes: bool) -> None:
    """An infinity that masks one class is the same in both."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x)) - torch.tensor([0.0, added, 0.0])

    samples = Samples(feeds={"x": np.ones((2, 4), np.float32)})
    assert bool(find_groups(Net().eval(), samples).groups) is passes


def test_what_can_not_be_followed_is_said_with_what_can_be_done():
    """Parts of one tensor that are concatenated again, which torch-pruning 1.6 can't lay out."""
    import torch

    class Gated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = torch.nn.Conv2d(3, 16, 1), torch.nn.Conv2d(16, 4, 1)

        def forward(self, image):
            gate, value = self.first(image).chunk(2, 1)
            return self.last(torch.cat([torch.sigmoid(gate) * value, value], 1))

    samples = Samples(feeds={"image": np.ones((2, 3, 4, 4), np.float32)})
    with pytest.raises(PruningError, match=r"torch-pruning can't trace it .*single weights, patterns or blocks"):
        prune(Gated().eval(), Units(macs=0.5), Random(), samples)


def test_every_layer_goes_or_says_why():
    """A map of one channel that weighs all others ties them together, and no layer of them is left out silently."""
    import torch
    from torch import nn

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body = nn.Conv1d(1, 16, 5), nn.Conv1d(16, 16, 3)
            self.norm, self.score, self.head = nn.GroupNorm(4, 16), nn.Conv1d(16, 1, 1), nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.body(torch.relu(self.stem(x))))
            return self.head((x * torch.softmax(self.score(x), -1)).sum(-1))

    noise = np.random.default_rng(0).normal(size=(4, 1, 32)).astype(np.float32)
    found = find_groups(Pooled().eval(), Samples(feeds={"x": noise}))
    told = {group.name for group in found.groups} | found.left.keys()
    assert {"stem", "body", "score", "head"} <= told


def test_what_stays_with_another_layer_says_so():
    """A view that keeps its sizes: what gives it and what is added to it have the same channels."""
    import torch
    from torch import nn

    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 16), nn.Linear(4, 16)
            self.inner, self.head = nn.Linear(16, 8), nn.Linear(8, 2)
            self.lstm = nn.LSTM(4, 8, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            last = self.lstm(x)[1][0][-1]  # by its state alone, which torch-pruning does not follow
            both = (self.one(x[:, 0]) + self.other(x[:, 1])).view(-1, 4, 4).flatten(1)
            return self.head(torch.relu(self.inner(both)) + last)

    noise = np.random.default_rng(0).normal(size=(4, 3, 4)).astype(np.float32)
    found = find_groups(Viewed().eval(), Samples(feeds={"x": noise}))
    assert sum(f"of {name}, which stay" in reason for reason in found.left.values() for name in ("one", "other")) == 1
    assert found.left["lstm"] == "what it gives can't be followed"


def test_one_slope_for_all_channels_stays_as_it_is(images: Samples, filled: Callable[[Any], Any]) -> None:
    from torch import nn

    layers = [nn.Conv2d(3, 8, 1), nn.PReLU(), nn.Conv2d(8, 8, 1), nn.PReLU(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = filled(nn.Sequential(*layers, nn.Linear(8, 5)))
    assert {group.name for group in find_groups(net, images).groups} == {"0", "2"}
    prune(net, Units(macs=0.5, round_to=1), Magnitude(), images)
    assert net[1].weight.numel() == net[1].num_parameters == 1
    assert net[3].num_parameters == net[2].out_channels
