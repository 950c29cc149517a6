"""What the runtime's optimizer of transformers makes is kept where it is the same, and surely faster."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from edgeport.backends.onnxruntime import create_backend, transformer_fusion
from edgeport.backends.onnxruntime.transformer_fusion import FUSED, Trial, same, tried
from edgeport.calibration.plan import float_plan
from edgeport.contracts import ExecutionConfig

backend = create_backend()
FASTER, SLOWER = Trial(low=0.9, ratio=0.95, high=0.98), Trial(low=0.97, ratio=1.0, high=1.02)


@pytest.fixture
def artifact(bench):
    """A product with a bias and Gelu, written out as PyTorch does; the optimizer makes one node of bias and Gelu."""
    constants = {
        "w": bench.weight(8, 8),
        "b": bench.weight(8),
        "root": np.array(2**0.5, np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
    }
    nodes = [
        bench.node("MatMul", ["x", "w"], ["m"]),
        bench.node("Add", ["m", "b"], ["a"]),
        bench.node("Div", ["a", "root"], ["d"]),
        bench.node("Erf", ["d"], ["e"]),
        bench.node("Add", ["e", "one"], ["p"]),
        bench.node("Mul", ["a", "p"], ["q"]),
        bench.node("Mul", ["q", "half"], ["y"]),
    ]
    model = bench.model(nodes, constants, (2, 4, 8), ["y"])
    return backend.compile(model, float_plan(model), ExecutionConfig(threads=1), bench.folder / "artifact")


@pytest.mark.parametrize(
    ("trial", "operators", "said"),
    [
        pytest.param(FASTER, ["MatMul", "BiasGelu"], "fused 1 BiasGelu, which takes 0.95x the time", id="faster"),
        pytest.param(SLOWER, None, "is not surely faster .*, so it was left out", id="no faster"),
    ],
)
def test_it_is_kept_where_it_is_faster(artifact, tmp_path, monkeypatch, trial, operators, said):
    monkeypatch.setattr(transformer_fusion, "tried", lambda *_: trial)
    packed, placement = backend.packed(artifact, FUSED, tmp_path / "packed")
    assert pytest.approx(0) == np.abs(result(packed) - result(artifact)).max()
    shipped = (packed.folder / "model.onnx").read_bytes()
    assert (shipped == (artifact.folder / "model.onnx").read_bytes()) is (operators is None)
    assert (b"BiasGelu" in shipped) is (operators is not None)
    assert re.search(said, placement.source)


def result(artifact):
    session = backend.open(artifact)
    call = session.bind({"x": np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 4, 8)})
    call.run()
    return call.outputs()["y"]


def test_other_numbers_are_left_out(artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(transformer_fusion, "same", lambda *_: False)
    _, placement = backend.packed(artifact, FUSED, tmp_path / "packed")
    assert placement.source.endswith("which gives other numbers, so it was left out")


def test_nothing_to_fuse_is_said(bench, tmp_path):
    model = bench.model([bench.node("Exp", ["x"], ["y"])], {}, (2, 4), ["y"])
    plain = backend.compile(model, float_plan(model), ExecutionConfig(threads=1), bench.folder / "artifact")
    _, placement = backend.packed(plain, FUSED, tmp_path / "packed")
    assert placement.source.endswith("found nothing to fuse")


@pytest.mark.parametrize(
    ("found", "equal"),
    [
        pytest.param({"y": np.array([1.0, 100.001], np.float32)}, True, id="rounded"),
        pytest.param({"y": np.array([1.0, 100.1], np.float32)}, False, id="other"),
        pytest.param({"y": np.array([1.0, np.nan], np.float32)}, False, id="NaN"),
        pytest.param({"y": np.array([1.0, 100.0])}, False, id="type"),
        pytest.param({"z": np.array([1.0, 100.0], np.float32)}, False, id="name"),
    ],
)
def test_what_counts_as_the_same(found, equal):
    assert same({"y": np.array([1.0, 100.0], np.float32)}, found) is equal


def test_a_trial_is_of_pairs(monkeypatch):
    """A clock that only sessions move: the fused one by 8 or 9, the other by 10."""
    now = [0]
    monkeypatch.setattr(transformer_fusion.time, "perf_counter_ns", lambda: now[0])

    def session(*steps):
        turn = [0]

        def run(names, feeds):
            now[0] += steps[turn[0] % len(steps)]
            turn[0] += 1

        return SimpleNamespace(run=run)

    trial = tried(session(10), session(8, 9), {})
    assert (trial.low, trial.high) == (0.8, 0.9)
    assert trial.is_faster
    assert not tried(session(10), session(10), {}).is_faster
