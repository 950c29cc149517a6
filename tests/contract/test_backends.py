"""Our own backends, and one as another package has it, through the suite."""

from __future__ import annotations

from edgeport.testing import BackendSuite


class TestOnnxRuntime(BackendSuite):
    location = "onnxruntime"
    runtime = ("onnxruntime",)


class TestOpenVino(BackendSuite):
    location = "openvino"
    runtime = ("openvino",)


class TestTensorRt(BackendSuite):
    location = "tensorrt"
    runtime = ("tensorrt", "tensorrt_rtx_libs", "tensorrt_rtx_bindings")


class TestSample(BackendSuite):
    location = "edgeport.testing.sample_backend:create_backend"
    runtime = ("onnx",)
