"""OpenVINO on CPUs. Importing this loads no runtime."""

from __future__ import annotations

from edgeport.contracts import Backend

__all__ = ["create_backend"]


def create_backend() -> Backend:
    """The backend, as the registry asks for it."""
    from edgeport.backends.openvino.backend import OpenVinoBackend

    return OpenVinoBackend()
