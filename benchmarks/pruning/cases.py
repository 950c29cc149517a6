"""What is pruned how, by whom: ours, torch's own, torch-pruning's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.harness.cifar import Images
from benchmarks.harness.networks import resnet20
from edgeport.exporter.prune.allocation import Scope
from edgeport.exporter.prune.config import Iterative, OneShot, Schedule, Structure, Units, Unstructured
from edgeport.exporter.prune.cost_model import count_costs
from edgeport.exporter.prune.importance.criteria import CRITERIA, Random, criterion_named
from edgeport.exporter.prune.pruning import prune
from edgeport.exporter.prune.samples import Samples

Tune = Callable[[torch.nn.Module], None]
"""What is done to a network when it is pruned, while masks still hold the zeros of its weights."""

_MACS = 0.5
_LEAST = 0.1
_OF_EACH_LAYER = "channels of each layer"
_IN_STEPS, _STEPS = "channels in 20 steps", Iterative(steps=20)
_WITHIN_LAYERS = ("near-zero", "zero-activations", "entropy", "random")
"""What was proposed for the channels of one layer among themselves, and chance."""
_STEPWISE = ("l1", "l2")
"""What torch-pruning scores anew before each of its steps; its others keep the gradients that they were given once."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to prune.

    Attributes:
        structure: A name of `structures()`.
        by: The criterion.
        maker: "edgeport", "torch" or "torch-pruning".
        make: Of the samples and a seed, a pruned network, tuned.

    """

    structure: str
    by: str
    maker: str
    make: Callable[[Images, int, Tune], Any]

    @property
    def name(self) -> str:
        """Of the row."""
        return f"{self.structure}, {self.by}, {self.maker}"


def structures() -> Mapping[str, Structure]:
    """What is pruned; channels are not rounded, so that criteria alone are compared.

    In steps it is done as torch-pruning does: by the scores as they are, taken anew before each step, rather than at
    once by the scores over the multiplications that each saves.
    """
    return {
        "weights 50 %": Unstructured(amount=0.5),
        "weights 70 %": Unstructured(amount=0.7),
        "channels": Units(macs=_MACS, round_to=1, least=_LEAST),
        _OF_EACH_LAYER: Units(macs=_MACS, round_to=1, least=_LEAST, scope=Scope.LAYER),
        _IN_STEPS: Units(macs=_MACS, round_to=1, least=_LEAST, per_cost=False),
    }


def _ours(structure: Structure, by: str, schedule: Schedule) -> Callable[[Images, int, Tune], Any]:
    def make(images: Images, seed: int, tune: Tune) -> Any:
        network = resnet20().eval()
        criterion = Random(seed) if by == "random" else criterion_named(by)
        samples = Samples(feeds={"images": images.images}, target=images.labels, batch=64)
        last = len(schedule.shares()) - 1

        def at_the_end(module: torch.nn.Module, step: int) -> None:
            if step == last:
                tune(module)

        prune(network, structure, criterion, samples, schedule=schedule, fine_tune=at_the_end)
        return network

    return make


def _torch(amount: float, method: str) -> Callable[[Images, int, Tune], Any]:
    def make(images: Images, seed: int, tune: Tune) -> Any:
        from torch.nn.utils import prune as torchs

        del images
        torch.manual_seed(seed)
        network = resnet20().eval()
        layers = [(one, "weight") for one in network.modules() if isinstance(one, torch.nn.Conv2d | torch.nn.Linear)]
        torchs.global_unstructured(layers, getattr(torchs, method), amount=amount)
        tune(network)
        return network

    return make


def _torch_pruning(importance: str, **options: Any) -> Callable[[Images, int, Tune], Any]:
    def make(images: Images, seed: int, tune: Tune) -> Any:
        import torch_pruning as tp

        torch.manual_seed(seed)
        network = resnet20().eval()
        example = torch.from_numpy(images.images[:2])
        score = getattr(tp.importance, importance)(**options)
        samples = Samples(feeds={"images": images.images[:2]})
        whole = count_costs(network, samples).macs({})
        # What its graph takes for one group through the shortcut that pads channels, it would cut wrongly.
        inner = {path for path, _ in network.named_modules() if path.startswith("layer") and path.endswith("conv1")}
        ignored = [
            layer
            for path, layer in network.named_modules()
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) and path not in inner
        ]
        pruner = tp.pruner.MetaPruner(
            network,
            example,
            importance=score,
            global_pruning=True,
            pruning_ratio=1.0 - _LEAST,
            max_pruning_ratio=1.0 - _LEAST,
            iterative_steps=200,
            ignored_layers=ignored,
        )
        _accumulate(network, score, images)
        while count_costs(network, samples).macs({}) > whole * (1.0 - _MACS):
            pruner.step()
        tune(network)
        return network

    return make


def _accumulate(network: Any, score: Any, images: Images) -> None:
    """Gradients, as its documentation has it: over the batch for Taylor, of each sample for the Hessian."""
    kind = type(score).__name__
    if "Taylor" not in kind and "Hessian" not in kind:
        return
    x, y = torch.from_numpy(images.images), torch.from_numpy(images.labels)
    if "Taylor" in kind:
        torch.nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        return
    score.zero_grad()
    for index in range(len(y)):  # in evaluation mode, where no sample changes what another one gives
        network.zero_grad()
        one = slice(index, index + 1)
        torch.nn.functional.cross_entropy(network(x[one]), y[one]).backward()  # type: ignore[no-untyped-call]
        score.accumulate_grad(network)


def _cases() -> tuple[Case, ...]:
    found: list[Case] = []
    for name, structure in structures().items():
        units = isinstance(structure, Units)
        for by, row in CRITERIA.items():
            if by not in {_OF_EACH_LAYER: _WITHIN_LAYERS, _IN_STEPS: _STEPWISE}.get(name, CRITERIA):
                continue
            schedule = _STEPS if name == _IN_STEPS else OneShot()
            if (row.of_units if units else row.of_weights) and not (by == "l2" and not units):
                found.append(Case(structure=name, by=by, maker="edgeport", make=_ours(structure, by, schedule)))
        if isinstance(structure, Unstructured):
            for by, method in (("l1", "L1Unstructured"), ("random", "RandomUnstructured")):
                found.append(Case(structure=name, by=by, maker="torch", make=_torch(structure.amount, method)))
    peers: dict[str, tuple[str, dict[str, Any]]] = {
        "l1": ("GroupMagnitudeImportance", {"p": 1}),
        "l2": ("GroupMagnitudeImportance", {"p": 2}),
        "batchnorm-scale": ("BNScaleImportance", {}),
        "taylor": ("GroupTaylorImportance", {}),
        "hessian": ("GroupHessianImportance", {}),
        "random": ("RandomImportance", {}),
    }
    for by, (importance, options) in peers.items():
        make = _torch_pruning(importance, **options)
        found.append(Case(structure="channels", by=by, maker="torch-pruning", make=make))
    return tuple(found)


CASES = _cases()
