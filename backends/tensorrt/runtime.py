"""One face for TensorRT 10, TensorRT 11 and TensorRT-RTX. What one of them lacks is found by `hasattr`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeport.backends.tensorrt.session import Cuda, GpuError, configure, import_tensorrt, network_flags
from edgeport.errors import DependencyError

__all__ = ["Gpu", "TensorRt", "find_gpu", "load_tensorrt"]

_INSTALL = "pip install 'edgeport[tensorrt]' on a machine with an NVIDIA GPU, or 'edgeport[tensorrt-rtx]' anywhere"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU.

    Attributes:
        name: As the driver tells it.
        compute_capability: "8.6".
        driver: Version of the driver.

    """

    name: str
    compute_capability: str
    driver: str = ""


@functools.cache
def find_gpu(device: int = 0) -> Gpu | str:
    """The GPU of that number, or why there is none; asked of the driver, which is not started for it."""
    try:
        cuda = Cuda(device)
    except GpuError as error:
        return error.found
    return Gpu(name=cuda.name, compute_capability=cuda.compute_capability, driver=cuda.driver)


@dataclass(frozen=True, kw_only=True)
class TensorRt:
    """A TensorRT that imports.

    Attributes:
        name: "tensorrt" or "tensorrt-rtx".
        version: Its own.
        module: The Python module.

    """

    name: str
    version: str
    module: Any

    @property
    def needs_no_gpu(self) -> bool:
        """It builds engines for GPUs that are not there."""
        return hasattr(self.module, "ComputeCapability")

    def targets(self) -> tuple[str, ...]:
        """Compute capabilities that it can be told to build for ("8.6"); none where it builds for its own GPU."""
        if not self.needs_no_gpu:
            return ()
        members = self.module.ComputeCapability.__members__
        return tuple(f"{name[2:-1]}.{name[-1]}" for name in members if name.startswith("SM") and name[2:].isdecimal())

    def building_for(self, device: int) -> contextlib.AbstractContextManager[None]:
        """While it lasts, engines are built for the GPU of that number, where they are built for one that is here."""
        return contextlib.nullcontext() if self.needs_no_gpu else Cuda(device).current()

    def network(self, builder: Any) -> Any:
        """An empty, strongly typed network."""
        return builder.create_network(network_flags(self.module))

    def config(self, builder: Any, target: str, flags: Mapping[str, str] | None = None) -> Any:
        """Build settings for compute capabilities; the full TensorRT takes its own GPU's. See `session.configure`."""
        return configure(self.module, builder, target, flags or {})

    def logger(self, heard: Callable[[str], None]) -> Any:
        """A logger that prints nothing and hands errors on."""
        base: Any = self.module.ILogger
        worst = (self.module.Logger.ERROR, self.module.Logger.INTERNAL_ERROR)

        def __init__(log: Any) -> None:  # noqa: N807 (of the class below)
            base.__init__(log)

        def log(_: Any, severity: Any, message: str) -> None:
            if severity in worst:
                heard(message)

        return type("Errors", (base,), {"__init__": __init__, "log": log})()


def load_tensorrt() -> TensorRt:
    """The TensorRT of this Python.

    Raises:
        DependencyError: None is installed, or it does not import.

    """
    try:
        name, module = import_tensorrt()
    except Exception as error:
        raise DependencyError(
            asked="use TensorRT", found=f"neither tensorrt nor tensorrt_rtx imports ({error})", fix=_INSTALL
        ) from error
    return TensorRt(name=name, version=str(module.__version__), module=module)
