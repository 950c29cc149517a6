"""A folder with everything that a recipe names, and a way to write recipes into it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

MINIMAL = """\
model.source = "net:create"
data.calibration = "calibration.npz"
data.evaluation = "evaluation.npz"
target = [{ backend = "onnxruntime" }]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("calibration", "evaluation"):
        np.savez(tmp_path / f"{name}.npz", image=np.zeros((2, 3), np.float32), label=np.zeros(2, np.int64))
    (tmp_path / "weights.safetensors").write_bytes(b"")
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = folder / "edgeport.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def minimal() -> str:
    return MINIMAL
