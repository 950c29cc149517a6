"""A checkpoint whose pickle runs a command is refused, and the command did not run; there is no unsafe retry."""

from __future__ import annotations

import os
import pickle  # noqa: TID251 (the attack is made here)
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport.contracts import ModelSource, to_jsonable  # noqa: E402 (after the skip)
from edgeport.errors import SourceError, UnsafeFileError  # noqa: E402
from edgeport.exporter.checkpoint import read_state_dict  # noqa: E402
from edgeport.exporter.loaders.model_source import load_module  # noqa: E402
from edgeport.exporter.silence import quiet  # noqa: E402
from edgeport.isolation import run_isolated  # noqa: E402


class Command:
    """Unpickling this runs a command that leaves a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


def _plain(path, attack):
    path.write_bytes(pickle.dumps(attack))


def _among_weights(path, attack):
    torch.save({"fc.weight": torch.zeros(2, 3), "extra": attack}, path)


def _before_zip(path, attack):
    torch.save({"state_dict": attack}, path, _use_new_zipfile_serialization=False)


ATTACKS = {"plain": _plain, "among-weights": _among_weights, "before-zip": _before_zip}


@pytest.mark.parametrize("write", ATTACKS.values(), ids=ATTACKS.keys())
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_a_command_in_a_checkpoint_does_not_run(write, suffix, tmp_path):
    witness, checkpoint = tmp_path / "witness", tmp_path / f"model{suffix}"
    write(checkpoint, Command(witness))

    with pytest.raises(UnsafeFileError) as caught:
        read_state_dict(checkpoint)

    assert not witness.exists()
    assert "nothing of it was executed" in caught.value.found
    assert "safetensors" in caught.value.fix


def test_the_attack_would_have_worked(tmp_path):
    """Else the tests above prove nothing."""
    witness, checkpoint = tmp_path / "witness", tmp_path / "model.pt"
    _among_weights(checkpoint, Command(witness))

    torch.load(checkpoint, weights_only=False)

    assert witness.exists()


def test_the_unsafe_loader_is_never_asked(tmp_path, monkeypatch):
    asked = []
    real = torch.load

    def watched(*args, **kwargs):
        asked.append(kwargs.get("weights_only"))
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "load", watched)
    _among_weights(tmp_path / "model.pt", Command(tmp_path / "witness"))

    with pytest.raises(UnsafeFileError):
        read_state_dict(tmp_path / "model.pt")

    assert asked == [True]


def test_the_export_child_refuses_too(tmp_path):
    witness = tmp_path / "witness"
    _among_weights(tmp_path / "model.pt", Command(witness))
    (tmp_path / "attacked_net.py").write_text("import torch\n\n\ndef build():\n    return torch.nn.Linear(3, 2)\n")
    source = ModelSource(location="attacked_net:build", search_path=tmp_path, weights=tmp_path / "model.pt")
    payload = {"source": to_jsonable(source), "example": "unused.npz", "output": str(tmp_path / "model.onnx")}

    with pytest.raises(UnsafeFileError):
        run_isolated("edgeport.exporter.worker:export_in_child", payload)

    assert not witness.exists()
    assert not (tmp_path / "model.onnx").exists()


def _exported(path):
    class Net(torch.nn.Module):
        def forward(self, x):
            return x + 1

    with quiet():
        torch.export.save(torch.export.export(Net(), (torch.zeros(2, 3),)), path)


@pytest.mark.parametrize("entry", ["sample_inputs/model.pt", "weights/weight_0"], ids=["sample-inputs", "weight"])
def test_a_command_in_a_pt2_file_does_not_run(entry, tmp_path):
    """torch.export.load itself falls back to the unsafe loader."""
    witness, path = tmp_path / "witness", tmp_path / "model.pt2"
    _exported(path)
    torch.save(Command(witness), tmp_path / "attack.pt")
    with zipfile.ZipFile(path) as archive:
        entries = {each.filename: archive.read(each) for each in archive.infolist()}
    root = next(iter(entries)).partition("/")[0]
    entries[f"{root}/data/{entry}"] = (tmp_path / "attack.pt").read_bytes()
    if entry.startswith("weights"):
        config = next(name for name in entries if name.endswith("model_weights_config.json"))
        entries[config] = (
            b'{"config": {"w": {"path_name": "weight_0", "is_param": true, "use_pickle": true, "tensor_meta": null}}}'
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)

    with pytest.raises(SourceError) as caught, quiet():
        load_module(ModelSource(location=str(path)))

    assert not witness.exists()
    assert isinstance(caught.value, UnsafeFileError), caught.value


@pytest.mark.parametrize("entry", ["sample_inputs/model.pt"])
def test_the_attack_on_pt2_would_have_worked(entry, tmp_path):
    witness, path = tmp_path / "witness", tmp_path / "model.pt2"
    _exported(path)
    torch.save(Command(witness), tmp_path / "attack.pt")
    with zipfile.ZipFile(path) as archive:
        entries = {each.filename: archive.read(each) for each in archive.infolist()}
    root = next(iter(entries)).partition("/")[0]
    entries[f"{root}/data/{entry}"] = (tmp_path / "attack.pt").read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)

    with quiet(), pytest.raises(Exception, match=""):  # noqa: PT011 (it ran, then fails on the result)
        torch.export.load(path)

    assert witness.exists()
