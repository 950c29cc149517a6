"""Scores that a loss tells: what removing a weight or a unit changes it by, to first or second order.

A unit is removed where it is read, so its derivative is that of a factor in front of it there: the sum of gradient
times weight over the weights that read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from edgeport.errors import PruningError
from edgeport.exporter.prune.graph.groups import Group, Slice
from edgeport.exporter.prune.importance.criteria import Fisher, HessianDiagonal, Taylor
from edgeport.exporter.prune.importance.granularity import incoming_of, unit_sums, weights_of
from edgeport.exporter.prune.samples import Samples

__all__ = ["GradientScorer", "HessianScorer"]


@dataclass(frozen=True)
class GradientScorer:
    """See `Taylor` and `Fisher`; one backward pass for each sample."""

    criterion: Taylor | Fisher

    def weights(self, module: torch.nn.Module, samples: Samples | None) -> dict[str, torch.Tensor]:
        """Mean over samples of |gw|, or half that of (gw)²."""
        held = weights_of(module)
        found = {name: torch.zeros_like(weight) for name, weight in held.items()}
        given = _given(samples)
        for products in _products(module, given, held):
            for name, product in products.items():
                found[name] += self._of(product)
        return {name: value / given.count for name, value in found.items()}

    def units(
        self, module: torch.nn.Module, samples: Samples | None, groups: Sequence[Group]
    ) -> dict[str, torch.Tensor]:
        """The same of the sum of gw over what reads the unit."""
        reading, held = _read_by(module, groups)
        found = _zeros(groups)
        given = _given(samples)
        for products in _products(module, given, held):
            sums = _zeros(groups)
            for group, one in reading:
                sums[group.name] += unit_sums(one, products[one.name], group.units)
            for name, value in sums.items():
                found[name] += self._of(value)
        return {name: value / given.count for name, value in found.items()}

    def _of(self, product: torch.Tensor) -> torch.Tensor:
        return product.abs() if isinstance(self.criterion, Taylor) else product.square() / 2


def _products(
    module: torch.nn.Module, samples: Samples, held: dict[str, torch.nn.Parameter]
) -> Iterator[dict[str, torch.Tensor]]:
    """Gradient times weight, of each sample's loss."""
    with _with_gradients(module, held):
        for loss in samples.losses(module, size=1):
            grads = torch.autograd.grad(loss, list(held.values()), allow_unused=True)
            yield {
                name: torch.zeros_like(weight) if grad is None else grad.detach() * weight.detach()
                for (name, weight), grad in zip(held.items(), grads, strict=True)
            }


@dataclass(frozen=True)
class HessianScorer:
    """See `HessianDiagonal`.

    With random signs z of the units, v = the weights of each unit times its sign, and H the Hessian, the sum over a
    unit of v(Hv) has the expectation wᵀHw of that unit alone: what is twice the second order of removing it.
    """

    criterion: HessianDiagonal

    def weights(self, module: torch.nn.Module, samples: Samples | None) -> dict[str, torch.Tensor]:
        """Half of |h|w², h on the diagonal; each weight is a unit of its own."""
        held = weights_of(module)
        found = {name: torch.zeros_like(weight) for name, weight in held.items()}
        generator = torch.Generator().manual_seed(self.criterion.seed)

        def signed() -> dict[str, torch.Tensor]:
            return {name: weight.detach() * _signs(weight.shape, generator).to(weight) for name, weight in held.items()}

        passes = 0
        for vectors, curved in self._curvatures(module, _given(samples), held, signed):
            passes += 1
            for name in found:
                found[name] += vectors[name] * curved[name]
        return {name: (value / passes / 2).abs() for name, value in found.items()}

    def units(
        self, module: torch.nn.Module, samples: Samples | None, groups: Sequence[Group]
    ) -> dict[str, torch.Tensor]:
        """Half of |wᵀHw| over what reads the unit."""
        reading, held = _read_by(module, groups)
        found = _zeros(groups)
        generator = torch.Generator().manual_seed(self.criterion.seed)

        def signed() -> dict[str, torch.Tensor]:
            vectors = {name: torch.zeros_like(weight) for name, weight in held.items()}
            signs = {group.name: _signs((group.units,), generator) for group in groups}
            for group, one in reading:
                weight = held[one.name].detach()
                shape = [1] * weight.ndim
                shape[one.axis] = -1
                factors = signs[group.name][one.units].to(weight).reshape(shape)
                places = one.indices.to(weight.device)
                vectors[one.name].index_copy_(one.axis, places, weight.index_select(one.axis, places) * factors)
            return vectors

        passes = 0
        for vectors, curved in self._curvatures(module, _given(samples), held, signed):
            passes += 1
            for group, one in reading:
                found[group.name] += unit_sums(one, vectors[one.name] * curved[one.name], group.units)
        return {name: (value / passes / 2).abs() for name, value in found.items()}

    def _curvatures(
        self,
        module: torch.nn.Module,
        samples: Samples,
        held: dict[str, torch.nn.Parameter],
        signed: Callable[[], dict[str, torch.Tensor]],
    ) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
        """Vectors v and Hv, for each batch and draw of signs."""
        names, weights = list(held), list(held.values())
        # The fused attention has no second derivative.
        with _with_gradients(module, held), sdpa_kernel(SDPBackend.MATH):
            for loss in samples.losses(module):
                grads = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
                for draw in range(self.criterion.draws):
                    vectors = signed()
                    pairs = [(grad, vectors[name]) for name, grad in zip(names, grads, strict=True) if grad is not None]
                    product = torch.stack([(grad * vector).sum() for grad, vector in pairs]).sum()
                    curved = torch.autograd.grad(
                        product, weights, retain_graph=draw + 1 < self.criterion.draws, allow_unused=True
                    )
                    yield (
                        vectors,
                        {
                            name: torch.zeros_like(weight) if one is None else one.detach()
                            for name, weight, one in zip(names, weights, curved, strict=True)
                        },
                    )


def _read_by(
    module: torch.nn.Module, groups: Sequence[Group]
) -> tuple[list[tuple[Group, Slice]], dict[str, torch.nn.Parameter]]:
    """Where units are read, and the weights that read them, by name."""
    reading, parameters = list(incoming_of(groups)), dict(module.named_parameters())
    return reading, {one.name: parameters[one.name] for _, one in reading}


def _zeros(groups: Sequence[Group]) -> dict[str, torch.Tensor]:
    return {group.name: torch.zeros(group.units, dtype=torch.float64) for group in groups}


def _signs(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, tuple(shape), generator=generator).double() * 2 - 1


def _given(samples: Samples | None) -> Samples:
    if samples is None:
        raise PruningError(asked="score by gradients", found="no samples", fix="give some, with labels where there are")
    return samples


@contextmanager
def _with_gradients(module: torch.nn.Module, held: dict[str, torch.nn.Parameter]) -> Iterator[None]:
    """These weights have gradients, and nothing else; what was asked before is put back."""
    before = {parameter: parameter.requires_grad for parameter in module.parameters()}
    wanted = set(held.values())
    for parameter in before:
        parameter.requires_grad = parameter in wanted
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, had in before.items():
            parameter.requires_grad = had
