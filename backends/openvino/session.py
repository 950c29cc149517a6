"""Opens an OpenVINO IR and runs it.

Ships to devices as one file with what it imports of ours (see `../session_support/README.md`): standard library, numpy
and openvino only, Python 3.8 syntax.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, Callable, Iterable, Iterator  # noqa: UP035 (Python 3.8 can't subscript those of collections.abc)

import numpy as np

from edgeport.backends.session_support.affinity import keep_to, lower_priority
from edgeport.backends.session_support.concurrent_calls import map_ahead
from edgeport.backends.session_support.huge_pages import HugePageMove

__all__ = ["OpenVinoCall", "OpenVinoSession", "import_openvino", "open_session"]

_SETTINGS = (
    "device",
    "precision",
    "threads",
    "affinity",
    "priority",
    "streams",
    "hint",
    "pinned",
    "batch",
    "huge_pages",
    "config",
    "inputs",
    "outputs",
)
_CACHE = "EDGEPORT_OPENVINO_CACHE"
"""Environment variable: a folder in which OpenVINO keeps what it compiled, so that the next start needs not."""
_KEPT_SIZES = 4
# numpy's name of each element type that numpy has.
_DTYPES = {"boolean": "bool"}
for _bits in (8, 16, 32, 64):
    _DTYPES.update({f"f{_bits}": f"float{_bits}", f"i{_bits}": f"int{_bits}", f"u{_bits}": f"uint{_bits}"})


def import_openvino() -> Any:
    """The package openvino, without its telemetry.

    `import openvino` sends an event to Google Analytics from a thread of its own, unless the user has opted out. That
    is not ours to do, and a thread that talks to the network disturbs what is timed. Where the telemetry package can't
    be imported, openvino puts a stub in its place, so it is hidden while openvino is imported for the first time.
    """
    if "openvino" not in sys.modules:
        hidden = "openvino_telemetry"
        was_there = hidden in sys.modules
        before = sys.modules.get(hidden)
        sys.modules[hidden] = None  # type: ignore[assignment]
        try:
            import openvino
        finally:
            if was_there:
                sys.modules[hidden] = before  # type: ignore[assignment]
            else:
                del sys.modules[hidden]
    import openvino

    return openvino


def open_session(path: str, settings: Mapping[str, Any]) -> OpenVinoSession:
    """Reads and compiles the model.

    Args:
        path: The `.xml` file; its weights lie beside it.
        settings: All optional. `device` ("CPU", "HETERO:GPU,CPU"), `precision` ("f32", "bf16", "f16": of what is not
            integer), `threads` (inside one call), `affinity` (logical processors that this process may use), `priority`
            (nice value of this thread and those that it starts, 0..19), `streams` (calls at once), `hint` ("latency"
            or "throughput": the runtime chooses streams and threads), `pinned` (threads stay on the processors that it
            puts them on), `batch` (samples per call: shapes are made static for it), `huge_pages` (memory is moved
            into such before the second run, see `into_huge_pages`), `config` (more properties of the device, by name),
            and `inputs` and `outputs` (names in order, for a tensor may have several).

    Raises:
        ValueError: An unknown setting.
        RuntimeError: What OpenVINO says, that it silently chose another precision than was asked for, or that such
            processors are not here.

    """
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        raise ValueError(f"asked to open a session with {unknown}; found settings {', '.join(_SETTINGS)}")
    return OpenVinoSession(str(path), settings)


class OpenVinoSession:
    """A model that is compiled for one batch size; feeds of another one have it compiled again."""

    def __init__(self, path: str, settings: Mapping[str, Any]) -> None:
        affinity = settings.get("affinity") or ()
        if affinity:  # before the runtime counts processors and starts its threads
            keep_to(affinity)
        lower_priority(settings.get("priority"))
        ov = import_openvino()
        self._ov = ov
        self._core = ov.Core()
        self._device = str(settings.get("device", "CPU"))
        cache = os.environ.get(_CACHE)
        if cache:
            self._core.set_property({"CACHE_DIR": _private(cache)})
        self._precision = str(settings.get("precision", "f32"))
        self._streams = max(1, int(settings.get("streams") or 1))
        self._config = {
            **_parallel(settings, self._streams),
            "INFERENCE_PRECISION_HINT": self._precision,
            **{str(key): str(value) for key, value in dict(settings.get("config") or {}).items()},
        }
        if self._device.startswith("AUTO"):
            # Else the CPU takes the first calls until the chosen device is ready, and what is timed is not what runs.
            self._config["ENABLE_STARTUP_FALLBACK"] = "NO"
        elif "CPU" not in self._device and ":" not in self._device:
            # Threads, pinning and groups are the CPU's; what is asked for by number stays, for it to be refused.
            known = self._core.get_property(self._device, "SUPPORTED_PROPERTIES")
            self._config = {key: value for key, value in self._config.items() if key in known or value != "0"}
        self._model = self._core.read_model(path)
        self._declared = [port.get_partial_shape() for port in self._model.inputs]
        self._inputs = _names(self._model.inputs, _read(self._model.inputs, settings.get("inputs")))
        # The runtime drops some inputs, such as empty axes; whoever knows the model feeds them all the same.
        self._dropped = set(settings.get("inputs") or ()) - set(self._inputs)
        self._outputs = _names(self._model.outputs, settings.get("outputs"))
        self._dtypes = [_dtype(port) for port in self._model.inputs]
        self._batch = 0
        self._compiled: Any = None
        self._sizes: dict[int, Any] = {}
        self._huge_pages = bool(settings.get("huge_pages"))
        self._moving: dict[int, HugePageMove] = {}
        self._binding = threading.Lock()
        self._compile(int(settings.get("batch", 1)))

    @property
    def model(self) -> Any:
        """The `openvino.Model` that was read, for whoever asks what was planned."""
        return self._model

    @property
    def compiled(self) -> Any:
        """The `openvino.CompiledModel`, for whoever asks what ran where."""
        return self._compiled

    def devices(self) -> dict[str, str]:
        """Device by name of an operation, where the model is shared among devices (HETERO); "" is for all others."""
        whole = "+".join(self._compiled.get_property("EXECUTION_DEVICES"))
        shared = self._core.query_model(self._model, self._device) if self._device.startswith("HETERO") else {}
        return {"": whole, **{str(name): str(device) for name, device in shared.items()}}

    @property
    def input_names(self) -> list[str]:
        """In the order of the model's inputs."""
        return list(self._inputs)

    def bind(self, feeds: Mapping[str, Any]) -> OpenVinoCall:
        """Copies the inputs into tensors of a new request.

        Args:
            feeds: Arrays by input name, of the model's dtypes.

        Raises:
            ValueError: A missing or unknown name, another dtype or shape than the model's.

        """
        if self._compiled is None:
            raise RuntimeError("asked to bind feeds; found a session that is closed; open it again")
        self._check_names(feeds)
        arrays = [np.asarray(feeds[name]) for name in self._inputs]
        self._check_arrays(arrays)
        batch = self._batch_of(arrays)
        with self._binding:
            if batch is not None and batch != self._batch:
                self._compile(batch)
            compiled, moving = self._compiled, self._moving.get(self._batch)
        request = compiled.create_infer_request()
        for port, array in zip(compiled.inputs, arrays):  # noqa: B905 (strict is Python 3.10)
            tensor = self._ov.Tensor(port.get_element_type(), self._ov.Shape(list(array.shape)))
            tensor.data[...] = array
            request.set_tensor(port, tensor)
        kind = _QueuedCall if self._streams > 1 else OpenVinoCall
        outputs = list(zip(self._outputs, compiled.outputs))  # noqa: B905 (strict is Python 3.10)
        return kind(request, outputs, moving)

    def stream(self, samples: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Outputs of each of the feeds, in their order; every stream is at work while these are looked at.

        Raises:
            ValueError: Feeds that do not fit.

        """

        def run(call: OpenVinoCall) -> dict[str, Any]:
            call.run()
            return call.outputs()

        # Bound here: another batch size has the model compiled again, which no two threads may do at once.
        return map_ahead(self._streams, run, map(self.bind, samples))

    def close(self) -> None:
        """Frees the model."""
        self._compiled = None
        self._sizes = {}
        self._model = None
        self._core = None

    def _compile(self, batch: int) -> None:
        """Compiles with axis 0 of every input that leaves it open set to `batch`.

        Static shapes ran 20 % faster than a dynamic batch axis on a small residual network (255 us, 305 us). What was
        compiled for the last sizes is kept, each with its weights.
        """
        if batch in self._sizes:
            self._compiled, self._batch = self._sizes[batch], batch
            return
        shapes = {}
        for index, shape in enumerate(self._declared):
            wanted = self._ov.PartialShape(shape)
            if _is_open(shape):
                wanted[0] = self._ov.Dimension(batch)
            shapes[index] = wanted
        if any(map(_is_open, self._declared)):  # some operators can't have their shapes inferred twice
            self._model.reshape(shapes)
        compiled = self._core.compile_model(self._model, self._device, self._config)
        # The CPU plugin takes any hint and falls back to what it has without a word (f16 becomes bf16).
        for device, chosen in _precisions(compiled, self._device).items():
            if chosen != self._precision:
                raise RuntimeError(
                    f"asked to compute in {self._precision} on {device}; found that OpenVINO chose {chosen} instead; "
                    "ask for a precision of its OPTIMIZATION_CAPABILITIES"
                )
        self._compiled, self._batch = compiled, batch
        self._sizes[batch] = compiled
        if self._huge_pages:
            self._moving[batch] = HugePageMove()
        while len(self._sizes) > _KEPT_SIZES:
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            self._moving.pop(oldest, None)

    def _batch_of(self, arrays: list[Any]) -> int | None:
        """Size of axis 0 of the inputs that leave it open; None where none does."""
        sizes = [int(array.shape[0]) for shape, array in zip(self._declared, arrays) if _is_open(shape)]  # noqa: B905 (strict is Python 3.10)
        if len(set(sizes)) > 1:
            raise ValueError(
                f"asked to run one batch; found inputs of {sorted(set(sizes))} samples; give the same number to each"
            )
        return sizes[0] if sizes else None

    def _check_names(self, feeds: Mapping[str, Any]) -> None:
        if set(feeds) - self._dropped != set(self._inputs):
            raise ValueError(
                f"asked to feed {sorted(feeds)}; found that the model takes {sorted(self._inputs)}; give exactly these"
            )

    def _check_arrays(self, arrays: list[Any]) -> None:
        for name, declared, dtype, array in zip(self._inputs, self._declared, self._dtypes, arrays):  # noqa: B905 (strict is Python 3.10)
            if array.dtype.name != dtype:
                raise ValueError(
                    f"asked to feed {name!r} as {array.dtype.name}; found that it takes {dtype}; convert the array"
                )
            if not self._ov.PartialShape(list(array.shape)).compatible(declared) or _is_emptier(array.shape, declared):
                raise ValueError(
                    f"asked to feed {name!r} in shape {list(array.shape)}; found that it takes {declared}; reshape it"
                )


class OpenVinoCall:
    """One request with its inputs in place.

    `infer` costs 10 us on a model of one Relu, `start_async` and `wait` 21 us, for they wake another thread.
    """

    def __init__(self, request: Any, outputs: list[tuple[str, Any]], moving: HugePageMove | None = None) -> None:
        self._infer: Callable[[], Any] = functools.partial(request.infer, share_outputs=True)
        self._request = request
        self._outputs = outputs
        self._moving = moving
        self._done = False

    def run(self) -> None:
        """One inference, on the inputs that lie there; outputs stay where the runtime wrote them."""
        if self._moving is not None and self._moving.is_over():
            self._moving = None
        self._infer()
        self._done = True
        if self._moving is not None:
            self._moving.ran = True

    def outputs(self) -> dict[str, Any]:
        """Copies of the outputs of the last `run`, by name.

        Raises:
            ValueError: Nothing was run yet.

        """
        if not self._done:
            raise ValueError("asked for outputs; found that nothing was run; call run() first")
        return {name: self._request.get_tensor(port).data.copy() for name, port in self._outputs}


class _QueuedCall(OpenVinoCall):
    """One request of several at once: the runtime's own queue hands it to a stream, whose threads stay where they are.

    On a busy machine of two processors, `infer` from a thread per stream ended as many calls a second or some fewer.
    """

    def __init__(self, request: Any, outputs: list[tuple[str, Any]], moving: HugePageMove | None = None) -> None:
        super().__init__(request, outputs, moving)
        self._infer = self._queued

    def _queued(self) -> None:
        self._request.start_async()
        self._request.wait()


def _precisions(compiled: Any, device: str) -> dict[str, str]:
    """What each device that takes part computes in ("f32"); one that does not tell is left out."""
    if "INFERENCE_PRECISION_HINT" in compiled.get_property("SUPPORTED_PROPERTIES"):
        return {device: str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())}
    parts = dict(compiled.get_property("DEVICE_PROPERTIES"))
    told = {name: dict(one).get("INFERENCE_PRECISION_HINT") for name, one in parts.items()}
    return {name: str(one.get_type_name()) for name, one in told.items() if one is not None}


def _private(folder: str) -> str:
    """The folder of compiled models, made where it is not there; what lies in it is loaded and run.

    Raises:
        RuntimeError: Others may write into it.

    """
    os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 (Path would be its only use)
    if os.name == "posix":
        found = os.stat(folder)  # noqa: PTH116
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise RuntimeError(
                f"asked to keep compiled models in {folder}; found that others may write into it; "
                "name a folder of your own with mode 700"
            )
    return folder


def _parallel(settings: Mapping[str, Any], streams: int) -> dict[str, str]:
    """Properties of streams and threads: chosen by the runtime where there is a hint, else as they are asked for."""
    threads, hint, pinned = int(settings.get("threads") or 0), settings.get("hint"), settings.get("pinned")
    pinning = {} if pinned is None else {"ENABLE_CPU_PINNING": "YES" if pinned else "NO"}
    if hint:
        whole = {"INFERENCE_NUM_THREADS": str(threads)} if threads else {}
        return {"PERFORMANCE_HINT": str(hint).upper(), **whole, **pinning}
    return {
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(streams * threads),  # of all streams together
        **pinning,
    }


def _read(ports: list[Any], wanted: Any) -> Any:
    """Of the names that are wanted those that a port has, in the order of the ports; all, where some port has none."""
    if wanted is None:
        return None
    found = [next((str(name) for name in wanted if name in port.get_names()), None) for port in ports]
    return wanted if None in found else found


def _names(ports: list[Any], wanted: Any) -> list[str]:
    """One name per port: the one that the model's author knows, if it is said."""
    if wanted is None:
        return [str(port.get_any_name()) for port in ports]
    names = [str(name) for name in wanted]
    if len(names) != len(ports) or any(name not in port.get_names() for name, port in zip(names, ports)):  # noqa: B905 (strict is Python 3.10)
        raise RuntimeError(
            f"asked to open a model with {names}; found {[sorted(port.get_names()) for port in ports]}; "
            "build the artifact again"
        )
    return names


def _is_open(shape: Any) -> bool:
    """Axis 0 of a partial shape has no fixed size."""
    return bool(shape.rank.is_static and len(shape) and shape[0].is_dynamic)


def _is_emptier(shape: tuple[int, ...], declared: Any) -> bool:
    """An axis is empty that need not be."""
    return any(size == 0 and wanted.is_dynamic for size, wanted in zip(shape, declared))  # noqa: B905 (strict is Python 3.10)


def _dtype(port: Any) -> str:
    name = str(port.get_element_type().get_type_name())
    return _DTYPES.get(name, name)
