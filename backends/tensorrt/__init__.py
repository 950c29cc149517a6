"""TensorRT and TensorRT-RTX. Importing this loads neither."""

from __future__ import annotations

from edgeport.contracts import Backend

__all__ = ["create_backend"]


def create_backend() -> Backend:
    """The backend, as the registry asks for it."""
    from edgeport.backends.tensorrt.backend import TensorRtBackend

    return TensorRtBackend()
