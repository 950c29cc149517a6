"""Known architectures, random weights: pruned, run, kept, loaded, exported and verified, or refused by name.

pytest -m slow tests/exporter/prune/test_architectures.py
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeport.contracts import Outcome
from edgeport.exporter.input_binding import reference_outputs
from edgeport.exporter.loaders.weights import load_weights
from edgeport.exporter.onnx_export import export_onnx
from edgeport.exporter.options import ExportOptions
from edgeport.exporter.prune.checkpoint import save_pruned
from edgeport.exporter.prune.config import Units
from edgeport.exporter.prune.graph.dependency_groups import find_groups
from edgeport.exporter.prune.graph.group_validation import difference
from edgeport.exporter.prune.graph.groups import Kind
from edgeport.exporter.prune.importance.criteria import Magnitude
from edgeport.exporter.prune.pruning import prune
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.verify import verify


@dataclass(frozen=True, kw_only=True)
class Network:
    """What it is, and what must be found in it.

    Attributes:
        name: For the test.
        needs: Packages.
        build: Makes it; twice the same.
        feeds: Two samples.
        macs: Share of the multiplications that is asked.
        kinds: Of units that go.
        kept: What is left, and the reason, in part.
        options: Of the export.

    """

    name: str
    needs: tuple[str, ...]
    build: Callable[[], Any]
    feeds: Callable[[], dict[str, np.ndarray]]
    macs: float
    kinds: frozenset[Kind]
    kept: tuple[str, str] = ("", "")
    options: ExportOptions = ExportOptions()  # noqa: RUF009 (frozen)

    def __str__(self) -> str:
        return self.name


def _image(size: int) -> Callable[[], dict[str, np.ndarray]]:
    return lambda: {"x": np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)}


def _torchvision(name: str, **arguments: Any) -> Callable[[], Any]:
    def build() -> Any:
        from torchvision import models

        return models.get_model(name, weights=None, **arguments)

    return build


def _timm(name: str, **arguments: Any) -> Callable[[], Any]:
    def build() -> Any:
        import timm

        return timm.create_model(name, **arguments)

    return build


def _bert() -> Any:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, vocab_size=100
    )

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert, self.head = BertModel(config, add_pooling_layer=False), torch.nn.Linear(64, 3)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return self.head(hidden[:, 0])

    return Classifier()


def _detector() -> Any:
    """SSDLite without what comes after the network: boxes and scores before any suppression."""
    import torch
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    class Raw(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            whole = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=10)
            self.backbone, self.head = whole.backbone, whole.head

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return self.head(list(self.backbone(x).values()))

    return Raw()


def _lstm() -> Any:
    import torch

    class Speech(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front = torch.nn.Linear(20, 32)
            self.lstm = torch.nn.LSTM(32, 48, batch_first=True)
            self.head = torch.nn.Linear(48, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(torch.relu(self.front(x)))[0][:, -1])

    return Speech()


def _tokens() -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(0, 100, (2, 16))
    return {"input_ids": ids, "attention_mask": np.ones((2, 16), np.int64)}


CHANNELS, NEURONS = frozenset({Kind.CHANNELS}), frozenset({Kind.NEURONS})
BOTH, HEADS = CHANNELS | NEURONS, frozenset({Kind.HEADS, Kind.NEURONS})
VISION = ("torchvision",)


def _vision(name: str, model: str, macs: float, kinds: frozenset[Kind], **more: Any) -> Network:
    """Of torchvision, on images of 64 pixels."""
    build = _torchvision(model, **more.pop("arguments", {}))
    return Network(name=name, needs=VISION, build=build, feeds=_image(64), macs=macs, kinds=kinds, **more)


NETWORKS = [
    _vision("resnet18", "resnet18", 0.5, CHANNELS),
    _vision("resnext50", "resnext50_32x4d", 0.4, CHANNELS),
    _vision("mobilenet_v2", "mobilenet_v2", 0.5, CHANNELS),
    _vision("mobilenet_v3", "mobilenet_v3_small", 0.4, BOTH),
    _vision("efficientnet", "efficientnet_b0", 0.4, CHANNELS),
    _vision("densenet", "densenet121", 0.4, CHANNELS),
    _vision("convnext", "convnext_tiny", 0.4, NEURONS, kept=("features.6.1", "a parameter outside")),
    Network(
        name="vit",
        needs=("timm",),
        build=_timm("vit_tiny_patch16_224", img_size=64),
        feeds=_image(64),
        macs=0.4,
        kinds=HEADS,
        kept=("blocks.11.mlp.fc2", "a parameter outside"),
    ),
    _vision(
        "vit of torchvision",
        "vit_b_16",
        0.3,
        NEURONS,
        arguments={"image_size": 64},
        kept=("encoder.layers.encoder_layer_11.mlp.3", "MultiheadAttention"),
    ),
    _vision("swin", "swin_t", 0.3, NEURONS, kept=("features.1.0.attn", "does not run")),
    Network(name="bert", needs=("transformers",), build=_bert, feeds=_tokens, macs=0.3, kinds=HEADS),
    Network(name="detector", needs=VISION, build=_detector, feeds=_image(128), macs=0.3, kinds=CHANNELS),
    Network(
        name="lstm",
        needs=(),
        build=_lstm,
        feeds=lambda: {"x": np.random.default_rng(0).normal(size=(2, 9, 20)).astype(np.float32)},
        macs=0.4,
        kinds=NEURONS,
    ),
]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_architecture_is_pruned_kept_exported_and_verified(network: Network, tmp_path: Path, open_model: Any) -> None:
    import torch

    for package in network.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    torch.manual_seed(0)
    module = network.build().eval()
    _stir(module)
    samples = Samples(feeds=network.feeds())

    found = find_groups(module, samples)
    assert {group.kind for group in found.groups} == network.kinds
    path, reason = network.kept
    assert not path or reason in found.left[path]
    trial = {group.name: range(0, group.units - 1, 2) for group in found.groups}
    assert difference(module, found.groups, trial, samples) < 1e-3

    done = prune(module, Units(macs=network.macs, round_to=1), Magnitude(), samples)
    assert done.macs[1] <= (1 - network.macs) * done.macs[0]
    save_pruned(module, kept := tmp_path / "net.safetensors")
    again = network.build().eval()
    load_weights(again, kept)

    result = export_onnx(again, samples.feeds, output=tmp_path / "net.onnx", options=network.options)
    reference = reference_outputs(module, samples.feeds, 2)
    checked = verify(reference, samples.feeds, result.model.path, open_model, tolerance=1e-3, batch_sizes=(2, 1))
    assert checked.outcome is Outcome.PASS, checked.outputs


def _stir(module: Any) -> None:
    """Norms and layer scales of fresh networks are ones, zeros, or 1e-6: then nothing would depend on most channels."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and bool((tensor == tensor.flatten()[0]).all()):
            noise = torch.rand(tensor.shape, generator=generator)
            centre = 0.0 if float(tensor.flatten()[0]) == 0 and not name.endswith("running_var") else 1.0
            tensor.copy_(centre + 0.4 * (noise - 0.5))
