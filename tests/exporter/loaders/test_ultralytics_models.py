"""Ultralytics, by a stand-in for its package: who may read a pickle, and what is set before an export."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport.contracts import ModelSource  # noqa: E402 (after the skip)
from edgeport.errors import DependencyError, SourceError, UnsafeFileError  # noqa: E402
from edgeport.exporter.loaders.model_source import load_module, notes_on_source  # noqa: E402

PACKAGE = """
import os
import torch
from torch import nn

SETTINGS = {key: os.environ.get(key) for key in ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_CONFIG_DIR")}


class Head(nn.Module):
    export, dynamic, format, anchors = False, False, None, torch.zeros(0)

    def forward(self, x):
        return x if self.export else (x, [x])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head, self.fused = nn.Conv2d(3, 2, 1), Head(), False

    def fuse(self, verbose=True):
        self.fused = True
        return self

    def forward(self, x):
        return self.head(self.conv(x))


class YOLO:
    def __init__(self, name):
        print("noise of the package")
        self.model = Net().half()
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("YOLO_OFFLINE", "")  # so that what is set here is taken back
    for key in ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_VERBOSE", "YOLO_CONFIG_DIR"):
        monkeypatch.delenv(key, raising=False)
    (tmp_path / "site" / "ultralytics").mkdir(parents=True)
    (tmp_path / "site" / "ultralytics" / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "ultralytics", raising=False)
    yield
    sys.modules.pop("ultralytics", None)
    for key in ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_VERBOSE"):
        os.environ.pop(key, None)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt"
    path.write_bytes(b"a pickle")
    return path


DIGEST = hashlib.sha256(b"a pickle").hexdigest()


@pytest.mark.parametrize("allowed", [None, "0" * 64], ids=["nothing-allowed", "another-file-allowed"])
def test_a_pickle_is_refused_with_the_line_that_allows_it(package: None, checkpoint: Path, allowed: str | None) -> None:
    with pytest.raises(UnsafeFileError) as caught:
        load_module(ModelSource(location=f"ultralytics:{checkpoint}", allow_pickle_sha256=allowed))

    assert f'allow_pickle_sha256 = "{DIGEST}"' in caught.value.fix
    assert "ultralytics" not in sys.modules


def test_an_allowed_pickle_is_loaded_ready_for_export(
    package: None, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load_module(ModelSource(location=f"ultralytics:{checkpoint}", allow_pickle_sha256=DIGEST))

    assert module.fused
    assert (module.head.export, module.head.dynamic, module.head.format) == (True, True, "onnx")
    assert module.conv.weight.dtype == torch.float32
    assert torch.is_tensor(module(torch.zeros(1, 3, 4, 4)))
    settings = sys.modules["ultralytics"].SETTINGS
    assert (settings["YOLO_OFFLINE"], settings["YOLO_AUTOINSTALL"]) == ("true", "false")
    assert not Path(settings["YOLO_CONFIG_DIR"]).exists()
    assert capsys.readouterr().out == ""


def test_an_architecture_needs_no_leave_and_is_said_to_be_random(package: None) -> None:
    source = ModelSource(location="ultralytics:yolov8n.yaml")

    assert not load_module(source).training
    assert notes_on_source(source)[0].startswith("The weights are random")


def test_a_missing_checkpoint_is_not_looked_for_elsewhere(package: None, checkpoint: Path) -> None:
    with pytest.raises(SourceError, match=r"did you mean 'net\.pt'"):
        load_module(ModelSource(location=f"ultralytics:{checkpoint.with_name('nett.pt')}"))
    assert "ultralytics" not in sys.modules


def test_a_missing_package_is_named_with_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)

    with pytest.raises(DependencyError, match=r"AGPL-3\.0"):
        load_module(ModelSource(location="ultralytics:yolov8n.yaml"))
