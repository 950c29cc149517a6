"""Runs an ONNX file with ONNX Runtime.

This file ships to the device: standard library, numpy and onnxruntime only, Python 3.8 syntax, nothing of ours.
Inputs and outputs are bound before, so that `Call.run` is the inference and nothing else.
"""

from __future__ import annotations

import os
from typing import Any, Mapping, Sequence  # noqa: UP035 (Python 3.8 can't subscript those of collections.abc)

import numpy as np
import onnxruntime as ort

__all__ = ["Call", "Session", "check_feeds", "inference_session", "open_session", "session_options"]

_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
}
_SETTINGS = ("threads", "affinity", "spinning", "optimization", "skip", "providers", "config")
_ERRORS_ONLY = 3


def session_options(settings: Mapping[str, Any]) -> Any:
    """Options from `settings`, all of them optional.

    threads: inside one call. affinity: logical processors that this process may use. spinning: idle threads spin.
    optimization: "none", "basic", "extended" or "all"; skip: names of the runtime's optimizers that are left out (see
    `inference_session`). config: the runtime's own entries, by key.

    Raises:
        ValueError: An unknown setting or level.

    """
    unknown = sorted(set(settings) - set(_SETTINGS))
    level = settings.get("optimization", "all")
    if unknown or level not in _LEVELS:
        raise ValueError(
            f"asked to open a session with {unknown or repr(level)}; "
            f"found settings {', '.join(_SETTINGS)} and levels {', '.join(_LEVELS)}"
        )
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.graph_optimization_level = _LEVELS[level]
    threads, affinity = settings.get("threads"), settings.get("affinity") or ()
    if affinity and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(affinity))
        # The default is one thread per core of the machine, not per processor that is left.
        threads = threads or len(set(affinity))
    if threads:
        options.intra_op_num_threads = int(threads)
    options.inter_op_num_threads = 1
    if settings.get("spinning") is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings["spinning"] else "0")
    for key, value in sorted((settings.get("config") or {}).items()):
        options.add_session_config_entry(key, str(value))
    return options


def open_session(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> Session:
    """Opens the `.onnx` file; see `session_options` for the settings.

    Args:
        path: str or path.
        settings: JSON values by name. providers: of the runtime; the CPU's alone by default.

    Raises:
        ValueError: A setting that there is not.

    """
    return Session(inference_session(path, session_options(settings), settings))


def inference_session(path: str | os.PathLike[str], options: Any, settings: Mapping[str, Any]) -> Any:
    """The runtime's own session, with what `settings` say and options have no place for: providers and skip."""
    providers = list(settings.get("providers") or ["CPUExecutionProvider"])
    skip = list(settings.get("skip") or ())
    return ort.InferenceSession(os.fspath(path), options, providers=providers, disabled_optimizers=skip)


class Session:
    """An opened model."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = session.get_inputs()
        self._outputs = [output.name for output in session.get_outputs()]

    def bind(self, feeds: Mapping[str, Any]) -> Call:
        """Checks and binds the inputs (arrays by name); the call runs on them as they are now.

        Raises:
            ValueError: Names, dtypes or shapes that the model does not take.
            RuntimeError: The session is closed.

        """
        if self._session is None:
            raise RuntimeError("asked to bind feeds; found a session that is closed; open it again")
        arrays = check_feeds(self._inputs, feeds)
        return Call(self._session, arrays, self._outputs)

    def close(self) -> None:
        """Frees the runtime's memory."""
        self._session = None


class Call:
    """One bound call."""

    def __init__(self, session: Any, arrays: dict[str, Any], outputs: Sequence[str]) -> None:
        self._session = session
        # The runtime reads these very buffers, so they must live as long as the call.
        self._arrays = arrays
        self._names = outputs
        self._binding = session.io_binding()
        self._values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        for name in outputs:
            self._binding.bind_output(name, "cpu")
        self._done = False

    def run(self) -> None:
        """One inference."""
        self._session.run_with_iobinding(self._binding)
        self._done = True

    def outputs(self) -> dict[str, Any]:
        """Copies of the last run's outputs, by name.

        Raises:
            RuntimeError: Nothing was run yet.

        """
        if not self._done:
            raise RuntimeError("asked for outputs; found that nothing was run; call run() first")
        values = self._binding.get_outputs()
        return {name: np.array(value.numpy()) for name, value in zip(self._names, values)}  # noqa: B905 (newer than 3.8)


def check_feeds(inputs: Sequence[Any], feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The feeds as contiguous arrays of its own memory, by input name.

    Args:
        inputs: What `InferenceSession.get_inputs` tells.
        feeds: Arrays by name.

    Raises:
        ValueError: Names, dtypes or shapes that do not fit.

    """
    wanted = {node.name: node for node in inputs}
    if set(wanted) != set(feeds):
        raise ValueError(f"asked to feed {sorted(feeds)}; found inputs {sorted(wanted)}")
    sizes: dict[str, int] = {}
    arrays = {}
    for name, node in wanted.items():
        array = np.asarray(feeds[name])
        dtype = _DTYPES.get(node.type)
        if dtype is None or array.dtype != np.dtype(dtype):
            raise ValueError(f"asked to feed {name!r} as {array.dtype}; found that it takes {dtype or node.type}")
        if not _fits(array.shape, node.shape, sizes):
            raise ValueError(
                f"asked to feed {name!r} in shape {list(array.shape)}; found that it takes {list(node.shape)}"
            )
        arrays[name] = np.array(array, order="C", copy=True)
    return arrays


def _fits(shape: Sequence[int], wanted: Sequence[Any], sizes: dict[str, int]) -> bool:
    """Sizes equal the fixed ones, and a named axis has one size everywhere."""
    if len(shape) != len(wanted):
        return False
    for size, want in zip(shape, wanted):  # noqa: B905 (newer than 3.8)
        expected = sizes.setdefault(want, size) if isinstance(want, str) else want
        if expected is not None and size != expected:
            return False
    return True
