"""Devices besides the CPU that get a target: those on which a small model opens. CUDA's provider is stood in for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from edgeport.backends.onnxruntime import create_backend
from edgeport.contracts import Accelerated, Capabilities
from edgeport.errors import BackendError, ChildCrash, UnsupportedByBackend
from edgeport.pipeline.compilation import accelerators as module
from edgeport.pipeline.compilation.accelerators import accelerators_here, accelerators_of, as_opened, open_there

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
ASKED = {"backend": "onnxruntime", "runtime_device": "CUDA"}
BACKEND = create_backend()
assert isinstance(BACKEND, Accelerated)
KNOWN = BACKEND.accelerators()


def probed(*devices: str, backend: str = "onnxruntime") -> Capabilities:
    return Capabilities(backend=backend, installed=True, can_run=True, devices=devices)


class TestAsking:
    @pytest.fixture
    def asked(self, monkeypatch):
        """What children were asked; each answers that the model opened."""
        asked = []
        monkeypatch.setattr(module, "run_isolated", lambda function, payload, **_: asked.append((function, payload)))
        return asked

    def test_a_provider_that_is_listed_is_asked_in_a_child(self, asked):
        assert accelerators_of(probed("TensorrtExecutionProvider", CUDA, CPU), KNOWN) == ("CUDA",)
        assert asked == [(f"{module.__name__}:open_there", ASKED)]

    @pytest.mark.parametrize(
        ("backend", "known"),
        [
            pytest.param(probed("AzureExecutionProvider", CPU), KNOWN, id="not listed"),
            pytest.param(probed(CUDA, backend="mine"), (), id="another backend's word"),
        ],
    )
    def test_nothing_is_asked_where_none_is_listed(self, backend, known, asked):
        assert accelerators_of(backend, known) == ()
        assert not asked

    @pytest.mark.parametrize("kind", [BackendError, ChildCrash])
    def test_one_that_does_not_open_is_none_and_no_error(self, kind, monkeypatch):
        def fail(*_, **__):
            raise kind(asked="open", found="no GPU", fix="none")

        monkeypatch.setattr(module, "run_isolated", fail)
        assert accelerators_of(probed(CUDA, CPU), KNOWN) == ()
        assert as_opened(probed(CUDA, CPU), KNOWN) == replace(probed(CPU), unusable={CUDA: "no GPU"})

    @pytest.mark.parametrize(
        ("file", "found"),
        [
            pytest.param("libonnxruntime_providers_cuda.so", ("CUDA",), id="Linux"),
            pytest.param("onnxruntime_providers_cuda.dll", ("CUDA",), id="Windows"),
            pytest.param("libonnxruntime_providers_shared.so", (), id="no such library"),
        ],
    )
    def test_unprobed_only_what_the_package_brings_is_asked(self, file, found, asked, monkeypatch, tmp_path):
        (tmp_path / "capi").mkdir()
        (tmp_path / "capi" / file).touch()
        spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
        monkeypatch.setattr("importlib.util.find_spec", {"onnxruntime": spec}.get)
        assert accelerators_here("onnxruntime") == found
        assert asked == [(f"{module.__name__}:open_there", ASKED)] * len(found)
        assert accelerators_here("openvino") == ()

    def test_what_is_not_installed_is_not_asked(self, asked, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert accelerators_here("onnxruntime") == ()
        assert not asked


class TestOpening:
    @pytest.fixture
    def opened(self, monkeypatch):
        """ONNX Runtime whose provider for CUDA is that of the CPU; `told` is what its sessions say that they took."""
        opened = SimpleNamespace(asked=[], told=[CUDA, CPU])
        real = onnxruntime.InferenceSession

        def session(*given, providers=(), **named):
            made = real(*given, **named, providers=[CPU])
            if providers and providers[0][0] == CUDA:
                opened.asked.append(providers)
                made.get_providers = lambda: opened.told
            return made

        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CUDA, CPU])
        monkeypatch.setattr("onnxruntime.InferenceSession", session)
        return opened

    def test_a_model_runs_there(self, opened):
        assert open_there(ASKED) == {}
        assert opened.asked == [[(CUDA, {}), CPU]]

    def test_a_provider_that_the_runtime_leaves_out_does_not_open(self, opened):
        opened.told = [CPU]
        with pytest.raises(BackendError, match="left it out"):
            open_there(ASKED)

    def test_wrong_products_are_no_run(self, opened, monkeypatch):
        monkeypatch.setattr(np, "allclose", lambda *_, **__: False)
        with pytest.raises(BackendError, match=r"multiply two matrices with onnxruntime on CUDA; found \[\["):
            open_there(ASKED)

    @pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="CUDA's provider is here")
    def test_a_provider_that_is_not_there_is_refused(self):
        with pytest.raises(UnsupportedByBackend, match="CPUExecutionProvider"):
            open_there(ASKED)
