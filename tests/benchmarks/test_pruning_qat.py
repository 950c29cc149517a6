"""What the training part of the pruning benchmark claims from its rows, and how it writes four bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.pruning.four_bits import clipped, four_bit_plan, write_four_bits
from benchmarks.pruning.qat import Row, qat_checks
from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.onnxruntime.rules import x86_rules
from edgeport.exporter.onnx_export import export_onnx
from edgeport.exporter.qat.fake_quant import FakeWeight


def row(name: str, bits: int, right: int, *, seed: int | None = None, difference: float | None = None) -> Row:
    told = "1" * right + "0" * (1000 - right)
    return Row(name=name, bits=bits, seed=seed, top1=right / 1000, right=told, difference=difference)


GOOD = [
    row("float", 32, 900),
    row("int8", 8, 895),
    row("int4 to nearest", 4, 850),
    row("int4 clipped", 4, 800),
    row("int8 trained", 8, 896, seed=0, difference=0.001),
    row("int4 trained", 4, 880, seed=0, difference=0.0),
]


def test_good_rows_hold() -> None:
    checks = qat_checks(GOOD)

    assert all(check.holds for check in checks), checks
    assert [check.value for check in checks[:2]] == pytest.approx([0.05, 0.6])


@pytest.mark.parametrize(
    ("bad", "claim"),
    [
        pytest.param(row("int4 trained", 4, 874, seed=1), "gives back", id="too-little-recovered"),
        pytest.param(row("int8 trained", 8, 885, seed=1), "int8: trained less", id="int8-worse"),
        pytest.param(row("int4 trained", 4, 880, seed=1, difference=0.02), "root mean square", id="not-equal"),
        pytest.param(row("int4 to nearest", 4, 897), "loses enough", id="nothing-lost"),
    ],
)
def test_the_worst_row_counts(bad: Row, claim: str) -> None:
    broken = [check.name for check in qat_checks([*GOOD, bad]) if not check.holds]

    assert len(broken) >= 1
    assert any(claim in name for name in broken)


def test_four_bits_are_written_as_they_are_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16, 5)
    ).eval()
    images = np.random.default_rng(0).standard_normal((6, 3, 4, 4)).astype(np.float32)
    model = export_onnx(net, {"images": images[:2]}, output=tmp_path / "net.onnx").model
    plan = four_bit_plan(model, x86_rules(vnni=True))
    assert sorted(plan.weights) == ["0.weight", "3.weight"]
    for layer in (net[0], net[3]):
        fake = FakeWeight(layer.weight, plan.weights["0.weight"])
        with torch.no_grad():
            layer.weight.copy_(fake(layer.weight))
    trained = export_onnx(net, {"images": images[:2]}, output=tmp_path / "trained.onnx").model

    written = write_four_bits(trained, tmp_path / "four.onnx")

    with open_reference(written.path) as run, torch.no_grad():
        assert run({"images": images})["output"] == pytest.approx(net(torch.from_numpy(images)).numpy(), abs=1e-5)
    cut = clipped(net[0].weight.detach().numpy())
    assert np.abs(cut).max() <= np.abs(net[0].weight.detach().numpy()).max()
