"""A model that multiplies by two, its artifact, and a session module that needs numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeport.bundle import BundleContents
from edgeport.contracts import (
    Artifact,
    Budget,
    Candidate,
    DeviceFacts,
    OnnxModel,
    Outcome,
    Precision,
    Provenance,
    TensorSpec,
)

SESSION = """
import numpy as np

def open_session(path, settings):
    return Session(np.load(path))

class Session:
    def __init__(self, factor):
        self.factor = factor
    def bind(self, feeds):
        return Call(self.factor, feeds["x"])
    def close(self):
        pass

class Call:
    def __init__(self, factor, x):
        assert len(x) == 2, "compiled for two samples a call"
        self.factor, self.x = factor, x
    def run(self):
        self.y = self.x * self.factor
    def outputs(self):
        return {"scores": self.y}
"""

FEEDS = np.array([[0.0, 1.0, 2.0], [5.0, 4.0, 3.0], [0.0, 7.0, 0.0]], dtype=np.float32)


@pytest.fixture
def contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundleContents:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "doubling_session.py").write_text(SESSION)
    monkeypatch.syspath_prepend(modules)
    folder = tmp_path / "artifact"
    (folder / "deep").mkdir(parents=True)
    np.save(folder / "deep" / "factor.npy", np.float32(2.0))
    artifact = Artifact(
        backend="onnxruntime",
        folder=folder,
        entry="deep/factor.npy",
        session="doubling_session",
        settings={"threads": 2},
        precision=Precision.INT8,
        size_bytes=132,
        digest="a" * 64,
    )
    artifact = replace(artifact, execution=replace(artifact.execution, batch=2))
    return BundleContents(
        name="doubling",
        candidate=Candidate(
            name="onnxruntime int8",
            backend="onnxruntime",
            precision=Precision.INT8,
            artifact=artifact,
            outcome=Outcome.PASS,
        ),
        model=OnnxModel(
            path=tmp_path / "model.onnx",
            inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 3)),),
            outputs=(TensorSpec(name="scores", dtype="float32", shape=("batch", 3)),),
            opset=20,
            digest="b" * 64,
        ),
        budget=Budget(),
        device=DeviceFacts(name="local", machine="x86_64", cpu="A CPU", cores=2, memory_bytes=1 << 30),
        versions={"edgeport": "0.1.0", "onnxruntime": "1.32.0"},
        sample={"x": FEEDS},
        expected={"scores": FEEDS * 2},
        labels=("cat", "dog", "bird"),
        class_output="scores",
        provenance=Provenance(licence="MIT", author="A. Author"),
    )


@pytest.fixture
def read_all() -> Callable[[Path], dict[str, bytes]]:
    def read(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
