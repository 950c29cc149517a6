"""Fifty architectures of torchvision and timm, random weights, exported and verified on two batch sizes.

pytest -m slow tests/exporter/test_architectures.py
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edgeport.contracts import ModelSource, OpenModel, Outcome
from edgeport.exporter.input_binding import reference_outputs
from edgeport.exporter.loaders.model_source import load_module
from edgeport.exporter.onnx_export import export_onnx
from edgeport.exporter.verify import verify
from edgeport.onnx_files import read_ir

TOLERANCE = 1e-3
"""Relative to the largest output; random weights let small differences grow more than trained ones."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """`size` is the height and width of the image; small where the network allows it."""

    location: str
    size: int = 64
    arguments: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.location


def _torchvision(*names: str, size: int = 64) -> list[Architecture]:
    return [Architecture(location=f"torchvision:{name}", size=size) for name in names]


def _timm(*names: str, size: int = 64, **arguments: object) -> list[Architecture]:
    return [Architecture(location=f"timm:{name}", size=size, arguments=arguments) for name in names]


ARCHITECTURES = [
    *_torchvision("alexnet", "vgg11_bn", "squeezenet1_1"),
    *_torchvision("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121"),
    *_torchvision("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet1_0", "shufflenet_v2_x1_0"),
    *_torchvision("efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "regnet_x_400mf", "convnext_tiny"),
    *_torchvision("googlenet"),
    *_torchvision("inception_v3", size=96),
    *_torchvision("vit_b_16", "swin_t", "swin_v2_t", "maxvit_t", size=224),
    *_torchvision("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"),
    *_timm("resnet26d", "resnetv2_50", "seresnet50", "ecaresnet26t", "res2net50_26w_4s", "skresnet18", "cspresnet50"),
    *_timm("efficientnet_lite0", "mobilenetv4_conv_small", "ghostnet_100", "tinynet_a", "mixnet_s", "fbnetc_100"),
    *_timm("repvgg_a0", "dla34", "hrnet_w18_small", "nfnet_f0", "convnextv2_atto", "fastvit_t8"),
    *_timm("deit_tiny_patch16_224", "vit_tiny_patch16_224", img_size=64),
    *_timm("mobilevit_xxs", "edgenext_xx_small", "poolformer_s12", size=64),
    *_timm("levit_128s", "mixer_s32_224", "beit_base_patch16_224", size=224),
]


def test_there_are_at_least_fifty() -> None:
    assert len({each.location for each in ARCHITECTURES}) >= 50


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_architecture_exports_and_computes_the_same(
    architecture: Architecture, tmp_path: Path, open_model: OpenModel
) -> None:
    import torch

    zoo = architecture.location.partition(":")[0]
    if importlib.util.find_spec(zoo) is None:
        pytest.skip(f"{zoo} is not installed")
    torch.manual_seed(0)
    module = load_module(ModelSource(location=architecture.location, arguments=architecture.arguments))
    size = architecture.arguments.get("img_size", architecture.size)
    samples = {"x": np.random.default_rng(1).normal(size=(4, 3, size, size)).astype(np.float32)}
    _break_symmetry(module, samples["x"])

    result = export_onnx(module, {"x": samples["x"][:2]}, output=tmp_path / "model.onnx")

    assert result.model.inputs[0].shape == ("batch", 3, size, size)
    reference = reference_outputs(module, samples, 4)
    assert all(np.ptp(value, axis=0).max() > 1e-6 for value in reference.values()), "equal outputs prove nothing"
    checked = verify(reference, samples, result.model.path, open_model, tolerance=TOLERANCE, batch_sizes=(2, 3))
    worst = max(checked.outputs, key=lambda output: output.max_abs)
    nodes = list(read_ir(result.model.path).graph)
    named = sum("edgeport.module" in node.metadata_props for node in nodes)
    unfolded = _norms_after_convolutions(nodes)
    variable = _layers_with_computed_weights(nodes)
    print(  # noqa: T201 (shown with -rP; the figures of the run)
        f"{architecture.location}: max abs {worst.max_abs:.2e}, SQNR {worst.sqnr_db:.0f} dB, {len(nodes)} nodes, "
        f"{named} with a module, {unfolded} norms after convolutions, {variable} computed weights, {result.capture}, "
        f"{sum(result.seconds.values()):.1f} s, {'; '.join(result.notes)}"
    )
    assert checked.outcome is Outcome.PASS, worst
    assert named > 0.5 * len(nodes)
    assert unfolded == 0
    assert variable == 0


def _break_symmetry(module: object, x: np.ndarray) -> None:
    """Fresh networks hide faults: norms that have seen nothing, heads of zeros, layer scales of 1e-6."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point() or not bool((tensor == tensor.flatten()[0]).all()):
            continue
        value, noise = float(tensor.flatten()[0]), torch.rand(tensor.shape, generator=generator)
        if value == 0:
            tensor.copy_(0.3 * noise if name.endswith("gain") else 0.1 * (noise - 0.5))
        else:
            tensor.copy_((0.1 if abs(value) < 0.1 else value) * (0.8 + 0.4 * noise))
    norms = [each for each in module.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        module(torch.from_numpy(x))
    module.eval()


def _norms_after_convolutions(nodes: list[object]) -> int:
    """A norm whose convolution feeds nothing else should have been folded."""
    norms = [node for node in nodes if node.op_type == "BatchNormalization"]
    producers = [node.inputs[0].producer() for node in norms]
    return sum(
        producer is not None and producer.op_type == "Conv" and len(producer.outputs[0].uses()) == 1
        for producer in producers
    )


def _layers_with_computed_weights(nodes: list[object]) -> int:
    """Weights must be constants, or they can't be quantized ahead."""
    layers = [node for node in nodes if node.op_type in ("Conv", "Gemm")]
    return sum(not node.inputs[1].is_initializer() for node in layers)
