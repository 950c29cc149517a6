"""Weights are found in what training scripts save, and a mismatch is told name by name."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from safetensors.torch import save_file  # noqa: E402 (after the skip)
from torch import nn  # noqa: E402

from edgeport.contracts import ModelSource  # noqa: E402
from edgeport.errors import SourceError  # noqa: E402
from edgeport.exporter.checkpoint import read_state_dict, write_weights  # noqa: E402
from edgeport.exporter.loaders.model_source import load_module  # noqa: E402
from edgeport.exporter.loaders.weights import load_weights  # noqa: E402

WEIGHTS = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([7.0, 8.0])}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)


def _prefixed(prefix):
    return {f"{prefix}{name}": tensor for name, tensor in WEIGHTS.items()}


@pytest.mark.parametrize(
    "saved",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3},
        {"model": WEIGHTS, "optimizer": {"lr": 0.1}},
        {"model_state_dict": WEIGHTS},
        {"checkpoint": 1, "state_dict": {"model": WEIGHTS}},
        _prefixed("module."),
        _prefixed("_orig_mod."),
        _prefixed("module._orig_mod."),
    ],
    ids=["plain", "state_dict", "model", "model_state_dict", "nested", "data-parallel", "compiled", "both"],
)
def test_weights_are_found(saved, tmp_path):
    torch.save(saved, tmp_path / "m.pt")
    module = Net()

    load_weights(module, tmp_path / "m.pt")

    assert torch.equal(module.fc.weight, WEIGHTS["fc.weight"])
    assert torch.equal(module.fc.bias, WEIGHTS["fc.bias"])


def test_the_format_before_zip_files_is_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "m.pt", _use_new_zipfile_serialization=False)

    assert set(read_state_dict(tmp_path / "m.pt")) == set(WEIGHTS)


@pytest.mark.parametrize("name", ["m.safetensors", "m.bin"], ids=["by-suffix", "by-content"])
def test_safetensors_are_read(name, tmp_path):
    save_file(WEIGHTS, tmp_path / name)

    assert torch.equal(read_state_dict(tmp_path / name)["fc.bias"], WEIGHTS["fc.bias"])


def test_a_source_takes_weights(tmp_path):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    expected = torchvision.models.squeezenet1_1().state_dict()
    save_file(expected, tmp_path / "m.safetensors")

    module = load_module(ModelSource(location="torchvision:squeezenet1_1", weights=tmp_path / "m.safetensors"))

    assert all(torch.equal(tensor, expected[name]) for name, tensor in module.state_dict().items())


def test_a_mismatch_tells_missing_unexpected_and_shapes(tmp_path):
    save_file({"fc.weight": torch.zeros(2, 4), "head.bias": torch.zeros(1)}, tmp_path / "m.safetensors")

    with pytest.raises(SourceError) as caught:
        load_weights(Net(), tmp_path / "m.safetensors")

    assert caught.value.found == (
        "1 missing (fc.bias); 1 unexpected (head.bias); "
        "1 of another shape (fc.weight: (2, 4) in the file, (2, 3) in the model)"
    )
    assert caught.value.details["shapes"] == {"fc.weight": [[2, 4], [2, 3]]}


def test_a_missing_batch_counter_is_no_mismatch(tmp_path):
    trained, norm = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    trained.running_mean.fill_(5.0)
    save_file({k: v for k, v in trained.state_dict().items() if "num_batches" not in k}, tmp_path / "m.safetensors")

    load_weights(norm, tmp_path / "m.safetensors")

    assert norm.running_mean.tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("content", "name", "found"),
    [
        (b"", "m.pt", "damaged or foreign"),
        (b"no checkpoint at all", "m.pt", "damaged or foreign"),
        (b"PK\x03\x04 cut off", "m.pt", "damaged or foreign"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{cut off", "m.safetensors", "damaged safetensors"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "m.safetensors", "damaged safetensors"),
    ],
    ids=["empty", "text", "cut-zip", "cut-safetensors", "huge-header"],
)
def test_damaged_files_are_refused(content, name, found, tmp_path):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SourceError, match=found):
        read_state_dict(tmp_path / name)


def test_a_checkpoint_without_weights_is_refused(tmp_path):
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "m.pt")

    with pytest.raises(SourceError, match=r"without a state dict.*'epoch', 'lr'"):
        read_state_dict(tmp_path / "m.pt")


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(SourceError, match="no file at"):
        read_state_dict(tmp_path / "m.pt")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_what_is_written_can_be_read_by_whom_the_umask_says_and_holds_tied_weights(tmp_path):
    module = Net()
    module.again = module.fc
    (tmp_path / "other").touch()

    write_weights(module, path := tmp_path / "m.safetensors", {"of": "a test"})

    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert sorted(read_state_dict(path)) == ["again.bias", "again.weight", "fc.bias", "fc.weight"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["m.safetensors", "other"]
