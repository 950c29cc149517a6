"""The single steps in Python: export, verify, calibrate, quantize, bench.

python examples/python_api.py; takes some 15 seconds, needs the extra "torch".
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgeport
from edgeport.contracts import ModelSource


def create(width=32):
    """Pictures float32 [N, 3, 32, 32] to scores float32 [N, 10]; its weights are random, but the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(width, 4 * width, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def main():
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.savez(folder / "samples.npz", input=np.random.default_rng(1).random((64, 3, 32, 32), np.float32))

        source = ModelSource(location="python_api:create", search_path=Path(__file__).parent)
        report = edgeport.export(source, example=folder / "samples.npz", output=folder / "net.onnx")
        net = report.model.path
        verification = edgeport.verify(source, net, folder / "samples.npz")
        print(f"verified on {verification.samples} samples: {verification.outcome}")

        statistics = folder / "net.calibration.safetensors"
        edgeport.calibrate(net, folder / "samples.npz", output=statistics)
        edgeport.quantize(net, statistics, output=folder / "int8")
        found = edgeport.bench(folder / "int8", options=edgeport.BenchOptions(against=net, rounds=6, duration_s=0.05))
        median = found.summary.quantile(0.5).interval_ns
        print(f"median of int8: {median.estimate / 1e6:.3f} ms, {median.low / 1e6:.3f} to {median.high / 1e6:.3f}")
        speedup = found.comparison.speedup
        print(f"against float: {speedup.estimate:.2f}x, {speedup.low:.2f} to {speedup.high:.2f}")


if __name__ == "__main__":
    main()
