"""Opens a TensorRT engine and runs it on a GPU.

Ships to the device: standard library, numpy and tensorrt (or tensorrt_rtx); Python 3.8 syntax; nothing of ours. CUDA
memory is handled through the driver's own library, so no CUDA package for Python is needed.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Cuda", "EngineCall", "EngineSession", "import_tensorrt", "inspect_engine", "open_session"]

KEY_FILE = "engine.json"
_SETTINGS = ("device", "engine", "inputs", "outputs")
_KEY = ("runtime", "version", "compute_capability", "sha256")


def import_tensorrt() -> tuple[str, Any]:
    """The runtime's name ("tensorrt" or "tensorrt-rtx") and its module; the full TensorRT where both are there.

    Raises:
        ImportError: Neither imports.

    """
    try:
        module = importlib.import_module("tensorrt")
        if hasattr(module, "Builder"):
            return "tensorrt", module
    except (ImportError, OSError, RuntimeError):
        pass  # PyPI's tensorrt is a stub where its real wheels were not fetched; then RTX may still be there
    try:
        importlib.import_module("tensorrt_rtx_libs")
        return "tensorrt-rtx", importlib.import_module("tensorrt_rtx_bindings")
    except ImportError:
        # NVIDIA's own download has libraries and bindings in one package.
        return "tensorrt-rtx", importlib.import_module("tensorrt_rtx")


def open_session(path: str, settings: Mapping[str, Any]) -> EngineSession:
    """Checks the engine's key, and only then hands its bytes to the runtime.

    Args:
        path: The engine; `engine.json` beside it says what it was built with.
        settings: `device` (number of the GPU), `engine` (the key; the one in the file must equal it), and `inputs`
            and `outputs` (names in order).

    Raises:
        ValueError: An unknown setting.
        RuntimeError: No GPU, an engine for another one or another version, or bytes that are not what was built.
        ImportError: No TensorRT.

    """
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        raise ValueError(f"asked to open a session with {unknown}; found settings {', '.join(_SETTINGS)}")
    cuda = Cuda(int(settings.get("device", 0)))
    runtime, module = import_tensorrt()
    engine = _checked_engine(
        str(path), settings.get("engine"), runtime, str(module.__version__), cuda.compute_capability
    )
    return EngineSession(engine, cuda, module, settings)


def inspect_engine(path: str, settings: Mapping[str, Any]) -> str:
    """What TensorRT tells of the engine's layers, as JSON; the arguments and errors are those of `open_session`."""
    session = open_session(path, settings)
    try:
        return session.information()
    finally:
        session.close()


def _checked_engine(path: str, expected: Any, runtime: str, version: str, capability: str) -> bytes:
    """The engine's bytes, if they are those that were built, and for this very runtime and GPU.

    An engine is code: the runtime executes what is in it, so a foreign one is never handed over.
    """
    written = json.loads(Path(path).with_name(KEY_FILE).read_bytes())
    engine = Path(path).read_bytes()
    here = {
        "runtime": runtime,
        "version": version,
        "compute_capability": capability,
        "sha256": hashlib.sha256(engine).hexdigest(),
    }
    for name in _KEY:
        for said in (written, expected) if expected is not None else (written,):
            if said.get(name) != here[name]:
                raise RuntimeError(
                    f"asked to open an engine with {name} {said.get(name)}; found {name} {here[name]} here; "
                    "build it again on this machine"
                )
    return engine


class Cuda:
    """A GPU through the CUDA driver API (libcuda): memory, a stream, copies.

    https://docs.nvidia.com/cuda/cuda-driver-api/

    Attributes:
        name: Of the GPU.
        compute_capability: "8.6".

    """

    def __init__(self, device: int = 0) -> None:
        self._lib = _driver()
        handle = ctypes.c_int()
        count = ctypes.c_int()
        self.call("cuInit", ctypes.c_uint(0))
        self.call("cuDeviceGetCount", ctypes.byref(count))
        if not 0 <= device < count.value:
            raise RuntimeError(f"asked for GPU {device}; found {count.value} GPUs; choose one that is there")
        self.call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(device))
        self._device = handle
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, ctypes.c_int(len(text)), handle)
        self.name = text.value.decode(errors="replace")
        # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        self.compute_capability = f"{self._attribute(75)}.{self._attribute(76)}"
        self.context = ctypes.c_void_p()

    def activate(self) -> None:
        """Makes the GPU's primary context current in this thread; the runtime uses the same one."""
        if not self.context:
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), self._device)
        self.call("cuCtxSetCurrent", self.context)

    def release(self) -> None:
        """Gives the primary context back."""
        if self.context:
            self.call("cuDevicePrimaryCtxRelease_v2", self._device)
            self.context = ctypes.c_void_p()

    def call(self, name: str, *arguments: Any) -> None:
        """One driver call.

        Raises:
            RuntimeError: It returned an error.

        """
        status = int(getattr(self._lib, name)(*arguments))
        if status:
            text = ctypes.c_char_p()
            self._lib.cuGetErrorString(status, ctypes.byref(text))
            said = text.value.decode(errors="replace") if text.value else "unknown error"
            raise RuntimeError(f"asked CUDA for {name}; found error {status} ({said}); check the driver and the GPU")

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), self._device)
        return value.value


def _driver() -> Any:
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise RuntimeError("asked for a GPU; found no NVIDIA driver (libcuda); run where one is installed")


class EngineSession:
    """An engine on its GPU. Each call has buffers and an execution context of its own."""

    def __init__(self, engine: bytes, cuda: Cuda, module: Any, settings: Mapping[str, Any]) -> None:
        cuda.activate()
        self._cuda = cuda
        self._module = module
        # These three must outlive every context made from them.
        self._logger = module.Logger(module.Logger.ERROR)
        self._runtime = module.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise RuntimeError("asked to load the engine; found that TensorRT refused it; build it again here")
        modes: dict[str, list[str]] = {"INPUT": [], "OUTPUT": []}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            modes[str(self._engine.get_tensor_mode(name)).rpartition(".")[2]].append(name)
        self._inputs = _in_order(modes["INPUT"], settings.get("inputs"))
        self._outputs = _in_order(modes["OUTPUT"], settings.get("outputs"))
        self._dtypes = {
            name: np.dtype(module.nptype(self._engine.get_tensor_dtype(name))) for name in self._inputs + self._outputs
        }

    def bind(self, feeds: Mapping[str, Any]) -> EngineCall:
        """Checks the inputs and makes room for them and the outputs, on the host and on the GPU.

        Args:
            feeds: Arrays by input name, of the engine's dtypes.

        Raises:
            ValueError: Names, dtypes or shapes that the engine does not take.

        """
        if self._engine is None:
            raise RuntimeError("asked to bind feeds; found a session that is closed; open it again")
        if set(feeds) != set(self._inputs):
            raise ValueError(f"asked to feed {sorted(feeds)}; found inputs {sorted(self._inputs)}")
        arrays = {name: np.ascontiguousarray(feeds[name]) for name in self._inputs}
        for name, array in arrays.items():
            if array.dtype != self._dtypes[name]:
                raise ValueError(f"asked to feed {name!r} as {array.dtype}; found that it takes {self._dtypes[name]}")
            self._check_shape(name, array.shape)
        self._cuda.activate()
        context = self._engine.create_execution_context()
        for name, array in arrays.items():
            if not context.set_input_shape(name, tuple(array.shape)):
                raise ValueError(f"asked to feed {name!r} in shape {list(array.shape)}; found that TensorRT refused it")
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in self._outputs}
        if any(size < 0 for shape in shapes.values() for size in shape):
            raise RuntimeError(
                f"asked for outputs of known size; found {shapes}; make the shapes independent of the data"
            )
        return EngineCall(
            self._cuda, context, arrays, {name: (shapes[name], self._dtypes[name]) for name in self._outputs}
        )

    def information(self) -> str:
        """The engine inspector's JSON."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._module.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Frees the engine; calls that were bound must not be run after."""
        if self._engine is not None:
            self._engine = None
            self._runtime = None
            self._cuda.release()

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Against the range that the engine was built for."""
        lowest, _, highest = self._engine.get_tensor_profile_shape(name, 0)
        if len(shape) != len(lowest) or any(not a <= n <= b for a, n, b in zip(lowest, shape, highest)):  # noqa: B905 (strict is Python 3.10)
            raise ValueError(
                f"asked to feed {name!r} in shape {list(shape)}; found that it takes {list(lowest)} to {list(highest)}"
            )


class EngineCall:
    """Inputs on their way to the GPU, outputs on their way back: one `run` copies in, computes, copies out and waits.

    Host buffers are pinned, so that copies need no detour; what a caller would see is what is timed.
    """

    def __init__(self, cuda: Cuda, context: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._cuda = cuda
        self._context = context
        self._done = False
        self._stream = ctypes.c_void_p()
        self._host: list[ctypes.c_void_p] = []
        self._gpu: list[ctypes.c_void_p] = []
        self._copies_in: list[tuple[Any, Any, Any]] = []
        self._copies_out: list[tuple[Any, Any, Any]] = []
        self._arrays: dict[str, Any] = {}
        try:
            # CU_STREAM_NON_BLOCKING: no waiting for the default stream.
            cuda.call("cuStreamCreate", ctypes.byref(self._stream), ctypes.c_uint(1))
            for name, array in inputs.items():
                view, host, gpu, size = self._place(name, array.shape, array.dtype)
                view[...] = array
                self._copies_in.append((gpu, host, size))
            for name, (shape, dtype) in outputs.items():
                view, host, gpu, size = self._place(name, shape, dtype)
                self._copies_out.append((host, gpu, size))
                self._arrays[name] = view
        except BaseException:
            self.free()
            raise

    def run(self) -> None:
        """One inference.

        Raises:
            RuntimeError: CUDA or TensorRT failed.

        """
        call, stream = self._cuda.call, self._stream
        for gpu, host, size in self._copies_in:
            call("cuMemcpyHtoDAsync_v2", gpu, host, size, stream)
        if not self._context.execute_async_v3(stream.value):
            raise RuntimeError("asked to run the engine; found that TensorRT could not enqueue it; see its log")
        for host, gpu, size in self._copies_out:
            call("cuMemcpyDtoHAsync_v2", host, gpu, size, stream)
        call("cuStreamSynchronize", stream)
        self._done = True

    def outputs(self) -> dict[str, Any]:
        """Copies of the outputs of the last `run`, by name.

        Raises:
            ValueError: Nothing was run yet.

        """
        if not self._done:
            raise ValueError("asked for outputs; found that nothing was run; call run() first")
        return {name: array.copy() for name, array in self._arrays.items()}

    def free(self) -> None:
        """Gives the memory back; also done when the call is forgotten."""
        context, self._context = self._context, None
        if context is None:
            return
        self._cuda.activate()
        for pointer in self._gpu:
            self._cuda.call("cuMemFree_v2", pointer)
        for pointer in self._host:
            self._cuda.call("cuMemFreeHost", pointer)
        if self._stream:
            self._cuda.call("cuStreamDestroy_v2", self._stream)

    def __del__(self) -> None:
        # Where the context went before the call, its memory went with it.
        if self._cuda.context:
            self.free()

    def _place(self, name: str, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any, Any, Any]:
        """A tensor on both sides: its array on the host, both addresses, and its size in bytes."""
        count = int(np.prod(shape, dtype=np.int64))
        size = max(count * int(dtype.itemsize), 1)
        host, gpu = ctypes.c_void_p(), ctypes.c_void_p()
        self._cuda.call("cuMemAllocHost_v2", ctypes.byref(host), ctypes.c_size_t(size))
        self._host.append(host)
        self._cuda.call("cuMemAlloc_v2", ctypes.byref(gpu), ctypes.c_size_t(size))
        self._gpu.append(gpu)
        if not self._context.set_tensor_address(name, gpu.value):
            raise RuntimeError(f"asked to place {name!r} on the GPU; found that TensorRT refused the address")
        buffer: Any = (ctypes.c_byte * size).from_address(host.value or 0)
        view = np.frombuffer(buffer, dtype=dtype, count=count).reshape(shape)
        return view, host, gpu, ctypes.c_size_t(size)


def _in_order(found: list[str], wanted: Any) -> list[str]:
    """The names as the model's author ordered them."""
    if wanted is None:
        return found
    names = [str(name) for name in wanted]
    if sorted(names) != sorted(found):
        raise RuntimeError(f"asked to open an engine with {names}; found {found}; build the artifact again")
    return names
