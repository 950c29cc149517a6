"""ONNX Runtime's CPU provider as a backend; importing this loads no runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeport.contracts import Backend

__all__ = ["create_backend"]


def create_backend() -> Backend:
    """The backend; ONNX Runtime itself is imported when it is first needed."""
    from edgeport.backends.onnxruntime.backend import OnnxRuntimeBackend

    return OnnxRuntimeBackend()
