"""Opens a TensorRT engine and runs it on a GPU.

Ships to the device: standard library, numpy and tensorrt (or tensorrt_rtx); Python 3.8 syntax; nothing of ours. CUDA
memory is handled through the driver's own library, so no CUDA package for Python is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import hmac
import importlib
import json
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "Cuda",
    "EngineCall",
    "EngineSession",
    "GpuError",
    "KeptFiles",
    "UnbuildableError",
    "add_profiles",
    "configure",
    "digests_of",
    "import_tensorrt",
    "inspect_engine",
    "keep_timings",
    "network_flags",
    "open_session",
    "use_timings",
]

KEY_FILE = "engine.json"
MODEL_FILE = "model.onnx"
"""What the engine was built from; it ships beside it, so that it can be built again where it is foreign."""
_SETTINGS = ("device", "engine", "inputs", "outputs")
_KEY = ("runtime", "version", "compute_capability", "gpu", "driver", "sha256")
_FOLDER = "EDGEPORT_TENSORRT_CACHE"
_TAG_BYTES = 32
_FIRST_ACROSS = (8, 0)
"""Compute capability from which on engines of the level "ampere+" run."""


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
    """Checks the engine's key, and only then hands its bytes to the runtime; builds a foreign one again from its model.

    Args:
        path: The engine; `engine.json` beside it says what it was built with, and `model.onnx` is what from.
        settings: `device` (number of the GPU), `engine` (the key; the one in the file must equal it), and `inputs`
            and `outputs` (names in order).

    Raises:
        ValueError: An unknown setting.
        RuntimeError: No GPU; or an engine for another one or another version, or bytes that are not what was built,
            and no model to build it from, or one that is not what it was built from, or that TensorRT refuses here.
        ImportError: No TensorRT.

    """
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        raise ValueError(f"asked to open a session with {unknown}; found settings {', '.join(_SETTINGS)}")
    cuda = Cuda(int(settings.get("device", 0)))
    runtime, module = import_tensorrt()
    here = {
        "runtime": runtime,
        "version": str(module.__version__),
        "compute_capability": cuda.compute_capability,
        "gpu": cuda.name,
        "driver": cuda.driver,
    }
    key = settings.get("engine")
    try:
        engine = _checked_engine(str(path), key, here)
    except ForeignEngineError as why:
        with cuda.current():
            engine = _rebuilt(Path(path).with_name(MODEL_FILE), key or {}, here, module, why)
    return EngineSession(engine, cuda, module, settings)


class ForeignEngineError(RuntimeError):
    """An engine that is not for this machine, or not the one that was built."""


class GpuError(RuntimeError):
    """No GPU, or one that does not do what was asked of it.

    Args:
        asked, found, fix: As in every error of Edgeport.

    """

    def __init__(self, asked: str, found: str, fix: str) -> None:
        super().__init__(f"asked for {asked}; found {found}; {fix}")
        self.found = found


class UnbuildableError(RuntimeError):
    """Something that no engine is built with here.

    Args:
        asked, found, fix: As in every error of Edgeport.

    """

    def __init__(self, asked: str, found: str, fix: str) -> None:
        super().__init__(f"asked {asked}; found {found}; {fix}")
        self.parts = asked, found, fix


def inspect_engine(path: str, settings: Mapping[str, Any]) -> str:
    """What TensorRT tells of the engine's layers, as JSON; the arguments and errors are those of `open_session`."""
    session = open_session(path, settings)
    try:
        return session.information()
    finally:
        session.close()


def _checked_engine(path: str, expected: Any, here: Mapping[str, str]) -> bytes:
    """The engine's bytes, if they are those that were built, and for this very runtime and GPU.

    An engine is code: the runtime executes what is in it, so a foreign one is never handed over.
    """
    try:
        written = dict(json.loads(Path(path).with_name(KEY_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        written = {}  # lost or changed, so it is of no engine
    engine = Path(path).read_bytes()
    found = {**here, "sha256": hashlib.sha256(engine).hexdigest()}
    for name in _KEY:
        for said in (written, expected) if expected is not None else (written,):
            if not _fits(name, said, found):
                raise ForeignEngineError(
                    f"asked to open an engine with {name} {said.get(name)}; found {name} {found[name]} here; "
                    "build it again on this machine"
                )
    return engine


def _fits(name: str, said: Mapping[str, Any], here: Mapping[str, str]) -> bool:
    """Whether an engine with that key may be handed over here, as far as one of its fields says.

    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/engine-compatibility.html
    """
    flags = said.get("flags") or {}
    wanted, found = said.get(name), here[name]
    if name in ("gpu", "driver") and (not wanted or flags.get("hardware")):
        return True  # built for no GPU in particular
    if name == "compute_capability":
        if flags.get("hardware") == "ampere+":
            return _numbers(found) >= _FIRST_ACROSS
        return found in str(wanted).split("+")
    if name == "version" and flags.get("version_compatible") and wanted:
        return _numbers(found)[:1] == _numbers(str(wanted))[:1] and _numbers(found) >= _numbers(str(wanted))
    return bool(wanted == found)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _rebuilt(source: Path, key: Mapping[str, Any], here: Mapping[str, str], module: Any, why: Exception) -> bytes:
    """The engine for this machine: what this user built here before, else built now, and kept."""
    if not key.get("source") or not source.exists():
        raise why
    if digests_of(source) != key["source"]:
        raise RuntimeError(
            f"{why}, as it can't be here; found that {source.name} is not what it was built from; compile it again"
        )
    flags = {name: value for name, value in dict(key.get("flags") or {}).items() if name != "capabilities"}
    about = {**here, "flags": flags, "profiles": key["profiles"], "source": key["source"]}
    kept = KeptFiles()
    engine = kept.get("engine", about)
    if engine is None:
        engine = _build(module, source, here, flags, key["profiles"])
        kept.put("engine", about, engine)
    return engine


def _build(module: Any, source: Path, here: Mapping[str, str], flags: Mapping[str, str], profiles: Any) -> bytes:
    logger = module.Logger(module.Logger.ERROR)
    builder = module.Builder(logger)
    network = builder.create_network(network_flags(module))
    parser = module.OnnxParser(network, logger)
    if not parser.parse_from_file(str(source)):
        said = parser.get_error(0).desc() if parser.num_errors else "no reason is given"
        raise RuntimeError(
            f"asked to build an engine again from {source.name}; found that TensorRT {here['version']} refuses it: "
            f"{said}; compile it with this version"
        )
    config = configure(module, builder, here["compute_capability"], flags)
    add_profiles(builder, config, profiles)
    use_timings(module, config, {**here, "flags": flags})
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise RuntimeError(
            f"asked to build an engine again from {source.name}; found that TensorRT gave none; see its log, and "
            "compile it on this machine"
        )
    keep_timings(module, config, {**here, "flags": flags})
    return bytes(data)


def digests_of(source: Path) -> dict[str, str]:
    """SHA-256 of a model's file and of its external data, by name."""
    files = sorted(path for path in source.parent.iterdir() if path.name.startswith(source.name))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def network_flags(module: Any) -> int:
    """Of a strongly typed network: precisions are those of the graph, and of nothing else.

    TensorRT 10 wants a flag for it; later there may be no other kind.
    """
    typed = getattr(getattr(module, "NetworkDefinitionCreationFlag", None), "STRONGLY_TYPED", None)
    return 0 if typed is None else 1 << int(typed)


def configure(module: Any, builder: Any, target: str, flags: Mapping[str, str]) -> Any:
    """Build settings.

    Args:
        module: The runtime's.
        builder: Its builder.
        target: Compute capabilities to build for ("8.6", "8.6+8.9"); the full TensorRT takes its own GPU's.
        flags: `hardware` ("ampere+", "same"), `version_compatible` ("1"), `dla` (number of the core) and `fallback`
            ("1": what DLA does not have runs on the GPU); see `edgeport.backends.tensorrt.engine_options`.

    Raises:
        UnbuildableError: No DLA core of that number, or a compute capability that the runtime does not build for.

    """
    config = builder.create_builder_config()
    if hasattr(module, "ProfilingVerbosity"):
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if hasattr(module, "ComputeCapability"):
        targets = target.split("+")
        config.num_compute_capabilities = len(targets)
        for index, one in enumerate(targets):
            known = getattr(module.ComputeCapability, "SM" + one.replace(".", ""), None)
            if known is None:
                raise UnbuildableError(
                    f"to build for compute capability {one}",
                    "that this TensorRT-RTX has none such",
                    "take the full TensorRT",
                )
            config.set_compute_capability(known, index)
    if flags.get("version_compatible"):
        config.set_flag(module.BuilderFlag.VERSION_COMPATIBLE)
    if flags.get("hardware"):
        level = {"ampere+": "AMPERE_PLUS", "same": "SAME_COMPUTE_CAPABILITY"}[flags["hardware"]]
        config.hardware_compatibility_level = getattr(module.HardwareCompatibilityLevel, level)
    if "dla" in flags:
        if int(flags["dla"]) >= builder.num_DLA_cores:
            raise UnbuildableError(
                f"for DLA core {flags['dla']}", f"{builder.num_DLA_cores} DLA cores here", "leave DLA out"
            )
        config.default_device_type = module.DeviceType.DLA
        config.DLA_core = int(flags["dla"])
        if flags.get("fallback"):
            config.set_flag(module.BuilderFlag.GPU_FALLBACK)
    return config


def add_profiles(builder: Any, config: Any, profiles: Iterable[Mapping[str, Any]]) -> None:
    """Adds optimisation profiles: each is of input names to their lowest, best and highest shape."""
    for shapes_of in profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in shapes_of.items():
            profile.set_shape(name, *map(tuple, shapes))
        config.add_optimization_profile(profile)


def use_timings(module: Any, config: Any, about: Mapping[str, Any]) -> None:
    """Gives a build the kernels' times that this user's builds found before, where TensorRT takes them.

    TensorRT-RTX times nothing while it builds:
    https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/timing-cache-migration.html

    Args:
        module: The runtime's.
        config: Of the build.
        about: Runtime, version, GPU, driver and flags: what the times are of.

    """
    if not hasattr(module, "ComputeCapability") and hasattr(config, "create_timing_cache"):
        known = KeptFiles().get("timings", about) or b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)


def keep_timings(module: Any, config: Any, about: Mapping[str, Any]) -> None:
    """Keeps them for the next build; the arguments are those of `use_timings`."""
    cache = config.get_timing_cache() if not hasattr(module, "ComputeCapability") else None
    if cache is not None:
        KeptFiles().put("timings", about, bytes(cache.serialize()))


class KeptFiles:
    """What this user's builds made on this machine, by what it is of; authenticated, for an engine is code.

    Each file begins with its HMAC-SHA256 (RFC 2104) over its key and bytes, by a secret that only the user can read.
    One that somebody else wrote, or changed, or moved to another key, is as if it were not there.
    """

    def __init__(self, folder: str | None = None) -> None:
        given = folder or os.environ.get(_FOLDER)
        self._folder = Path(given) if given else Path.home() / ".cache" / "edgeport" / "tensorrt"

    def get(self, kind: str, key: Mapping[str, Any]) -> bytes | None:
        """The bytes; None where there are none of ours."""
        secret = self._secret()
        try:
            data = self._path(kind, key).read_bytes()
        except OSError:
            return None
        tag, body = data[:_TAG_BYTES], data[_TAG_BYTES:]
        return body if secret and hmac.compare_digest(tag, _tag(secret, kind, key, body)) else None

    def put(self, kind: str, key: Mapping[str, Any], body: bytes) -> None:
        """Keeps them; where nothing can be written they are not kept."""
        with contextlib.suppress(OSError):
            secret = self._secret() or self._new_secret()
            path = self._path(kind, key)
            draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            draft.write_bytes(_tag(secret, kind, key, body) + body)
            draft.replace(path)

    def _path(self, kind: str, key: Mapping[str, Any]) -> Path:
        return self._folder / f"{hashlib.sha256(_canonical(key)).hexdigest()}.{kind}"

    def _secret(self) -> bytes:
        """Empty where there is none, or where others can read it."""
        path = self._folder / "secret"
        try:
            if os.name == "posix" and (path.stat().st_mode & 0o077 or path.stat().st_uid != os.getuid()):
                return b""
            return path.read_bytes()
        except OSError:
            return b""

    def _new_secret(self) -> bytes:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path, made = self._folder / "secret", secrets.token_bytes(_TAG_BYTES)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(made)
        return made


def _tag(secret: bytes, kind: str, key: Mapping[str, Any], body: bytes) -> bytes:
    return hmac.new(secret, kind.encode() + b"\0" + _canonical(key) + b"\0" + body, hashlib.sha256).digest()


def _canonical(key: Mapping[str, Any]) -> bytes:
    return json.dumps(key, sort_keys=True, separators=(",", ":")).encode()


class Cuda:
    """A GPU through the CUDA driver API (libcuda): memory, a stream, copies.

    https://docs.nvidia.com/cuda/cuda-driver-api/

    Attributes:
        name: Of the GPU.
        compute_capability: "8.6".
        driver: Version of the driver, where the system tells it, else of the newest CUDA that it knows ("13000").

    """

    def __init__(self, device: int = 0) -> None:
        self._lib = _driver()
        handle = ctypes.c_int()
        count = ctypes.c_int()
        self.call("cuInit", ctypes.c_uint(0))
        self.call("cuDeviceGetCount", ctypes.byref(count))
        if not 0 <= device < count.value:
            raise GpuError(f"GPU {device}", f"{count.value} GPUs", "choose one that is there")
        self.call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(device))
        self._device = handle
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, ctypes.c_int(len(text)), handle)
        self.name = text.value.decode(errors="replace")
        # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        self.compute_capability = f"{self._attribute(75)}.{self._attribute(76)}"
        self.driver = self._driver_version()
        self.context = ctypes.c_void_p()

    def activate(self) -> None:
        """Makes the GPU's primary context current in this thread; the runtime uses the same one."""
        if not self.context:
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), self._device)
        self.call("cuCtxSetCurrent", self.context)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """While it lasts, this GPU is the one that the runtime builds for: the one whose context is current."""
        self.activate()
        try:
            yield
        finally:
            self.release()

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
            raise GpuError(f"{name} of CUDA", f"error {status} ({said})", "check the driver and the GPU")

    def _driver_version(self) -> str:
        with contextlib.suppress(OSError):
            return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip()
        known = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(known))
        return str(known.value)

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
    raise GpuError("a GPU", "no NVIDIA driver (libcuda)", "run where one is installed")


class EngineSession:
    """An engine on its GPU. Each call has buffers and an execution context of its own."""

    def __init__(self, engine: bytes, cuda: Cuda, module: Any, settings: Mapping[str, Any]) -> None:
        cuda.activate()
        self._cuda = cuda
        self._module = module
        # These three must outlive every context made from them.
        self._logger = module.Logger(module.Logger.ERROR)
        self._runtime = module.Runtime(self._logger)
        if ((settings.get("engine") or {}).get("flags") or {}).get("version_compatible"):
            # Such an engine brings the runtime of its version along; its bytes are known to be those that were built.
            self._runtime.engine_host_code_allowed = True
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
        profile = self._profile_for({name: array.shape for name, array in arrays.items()})
        self._cuda.activate()
        context = self._engine.create_execution_context()
        if profile:
            self._choose(context, profile)
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

    def _profile_for(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """The profile that all inputs fit; of several the one whose best shapes are nearest in size."""
        engine = self._engine
        profiles = [
            {name: engine.get_tensor_profile_shape(name, number) for name in shapes}
            for number in range(engine.num_optimization_profiles)
        ]
        fits = [n for n, of in enumerate(profiles) if all(_holds(of[name], shapes[name]) for name in shapes)]
        if fits:
            return min(fits, key=lambda number: _distance(profiles[number], shapes))
        for name, shape in shapes.items():
            if not any(_holds(of[name], shape) for of in profiles):
                takes = " or ".join(f"{list(of[name][0])} to {list(of[name][2])}" for of in profiles)
                raise ValueError(f"asked to feed {name!r} in shape {list(shape)}; found that it takes {takes}")
        given = ", ".join(f"{name!r} in shape {list(shape)}" for name, shape in shapes.items())
        raise ValueError(f"asked to feed {given}; found no optimisation profile for them together; feed sizes of one")

    def _choose(self, context: Any, profile: int) -> None:
        """Waits until the context has the profile; one that is new has the first."""
        stream = ctypes.c_void_p()
        self._cuda.call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(1))
        try:
            if not context.set_optimization_profile_async(profile, stream.value):
                raise RuntimeError(f"asked for optimisation profile {profile}; found that TensorRT refused it")
            self._cuda.call("cuStreamSynchronize", stream)
        finally:
            self._cuda.call("cuStreamDestroy_v2", stream)


def _holds(ranges: Any, shape: tuple[int, ...]) -> bool:
    """The shape lies between the lowest and the highest."""
    lowest, _, highest = ranges
    return len(shape) == len(lowest) and all(a <= n <= b for a, n, b in zip(lowest, shape, highest))  # noqa: B905 (strict is Python 3.10)


def _distance(ranges: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> float:
    """How far the shapes are from a profile's best ones: the sum of the logarithms of the ratios of their sizes."""
    return float(sum(abs(np.log(_size(shape) / _size(ranges[name][1]))) for name, shape in shapes.items()))


def _size(shape: tuple[int, ...]) -> int:
    return max(1, int(np.prod(shape, dtype=np.int64)))


class EngineCall:
    """Inputs on their way to the GPU, outputs on their way back: one `run` copies in, computes, copies out and waits.

    Host buffers are pinned, so that copies need no detour; what a caller would see is what is timed.
    """

    def __init__(self, cuda: Cuda, context: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._cuda = cuda
        self._context = context
        self._done = False
        self._thread = threading.get_ident()
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
        thread = threading.get_ident()
        if thread != self._thread:  # which context is current is each thread's own
            self._cuda.activate()
            self._thread = thread
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
