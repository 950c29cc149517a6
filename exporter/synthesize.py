"""Samples made from what a trained network remembers of its data: the statistics in its BatchNorm layers.

The method is that of Cai et al., "ZeroQ: A Novel Zero Shot Quantization Framework" (CVPR 2020), section 3.1: start from
noise, and change the images themselves until mean and standard deviation of what enters each BatchNorm layer are those
that the layer keeps. It has to be done before the export, which folds these layers into the convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from edgeport.contracts import Array, OnProgress, ProgressEvent, TensorSpec, silent
from edgeport.errors import ExportError

__all__ = ["synthesize"]

STEPS = 150
"""Of Adam, per batch; the loss is flat by then on CIFAR and ImageNet networks."""

_RATE = 0.1
_BATCH = 32


def synthesize(
    module: torch.nn.Module, inputs: Sequence[TensorSpec], count: int, seed: int, *, on_progress: OnProgress = silent
) -> dict[str, Array]:
    """Images that give every BatchNorm layer the mean and standard deviation that it keeps.

    The module is in evaluation mode, and is left as it was.

    Args:
        module: With BatchNorm layers; it takes one float input.
        inputs: That input, as declared: every axis but the first has a size. What it declares as its range is kept to.
        count: Number of samples.
        seed: Of the noise; equal arguments give equal samples on one machine.
        on_progress: Told of each batch.

    Returns:
        The samples by the input's name, float32 [count, ...].

    Raises:
        ExportError: No BatchNorm layer with statistics, several inputs, or an input that is not float or has no size.

    """
    from edgeport.exporter.batch_norm import layers_with_statistics

    spec = _only(inputs)
    layers = layers_with_statistics(module)
    if not layers:
        raise _cannot("a model without BatchNorm statistics", 'give samples, or calibration = "range"')
    generator = torch.Generator().manual_seed(seed)
    made = []
    with _frozen(module):
        for start in range(0, count, _BATCH):
            rows = min(_BATCH, count - start)
            noise = torch.randn((rows, *map(int, spec.shape[1:])), generator=generator)
            made.append(_fitted(module, layers, _inside(noise, spec), spec))
            on_progress(ProgressEvent(stage="samples", message="synthetic", done=start + rows, total=count))
    return {spec.name: np.concatenate(made)}


def _fitted(module: torch.nn.Module, layers: Sequence[Any], start: torch.Tensor, spec: TensorSpec) -> Array:
    images = start.clone()
    images.requires_grad = True
    optimizer = torch.optim.Adam([images], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = _distance(module, layers, images)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            images.copy_(_inside(images, spec))
    result: Array = images.detach().numpy()
    return result


def _distance(module: torch.nn.Module, layers: Sequence[Any], images: torch.Tensor) -> torch.Tensor:
    """How far means and standard deviations are from those kept, in units of the kept deviation, summed over layers."""
    distances: list[torch.Tensor] = []

    def look(layer: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        entering = arguments[0].transpose(0, 1).flatten(1)  # [channels, values]
        kept = layer.running_var.sqrt() + layer.eps
        mean = (entering.mean(dim=1) - layer.running_mean) / kept
        deviation = (entering.var(dim=1, unbiased=False) + layer.eps).sqrt() / kept - 1.0
        distances.append((mean**2).mean() + (deviation**2).mean())

    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        module(images)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(distances).sum()


@contextmanager
def _frozen(module: torch.nn.Module) -> Iterator[None]:
    """Gradients reach the images alone; what the module had is put back."""
    before: Mapping[Any, bool] = {parameter: parameter.requires_grad for parameter in module.parameters()}
    for parameter in before:
        parameter.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        for parameter, wanted in before.items():
            parameter.requires_grad_(requires_grad=wanted)


def _inside(images: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    return images if spec.value_range is None else images.clamp(*spec.value_range)


def _only(inputs: Sequence[TensorSpec]) -> TensorSpec:
    if len(inputs) != 1:
        raise _cannot(f"{len(inputs)} inputs", 'give samples, or calibration = "range"')
    spec = inputs[0]
    if spec.dtype != "float32" or not spec.shape or any(isinstance(size, str) for size in spec.shape[1:]):
        raise _cannot(
            f"input {spec.name!r}: {spec.dtype} {list(spec.shape)}",
            "declare a float32 input of which every axis but the first has a size, or give samples",
        )
    return spec


def _cannot(found: str, fix: str) -> ExportError:
    return ExportError(asked="make samples from BatchNorm statistics", found=found, fix=fix)
