from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from edgeport.backends import registry
from edgeport.errors import DependencyError, UsageError


def test_built_in_names():
    assert registry.available_backends()[:3] == ("onnxruntime", "openvino", "tensorrt")
    assert registry.backend("onnxruntime").capabilities().backend == "onnxruntime"


def test_a_near_miss_is_named():
    with pytest.raises(UsageError, match="did you mean 'onnxruntime'"):
        registry.backend("onnx-runtime")
    with pytest.raises(UsageError, match=r"pkg\.mod:factory"):
        registry.backend("zzz")


def test_module_and_factory():
    made = registry.backend("edgeport.backends.onnxruntime:create_backend")
    assert made.capabilities().backend == "onnxruntime"


@pytest.mark.parametrize("location", ["no_such_package:create", "edgeport.backends.onnxruntime:no_such", "json:"])
def test_a_factory_that_is_not_there(location):
    with pytest.raises(DependencyError, match=r"pkg\.mod:factory"):
        registry.backend(location)


def test_entry_points_join_but_never_replace_ours(monkeypatch):
    points = [
        EntryPoint("mine", "edgeport.backends.onnxruntime:create_backend", registry.GROUP),
        EntryPoint("onnxruntime", "evil:create", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert registry.available_backends() == ("onnxruntime", "openvino", "tensorrt", "mine")
    assert registry.backend("mine").capabilities().installed
    assert registry.backend("onnxruntime").capabilities().installed


def test_looking_up_a_backend_loads_no_runtime():
    code = """
import sys
from edgeport.backends.registry import available_backends, backend
for name in ("onnxruntime", "openvino", "tensorrt"):
    backend(name)
heavy = {"onnx", "onnx_ir", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx_bindings", "torch", "scipy"}
loaded = heavy & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
