"""Architectures with random weights whose outputs vary: a factory for an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.robustness.networks import smooth_images
from edgeport.contracts import ModelSource
from edgeport.exporter.loaders.model_source import load_module

_TINY = 1e-2


def create(source: str, arguments: Mapping[str, Any], shape: list[int]) -> nn.Module:
    """`torchvision:NAME` or `timm:NAME`, its weights scaled so that each layer's outputs have a variance near 1.

    Args:
        source: Which.
        arguments: Of its factory.
        shape: Of a batch of images [N, 3, H, W] to scale it by.

    """
    network = load_module(ModelSource(location=source, arguments=arguments))
    vary(network, torch.from_numpy(smooth_images(*shape)))
    return network


def vary(network: nn.Module, images: torch.Tensor) -> None:
    """Layer-sequential unit variance (Mishkin and Matas, "All you need is a good init", 2015), in place.

    Scales that a network begins training with near 0 (of residual branches, of layers) become 1, and statistics of
    batch normalization are those of `images`; else a random network's answers hardly depend on what it sees.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            is_scale = parameter.ndim <= 1 or "gamma" in name or "layer_scale" in name
            if is_scale and not name.endswith("bias") and float(parameter.abs().max()) < _TINY:
                parameter.fill_(1.0)
    hooks = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.train()
            module.momentum = 1.0
        elif isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(_Once()))
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    network.eval()


class _Once:
    """Divides a layer's weights by the deviation of what it gives, the first time it is called."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self, module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        if self._done:
            return output
        self._done = True
        deviation = float(output.std())
        if not deviation > 1e-6:
            return output
        for parameter in (module.weight, module.bias):
            if isinstance(parameter, nn.Parameter):
                parameter.div_(deviation)
        return output / deviation
