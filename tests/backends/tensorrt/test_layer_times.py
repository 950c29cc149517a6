"""What each layer takes: on a GPU it is measured; here the profiler is TensorRT's own class, called as it would be."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from edgeport.backends.artifacts import make_artifact
from edgeport.backends.tensorrt import create_backend
from edgeport.backends.tensorrt import layer_times as module
from edgeport.backends.tensorrt.runtime import load_tensorrt
from edgeport.backends.tensorrt.session import EngineSession, _layer_profiler
from edgeport.contracts import Capabilities, ExecutionConfig, Precision
from edgeport.errors import BackendError, UnsupportedByBackend

KNOWN = create_backend().capabilities()
FEEDS = {"x": np.zeros((1, 3), np.float32)}
TOLD = {"Layers": [{"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Row major Int8"}]}]}


@pytest.fixture
def artifact(tmp_path):
    (tmp_path / "model.engine").write_bytes(b"an engine")
    return make_artifact(
        backend="tensorrt",
        folder=tmp_path,
        entry="model.engine",
        session="edgeport.backends.tensorrt.session",
        settings={},
        precision=Precision.INT8,
        execution=ExecutionConfig(),
    )


@pytest.fixture
def gpu(monkeypatch):
    runs = dataclasses.replace(KNOWN, can_run=True, reason="")
    monkeypatch.setattr(module, "capabilities_here", lambda device: runs)


@pytest.mark.skipif(not KNOWN.installed, reason=f"tensorrt: {KNOWN.reason}")
def test_tensorrts_own_profiler_takes_our_class():
    times: dict[str, list[int]] = {}
    profiler = _layer_profiler(load_tensorrt().module, times)
    assert isinstance(profiler, load_tensorrt().module.IProfiler)
    for milliseconds in (0.25, 0.5):
        profiler.report_layer_time("conv", milliseconds)
    assert times == {"conv": [250_000, 500_000]}


def test_two_calls_are_not_told_of_and_the_call_is_freed():
    class Call:
        profiler = None
        free_calls = 0

        def run(self):
            if self.profiler is not None:
                self.profiler.report_layer_time("conv", 1.0)

        def tell(self, profiler):
            self.profiler = profiler

        def free(self):
            self.free_calls += 1

    call = Call()
    session = SimpleNamespace(_module=SimpleNamespace(IProfiler=object), bind=lambda feeds: call)
    assert EngineSession.layer_times(session, FEEDS, 3) == {"conv": [1_000_000] * 3}
    assert call.free_calls == 1


@pytest.mark.usefixtures("gpu")
def test_the_slowest_is_first_with_its_share_and_what_it_computes_in(artifact, monkeypatch):
    times = {"copy": [100, 100, 100], "conv": [280, 300, 900]}
    monkeypatch.setattr(module, "profile_engine", lambda *given: (json.dumps(TOLD), times))
    first, second = module.layer_times(artifact, FEEDS, calls=3)
    assert (first.layer.name, first.layer.precision, first.time_ns, first.share) == ("conv", "int8", 300, 0.75)
    assert (second.layer.name, second.layer.precision, second.share) == ("copy", "", 0.25)


@pytest.mark.usefixtures("gpu")
def test_what_the_runtime_says_is_passed_on(artifact, monkeypatch):
    def fail(*_):
        raise ValueError("asked to feed 'x' as float64; found that it takes float32")

    monkeypatch.setattr(module, "profile_engine", fail)
    with pytest.raises(BackendError, match="takes float32"):
        module.layer_times(artifact, FEEDS)


def test_without_a_gpu_it_is_refused(artifact, monkeypatch):
    here = Capabilities(backend="tensorrt", reason="no NVIDIA driver (libcuda)")
    monkeypatch.setattr(module, "capabilities_here", lambda device: here)
    with pytest.raises(UnsupportedByBackend, match="no NVIDIA driver"):
        module.layer_times(artifact, FEEDS)
