"""Runs exported files on ONNX Runtime: the exporter itself may not import a runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeport.contracts import Arrays, OpenModel, RunModel, Verification
from edgeport.exporter.input_binding import reference_outputs
from edgeport.exporter.onnx_export import export_onnx
from edgeport.exporter.options import ExportOptions, ExportResult
from edgeport.exporter.verify import verify


@contextmanager
def open_on_onnxruntime(path: Path) -> Iterator[RunModel]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    yield lambda feeds: dict(zip(names, session.run(None, dict(feeds)), strict=True))


@pytest.fixture(scope="session")
def open_model() -> OpenModel:
    return open_on_onnxruntime


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def export_and_verify(tmp_path: Path) -> Callable[..., tuple[ExportResult, Verification]]:
    """Exports on a batch of 2 and verifies with batches of 2, 1 and 3, on other data than the example's."""

    def work(module: object, example: Arrays, **options: object) -> tuple[ExportResult, Verification]:
        settings = ExportOptions(**options)
        result = export_onnx(module.eval(), example, output=tmp_path / "model.onnx", options=settings)
        samples = {name: np.concatenate([array, array[::-1] * array.dtype.type(2)]) for name, array in example.items()}
        reference = reference_outputs(module, samples, len(next(iter(example.values()))), settings.parameters)
        if settings.output_names:
            reference = dict(zip(settings.output_names, reference.values(), strict=True))
        free = any(isinstance(size, str) for size in result.model.inputs[0].shape[:1])
        sizes = (2, 1, 3) if free else (len(next(iter(example.values()))),)
        checked = verify(reference, samples, result.model.path, open_on_onnxruntime, tolerance=1e-4, batch_sizes=sizes)
        return result, checked

    return work


@pytest.fixture
def images() -> Arrays:
    """float32 [2, 3, 16, 16]."""
    return {"x": np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)}


@pytest.fixture(scope="session")
def filled() -> Callable[[Any], Any]:
    """Fills a module with numbers, in evaluation mode: norms that saw no data would hide a wrong fold."""

    def fill(module: Any) -> Any:
        import torch

        generator = torch.Generator().manual_seed(0)
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise + 0.5 if name.endswith("running_var") else noise - 0.5)
        return module.eval()

    return fill


@pytest.fixture(scope="session")
def networks() -> SimpleNamespace:
    """Classes of small networks."""
    return SimpleNamespace(**_networks_of_images(), **_networks_of_rows())


def _networks_of_images() -> dict[str, Any]:
    """Of [N, 3, H, W]."""
    import torch
    from torch import nn

    class ConvBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(4)
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.norm(self.conv(x)))

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = ConvBlock()
            self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
            self.head = nn.Linear(4, 5)

        def forward(self, x):
            x = self.stem(x)
            x = torch.relu(self.body(x) + x)
            return self.head(x.mean((2, 3)))

    class Upsampling(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
            self.norm = nn.BatchNorm2d(6)
            self.stem = ConvBlock()

        def forward(self, x):
            return self.norm(self.up(self.stem(x)))

    return {each.__name__: each for each in (ConvBlock, Residual, Upsampling)}


def _networks_of_rows() -> dict[str, Any]:
    """Of [N, 8], or [N, T, 8]."""
    import torch
    from torch import nn

    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(8, 4), nn.Linear(6, 4)

        def forward(self, image, text):
            return self.left(image) - self.right(text)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x):
            batch, length, width = x.shape
            q, k, v = self.qkv(x).reshape(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).reshape(batch, length, width))

    class BiasedAttention(Attention):
        """With a bias from a table, torch takes another kernel apart than it captured, with other strides."""

        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(9, 2))
            self.register_buffer("index", torch.arange(25) % 9)

        def forward(self, x):
            batch, length, width = x.shape
            q, k, v = self.qkv(x).reshape(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
            bias = self.table[self.index].view(length, length, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            return self.out(y.transpose(1, 2).reshape(batch, length, width))

    return {each.__name__: each for each in (TwoInputs, Attention, BiasedAttention)}
