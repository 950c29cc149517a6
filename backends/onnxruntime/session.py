"""Runs an ONNX file with ONNX Runtime, in one stream or several, or several files as the stages of a pipeline.

This file ships to the device: standard library, numpy and onnxruntime only, Python 3.8 syntax, nothing of ours.
Inputs and outputs are bound before, so that `Call.run` is the inference and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import json
import mmap
import os
import pkgutil
import platform
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence  # noqa: UP035 (Python 3.8 can't subscript those of collections.abc)

import numpy as np
import onnxruntime as ort

__all__ = [
    "OPTIMISED",
    "PROVIDERS",
    "Call",
    "Pipeline",
    "Session",
    "StageError",
    "Streams",
    "bytes_in_huge_pages",
    "check_feeds",
    "describe_session",
    "inference_session",
    "into_huge_pages",
    "known_providers",
    "open_session",
    "parts_of",
    "plain_text",
    "processor_here",
    "serve_stage",
    "session_options",
    "unusable_plug_ins",
]

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
    "tensor(string)": "object",
}
_SETTINGS = (
    "threads",
    "affinity",
    "spinning",
    "priority",
    "optimization",
    "skip",
    "providers",
    "provider_options",
    "made_for",
    "huge_pages",
    "config",
)
_INSTRUCTIONS = ("avx", "avx2", "avx512f", "asimd", "sve")
"""Those that decide in what layout the runtime keeps numbers."""
_LIBRARIES = "EDGEPORT_ORT_LIBRARIES"
_CPU = "CPUExecutionProvider"
_registered: dict[str, str] = {}
OPTIMISED, PROVIDERS = "optimised.onnx", "providers.json"
_OF_RUNNING = ("streams", "cores", "priority", "huge_pages")
_WEIGHTS = "weights.bin"
_COMPILED = "contains compiled nodes"
"""What the runtime says where it can't write a graph in which a provider replaced nodes by what it compiled."""
_ERRORS_ONLY = 3
_WAITING_PER_STAGE = 2
_SHARED = "/dev/shm"  # noqa: S108 (memory that is shared, where the system has it; the folder in it is private)
_ALIGNED = 64
_ENDED_S = 10.0
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/"
_COLLAPSE = 25
"""MADV_COLLAPSE; the module mmap has no name for it."""
_START = """import importlib, importlib.util, json, sys
words = json.loads(sys.stdin.buffer.readline())
sys.path[:] = words["path"]
try:
    module = importlib.import_module(words["module"])
except ImportError:
    found = importlib.util.spec_from_file_location(words["module"], words["file"])
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
module.serve_stage(words)
"""
"""What the process of a stage runs: this very module, found as it was found here."""


def session_options(settings: Mapping[str, Any]) -> Any:
    """Options from `settings`, all of them optional.

    threads: inside one call. affinity: logical processors that this process may use. spinning: idle threads spin.
    priority: nice value of this thread and those that it starts, 0..19; never raised again.
    optimization: "none", "basic", "extended" or "all"; skip: names of the runtime's optimizers that are left out (see
    `inference_session`). huge_pages: memory is moved into such before the second run (see `into_huge_pages`); not an
    option, but what a session here does. config: the runtime's own entries, by key.

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
    if settings.get("priority") and hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, int(settings["priority"]))
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.graph_optimization_level = _LEVELS[level]
    threads, affinity = settings.get("threads"), settings.get("affinity") or ()
    if affinity:
        _keep_to(affinity)
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


def open_session(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> Session | Streams | Pipeline:
    """Opens the `.onnx` file; see `session_options` for the settings.

    Args:
        path: str or path.
        settings: JSON values by name. providers: of the runtime, the first of them asked for, then those that take
            what it leaves; the CPU's alone by default. provider_options: of the first, by name. streams: calls at
            once; see `Streams`. stages: of a pipeline, instead of all else; see `Pipeline`.

    Raises:
        ValueError: A setting that there is not.
        RuntimeError: A provider that is not here, or that the runtime leaves out; or such processors.

    """
    if "stages" in settings:
        return Pipeline(os.path.dirname(os.fspath(path)), settings)  # noqa: PTH120 (Path would be its only use)
    if "streams" in settings:
        return Streams(path, settings)
    return Session(_session_of(path, settings))


def parts_of(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Settings of each session that is opened with these: of every stage, of every place of streams, or of the one."""
    if settings.get("stages"):
        return list(settings["stages"])
    own = {name: value for name, value in settings.items() if name != "places"}
    return [{**own, **place} for place in settings.get("places") or [{}]]


def describe_session(path: str | os.PathLike[str], settings: Mapping[str, Any], folder: str) -> None:
    """Opens the file as `open_session` does, and writes what the runtime made of it.

    For each stage, each place of streams, or the whole, a folder 0, 1, ... with `PROVIDERS`, node name to execution
    provider (empty where this release can't tell), and `OPTIMISED`, the graph that the executor walks, without the
    larger weights; none where a provider compiled nodes into something of its own.
    """
    # Who runs a call and when changes nothing in the graph, and this process keeps its processors and priority.
    parts = [{name: value for name, value in one.items() if name != "affinity"} for one in parts_of(settings)]
    for index, one in enumerate(parts):
        entry = one.pop("entry", os.path.basename(os.fspath(path)))  # noqa: PTH119 (see `open_session`)
        own = {name: value for name, value in one.items() if name not in _OF_RUNNING}
        beside = os.path.join(os.path.dirname(os.fspath(path)), entry)  # noqa: PTH118, PTH120 (see `open_session`)
        _describe(beside, own, os.path.join(folder, str(index)))  # noqa: PTH118 (see `open_session`)


def _describe(path: str, settings: Mapping[str, Any], folder: str) -> None:
    os.mkdir(folder)  # noqa: PTH102 (see `open_session`)
    try:
        session = _watched_session(path, settings, os.path.join(folder, OPTIMISED))  # noqa: PTH118 (see `open_session`)
    except Exception as error:
        if _COMPILED not in str(error):
            raise
        session = _watched_session(path, settings, "")
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    providers = {node.name: part.ep_name for part in tell() for node in part.get_nodes() if node.name} if tell else {}
    with open(os.path.join(folder, PROVIDERS), "w") as file:  # noqa: PTH118, PTH123 (see `open_session`)
        json.dump(providers, file)
    with contextlib.suppress(OSError):
        os.remove(os.path.join(folder, _WEIGHTS))  # noqa: PTH107, PTH118 (see `open_session`)


def _watched_session(path: str, settings: Mapping[str, Any], optimised: str) -> Any:
    options = session_options(settings)
    if optimised:
        options.optimized_model_filepath = optimised
        # Weights go beside the graph, which then is small however large the model is.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return inference_session(path, options, settings)


def inference_session(path: str | os.PathLike[str], options: Any, settings: Mapping[str, Any]) -> Any:
    """The runtime's own session, with what `settings` say and options have no place for: providers and skip."""
    made_for, here = settings.get("made_for"), processor_here()
    if made_for and made_for != here:
        raise RuntimeError(
            f"asked to open a model that was optimised for {_spelled(made_for)}; found {_spelled(here)}; write it on "
            "this machine, or in the portable form"
        )
    providers = list(settings.get("providers") or [_CPU])
    first, own = providers[0], {str(key): str(value) for key, value in (settings.get("provider_options") or {}).items()}
    chosen: dict[str, Any] = {"providers": [(first, own), *providers[1:]]}
    if first not in ort.get_available_providers():
        # What a plug-in leaves goes to the CPU's by itself.
        options.add_provider_for_devices(_devices_of(first)[:1], own)
        chosen = {}
    skip = list(settings.get("skip") or ())
    # It would print an error and try once more the same.
    session = ort.InferenceSession(os.fspath(path), options, disabled_optimizers=skip, enable_fallback=0, **chosen)
    if first not in session.get_providers():  # where its libraries do not load it only says so
        raise RuntimeError(
            f"asked to run on {first}; found that ONNX Runtime left it out and took "
            f"{', '.join(session.get_providers())}; install the libraries that it needs"
        )
    return session


def _session_of(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> Any:
    session = inference_session(path, session_options(settings), settings)
    return _Moving(session) if settings.get("huge_pages") else session


class _Moving:
    """The runtime's session, whose process moves its memory once: after the first run that ends, before the next.

    So the first one takes what it takes without, and finds its memory; the second waits for the pages.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._ran = False
        self._turn = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, *given: Any) -> Any:
        """As the runtime's session runs."""
        return self._told(self._session.run, given)

    def run_with_iobinding(self, *given: Any) -> None:
        """As the runtime's session runs."""
        self._told(self._session.run_with_iobinding, given)

    def _told(self, run: Callable[..., Any], given: Sequence[Any]) -> Any:
        if self._ran and self._turn.acquire(blocking=False):  # never let go of: once
            into_huge_pages()
            # From now on nothing stands between a call and the runtime.
            vars(self).update(run=self._session.run, run_with_iobinding=self._session.run_with_iobinding)
        found = run(*given)
        self._ran = True
        return found


def processor_here() -> dict[str, str]:
    """What a graph that is optimised for this machine is bound to: the runtime's version, and its instructions."""
    known: set[str] = set()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (see `open_session`)
            line = next((line for line in file if line.partition(":")[0].strip() in ("flags", "Features")), "")
        known = set(line.partition(":")[2].split())
    except OSError:
        pass  # another system than Linux
    return {
        "version": str(ort.__version__),
        "machine": platform.machine().lower(),
        "instructions": " ".join(name for name in _INSTRUCTIONS if name in known),
    }


def _spelled(processor: Mapping[str, Any]) -> str:
    return (
        f"{processor.get('machine')} with {processor.get('instructions') or 'no instructions known'}, version "
        + str(processor.get("version"))
    )


def known_providers() -> list[str]:
    """Execution providers that can be asked for here: those in the runtime, and those of plug-ins that see a device."""
    unusable = unusable_plug_ins()
    return list(dict.fromkeys([*ort.get_available_providers(), *(one for one in _plug_ins() if one not in unusable)]))


def unusable_plug_ins() -> dict[str, str]:
    """Providers of plug-ins that can't be asked for here, and why, in words that stand behind "found".

    A package that does not import, so that nobody knows what it provides, stands there by its own name.
    """
    broken: dict[str, str] = {}
    unusable = {name: why for name, path in _plug_ins(broken).items() for why in [_why_not(name, path)] if why}
    return {**unusable, **broken}


def _why_not(name: str, path: str) -> str:
    try:
        seen = _devices_seen(name, path)
    except Exception as error:  # noqa: BLE001 (a library raises what it likes; it is told, not hidden)
        return f"that its library ({path}) does not load: {error}"
    return "" if seen else f"no device here that its library ({os.path.basename(path)}) takes"  # noqa: PTH119 (see `open_session`)


def _devices_of(name: str) -> list[Any]:
    """What a provider of a plug-in can run on, as the runtime lists it.

    Raises:
        RuntimeError: No such provider, its library does not load, or it sees no device of its kind.

    """
    broken: dict[str, str] = {}
    plugged = _plug_ins(broken)
    if name not in plugged:
        told = "".join(f", and of {package} {why}" for package, why in broken.items())
        raise RuntimeError(
            f"asked to run on {name}; found providers {', '.join([*ort.get_available_providers(), *plugged])}{told}; "
            f"install the package that has it, or name its library: {_LIBRARIES}={name}=PATH"
        )
    why = _why_not(name, plugged[name])
    if why:
        raise RuntimeError(f"asked to run on {name}; found {why}; run it where it can be used")
    return _devices_seen(name, plugged[name])


def _devices_seen(name: str, path: str) -> list[Any]:
    """Devices that the plug-in of that provider sees; its library is loaded at the first time."""
    if _registered.get(name) != path:
        ort.register_execution_provider_library(name, path)
        _registered[name] = path
    return [device for device in ort.get_ep_devices() if device.ep_name == name]


def _plug_ins(broken: dict[str, str] | None = None) -> dict[str, str]:
    """Providers outside of the runtime, by name, with their libraries: what the environment names, then packages.

    Packages by the convention of https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/packaging.html:
    a module that gives `get_library_path` and `get_ep_names`. Those that raise are put into `broken`, with what they
    said.
    """
    if not hasattr(ort, "register_execution_provider_library"):
        return {}
    named = (part.partition("=") for part in os.environ.get(_LIBRARIES, "").split(os.pathsep))
    found = {name: path for name, _, path in named if name and path}
    for module in _plug_in_modules(tuple(sys.path)):
        try:
            package = importlib.import_module(module)
            path = str(package.get_library_path())
            names = package.get_ep_names() if hasattr(package, "get_ep_names") else [package.get_ep_name()]
        except Exception as error:  # noqa: BLE001 (whatever a broken package raises, it has no provider)
            if broken is not None:
                broken[module] = f"that the package does not import: {type(error).__name__}: {error}"
            continue
        for name in names:
            found.setdefault(str(name), path)
    return found


@functools.lru_cache(maxsize=1)
def _plug_in_modules(searched: tuple[str, ...]) -> tuple[str, ...]:
    """Modules in these folders that plug-ins' names fit; kept, for every session asks, and a listing takes 20 ms."""
    names = (module.name for module in pkgutil.iter_modules(searched))
    return tuple(name for name in names if name.startswith("onnxruntime_ep_") or name == "onnxruntime_qnn")


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
    """One bound call; where an input is text, which the runtime binds not, each run copies the inputs first."""

    def __init__(self, session: Any, arrays: dict[str, Any], outputs: Sequence[str]) -> None:
        self._session = session
        # The runtime reads these very buffers, so they must live as long as the call.
        self._arrays = arrays
        self._names = outputs
        self._found: Sequence[Any] = ()
        self._done = False
        if any(array.dtype.hasobject for array in arrays.values()):
            self._binding = None
            return
        self._binding = session.io_binding()
        self._values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        for name in outputs:
            self._binding.bind_output(name, "cpu")

    def run(self) -> None:
        """One inference."""
        if self._binding is None:
            self._found = self._session.run(self._names, self._arrays)
        else:
            self._session.run_with_iobinding(self._binding)
        self._done = True

    def outputs(self) -> dict[str, Any]:
        """Copies of the last run's outputs, by name; text as arrays of numpy's own text.

        Raises:
            RuntimeError: Nothing was run yet.

        """
        if not self._done:
            raise RuntimeError("asked for outputs; found that nothing was run; call run() first")
        values = self._found if self._binding is None else [one.numpy() for one in self._binding.get_outputs()]
        return {name: np.array(plain_text(value)) for name, value in zip(self._names, values)}  # noqa: B905 (newer than 3.8)


class _PinnedCall(Call):
    """A call whose thread stays on the processors of its stream, from its first run on."""

    def __init__(self, session: Any, arrays: dict[str, Any], outputs: Sequence[str], cores: Sequence[int]) -> None:
        super().__init__(session, arrays, outputs)
        self._cores = set(cores)
        self._thread = 0

    def run(self) -> None:
        """One inference."""
        thread = threading.get_ident()
        if thread != self._thread:
            _keep_to(self._cores)
            self._thread = thread
        super().run()


class Streams:
    """Several calls at once: each bound call belongs to one stream, the next to the next.

    Calls of one thread each share one session, which then holds the weights once: the caller's thread is all that it
    needs. Where a call has more threads, each stream has a session of its own, whose threads no other one waits for; so
    it has where streams run in different places (replicas on several devices).

    Args:
        path: The `.onnx` file.
        settings: As of `session_options`, and: streams, how many; cores, the processors of each, on which the threads
            of its session stay, and every thread that runs one of its calls. Without "threads" a stream has an equal
            part of the processors that this process may use; without "spinning" idle threads of several sessions do
            not spin. places: of each stream, its providers and their options.

    Raises:
        ValueError: A setting that there is not.

    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        own = {name: value for name, value in settings.items() if name not in ("streams", "cores", "places")}
        count, cores = int(settings["streams"]), list(settings.get("cores") or ())
        places = list(settings.get("places") or ())
        if count < 1 or (cores and len(cores) != count):
            raise ValueError(f"asked to open {count} streams; found the processors of {len(cores)}")
        if places and len(places) != count:
            raise ValueError(f"asked to open {count} streams; found the places of {len(places)}")
        if own.get("affinity"):
            _keep_to(own.pop("affinity"))
        threads = own.get("threads") or max(1, (len(cores[0]) if cores else _processors() // count))
        own["threads"] = threads
        if threads > 1 and own.get("spinning") is None:
            own["spinning"] = False
        self._cores = cores
        self._count = count
        shared = threads == 1 and not places
        self._sessions = [
            self._opened(path, {**own, **(places[index] if places else {})}, index)
            for index in range(1 if shared else count)
        ]
        self._inputs = self._sessions[0].get_inputs()
        self._outputs = [output.name for output in self._sessions[0].get_outputs()]
        self._turns = itertools.count()

    def bind(self, feeds: Mapping[str, Any]) -> Call:
        """Checks and binds the inputs (arrays by name) to the next stream.

        Raises:
            ValueError: Names, dtypes or shapes that the model does not take.
            RuntimeError: The session is closed.

        """
        if not self._sessions:
            raise RuntimeError("asked to bind feeds; found a session that is closed; open it again")
        arrays = check_feeds(self._inputs, feeds)
        stream = next(self._turns) % self._count
        session = self._sessions[stream % len(self._sessions)]
        if self._cores:
            return _PinnedCall(session, arrays, self._outputs, self._cores[stream])
        return Call(session, arrays, self._outputs)

    def stream(self, samples: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Outputs of each of the feeds, in their order; every stream is at work while these are looked at.

        Raises:
            ValueError: Feeds that do not fit.
            RuntimeError: The session is closed.

        """

        def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
            call = self.bind(feeds)
            call.run()
            return call.outputs()

        with ThreadPoolExecutor(self._count) as pool:
            inside: list[Any] = []
            for feeds in samples:
                inside.append(pool.submit(run, feeds))
                if len(inside) > 2 * self._count:
                    yield inside.pop(0).result()
            while inside:
                yield inside.pop(0).result()

    def close(self) -> None:
        """Frees the runtime's memory."""
        self._sessions = []

    def _opened(self, path: str | os.PathLike[str], settings: Mapping[str, Any], index: int) -> Any:
        """A session; opened by a thread on its processors, for the runtime's threads inherit these."""
        if not self._cores:
            return _session_of(path, settings)

        def opened() -> Any:
            _keep_to(self._cores[index])
            return _session_of(path, settings)

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(opened).result()


def _keep_to(processors: Iterable[int]) -> None:
    """Keeps this thread, and those that it starts, on these processors, where the system can.

    Raises:
        RuntimeError: They are not all here.

    """
    if not hasattr(os, "sched_setaffinity"):
        return
    wanted, before = set(processors), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, wanted)
        missing = wanted - os.sched_getaffinity(0)  # the system takes what there is of them without a word
    except (OSError, ValueError, OverflowError):
        missing = wanted - before or wanted
    if missing:
        os.sched_setaffinity(0, before)
        raise RuntimeError(
            f"asked to run on processors {', '.join(map(str, sorted(wanted)))}; found that "
            f"{', '.join(map(str, sorted(missing)))} can't be had here; name others, or none"
        )


def into_huge_pages() -> None:
    """Moves the memory that this process uses into huge pages, where the system gives them when asked; else nothing.

    Private anonymous memory alone (files that are mapped stay as they are), and only where at least half of a huge page
    is in use, for what moves fills all of it. Other threads may go on meanwhile: the kernel moves pages below them.
    Linux 6.1 and later: madvise(2), MADV_COLLAPSE, which takes what is there, whether or not it was asked for before.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError, ValueError):
        import ctypes

        with open(_HUGE_PAGES + "enabled", encoding="ascii") as file:  # noqa: PTH123 (Path would be its only use)
            if "[never]" in file.read():
                return
        with open(_HUGE_PAGES + "hpage_pmd_size", encoding="ascii") as file:  # noqa: PTH123
            size = int(file.read())
        libc = ctypes.CDLL(None)
        used = np.zeros(size // mmap.PAGESIZE, np.uint8)
        length, told = ctypes.c_size_t(size), ctypes.c_void_p(used.ctypes.data)
        for start in _blocks(size):
            where = ctypes.c_void_p(start)
            if libc.mincore(where, length, told) == 0 and 2 * np.count_nonzero(used & 1) >= len(used):
                libc.madvise(where, length, _COLLAPSE)


def _blocks(size: int) -> Iterator[int]:
    """Where each huge page of so many bytes would begin that lies in private anonymous memory that can be written."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        lines = file.read().splitlines()
    for line in lines:
        span, rights, _, _, inode, *name = line.split(None, 5)
        if rights != "rw-p" or inode != "0" or (name and name[0] != "[heap]" and not name[0].startswith("[anon:")):
            continue
        first, last = (int(one, 16) for one in span.split("-"))
        yield from range(-(-first // size) * size, last // size * size - size + 1, size)


def bytes_in_huge_pages() -> int:
    """Of this process, now; 0 where the system does not tell."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123
            told = [line.split()[1] for line in file if line.startswith("AnonHugePages:")]
        return 1024 * int(told[0]) if told else 0
    except OSError:
        return 0


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class StageError(RuntimeError):
    """A stage of a pipeline failed; with it the pipeline ends."""


class Pipeline:
    """Stages in a row, each with a thread, a session and processors of its own, all at work on different calls.

    Threads of one process, for ONNX Runtime lets go of Python's lock while it computes: values go from stage to stage
    as they are, nothing is copied, and no process can be left behind. Or, where it is asked for, each session lies in a
    process of its own, which the thread here feeds through shared memory: what one crashes, or takes of memory or of a
    device, is its own, and each value that crosses is copied twice. Calls leave in the order in which they came. Calls
    that wait are held back at the entry, so that at most two per stage are inside.

    Args:
        folder: Where the files of the stages lie.
        settings: stages: one mapping each, of "entry" (the file) and settings as of a session. Stages without
            "affinity" share the processors that this process may use in equal parts, with a thread on each; where there
            are fewer processors than stages, each has one thread, and goes where the system puts it. outputs: names of
            the whole's outputs, in order; what no stage makes of them is an input.
            processes: true for a process per stage.

    Raises:
        ValueError: A setting that there is not.

    """

    def __init__(self, folder: str, settings: Mapping[str, Any]) -> None:
        if set(settings) - {"processes"} != {"stages", "outputs"}:
            raise ValueError(
                f"asked to open a pipeline with {sorted(settings)}; found settings stages and outputs, and processes"
            )
        self._outputs = list(settings["outputs"])
        stages = settings["stages"]
        shares = _shares(len(stages))
        own = [{**({"affinity": share} if share else {"threads": 1}), **one} for one, share in zip(stages, shares)]  # noqa: B905
        opening = _Elsewhere if settings.get("processes") else _session_of
        self._stages = [_Stage(folder, one, opening) for one in own]
        for stage, following in zip(self._stages, self._stages[1:]):  # noqa: B905 (newer than 3.8)
            stage.following = following
        self._entry = threading.Semaphore(_WAITING_PER_STAGE * len(stages))
        self._turn = threading.Lock()
        self._closed = False
        try:
            for stage in self._stages:  # one after the other, so that at most one loads at a time
                stage.open()
        except BaseException:
            self.close()
            raise
        made = {name for stage in self._stages for name in stage.outputs}
        inputs = {node.name: node for stage in self._stages for node in stage.inputs if node.name not in made}
        self._inputs = list(inputs.values())
        self._passed = [name for name in self._outputs if name not in made and name not in inputs]

    @property
    def processes(self) -> list[int]:
        """Numbers of the processes that it runs in besides this one."""
        return [stage.pid for stage in self._stages if stage.pid != os.getpid()]

    def bind(self, feeds: Mapping[str, Any]) -> _StagedCall:
        """Checks the inputs (arrays by name); the call runs on them as they are now.

        Raises:
            ValueError: Names, dtypes or shapes that the model does not take.
            RuntimeError: The pipeline is closed.

        """
        missing = [name for name in self._passed if name not in feeds]
        if missing:
            raise ValueError(f"asked to feed {sorted(feeds)}; found inputs {missing} too")
        passed = {name: np.array(feeds[name]) for name in self._passed}
        arrays = check_feeds(self._inputs, {name: array for name, array in feeds.items() if name not in passed})
        return _StagedCall(self, {**arrays, **passed})

    def stream(self, samples: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Outputs of each of the feeds, in their order; the stages work ahead while these are looked at.

        Raises:
            ValueError: Feeds that do not fit.
            StageError: A stage failed.
            RuntimeError: The pipeline is closed.

        """
        inside: list[_Item] = []
        for feeds in samples:
            inside.append(self.enter(self.bind(feeds).arrays))
            if len(inside) == _WAITING_PER_STAGE * len(self._stages):
                yield self.leave(inside.pop(0))
        while inside:
            yield self.leave(inside.pop(0))

    def enter(self, arrays: Mapping[str, Any]) -> _Item:
        """Puts a call in, as soon as there is room."""
        self._entry.acquire()
        item = _Item(arrays, self._entry)
        with self._turn:
            if self._closed:
                self._entry.release()
                raise RuntimeError("asked to run a pipeline; found one that is closed; open it again")
            self._stages[0].inbox.put(item)
        return item

    def leave(self, item: _Item) -> dict[str, Any]:
        """Waits for a call; its outputs by name, text as arrays of numpy's own text.

        Raises:
            StageError: A stage failed, in this call or before.

        """
        item.done.acquire()
        if item.error is not None:
            raise StageError(str(item.error)) from item.error
        return {name: plain_text(item.values[name]) for name in self._outputs}

    def close(self) -> None:
        """Ends the threads, when the calls that are inside have left, and frees the runtime's memory."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._stages[0].inbox.put(None)
        for stage in self._stages:
            stage.join()


class _Item:
    """One call on its way."""

    def __init__(self, arrays: Mapping[str, Any], entry: threading.Semaphore) -> None:
        self.values = dict(arrays)
        self.error: BaseException | None = None
        # A plain lock wakes the thread that waits in some microseconds.
        self.done = threading.Lock()
        self.done.acquire()
        self._entry = entry

    def end(self) -> None:
        self._entry.release()
        self.done.release()


class _Stage:
    """One file and the thread that runs it."""

    def __init__(
        self, folder: str, settings: Mapping[str, Any], opening: Callable[[str, Mapping[str, Any]], Any]
    ) -> None:
        self._opening = opening
        self._settings = {name: value for name, value in settings.items() if name != "entry"}
        self._entry = str(settings["entry"])
        self._path = os.path.join(folder, self._entry)  # noqa: PTH118 (see `open_session`)
        self.inbox: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self.following: _Stage | None = None
        self.inputs: Sequence[Any] = ()
        self.outputs: list[str] = []
        self.pid = os.getpid()
        self._failed: BaseException | None = None
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def open(self) -> None:
        """Starts the thread, and waits until its session is open."""
        self._thread.start()
        self._opened.wait()
        if self._failed is not None:
            raise self._failed

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        session = None
        try:
            # In this thread: on Linux affinity is a thread's own, and the runtime's threads inherit it.
            session = self._opening(self._path, self._settings)
            self.pid = getattr(session, "pid", self.pid)
            self.inputs = session.get_inputs()
            self.outputs = [output.name for output in session.get_outputs()]
        except BaseException as error:  # noqa: BLE001 (raised by the thread that opens)
            self._failed = error
        self._opened.set()
        while True:
            item = self.inbox.get()
            if item is not None and item.error is None:
                self._run(session, item)
            if self.following is not None:
                self.following.inbox.put(item)
            elif item is not None:
                item.end()
            if item is None:
                if isinstance(session, _Elsewhere):
                    session.close()
                return

    def _run(self, session: Any, item: _Item) -> None:
        try:
            if self._failed is not None:
                raise self._failed
            feeds = {node.name: item.values[node.name] for node in self.inputs}
            results = session.run(self.outputs, feeds)
            item.values.update(zip(self.outputs, results))  # noqa: B905 (newer than 3.8)
        except BaseException as error:  # noqa: BLE001 (raised by the thread that waits for the call)
            found = f"{type(error).__name__}: {error}"
            item.error = self._failed = (
                error
                if isinstance(error, StageError)
                else StageError(
                    f"asked to run stage {self._entry}; found {found}; the pipeline has ended, so open it again"
                )
            )


class _Area:
    """Arrays in a file that two processes have mapped: one writes, the other reads, never at the same time."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a+b")  # noqa: PTH123, SIM115 (see `open_session`; it is open as long as this lives)
        self._map: Any = None

    def put(self, arrays: Mapping[str, Any]) -> list[list[Any]]:
        """Writes them; name, dtype, shape and place of each, for `take`."""
        told, end = [], 0
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise ValueError(f"asked to hand {name!r} to another process; found text; leave the stages in one")
            told.append([name, array.dtype.str, list(array.shape), end])
            end += -(-array.nbytes // _ALIGNED) * _ALIGNED
        self._reach(max(end, 1), grow=True)
        for (_, _, _, start), array in zip(told, arrays.values()):  # noqa: B905 (newer than 3.8)
            np.frombuffer(self._map, array.dtype, array.size, start).reshape(array.shape)[...] = array
        return told

    def take(self, told: Iterable[Sequence[Any]]) -> dict[str, Any]:
        """What was written, as views: they hold until the other process writes again."""
        found = {}
        for name, dtype, shape, start in told:
            count = int(np.prod(shape, dtype=np.int64))
            self._reach(start + count * np.dtype(dtype).itemsize, grow=False)
            found[name] = np.frombuffer(self._map, dtype, count, start).reshape(shape)
        return found

    def close(self) -> None:
        """Lets go of the file; views of it hold."""
        self._file.close()
        self._map = None

    def _reach(self, size: int, *, grow: bool) -> None:
        """Maps so much of the file, at least; one that writes makes it so large, or says that there is no room."""
        if self._map is not None and len(self._map) >= size:
            return
        if grow and os.fstat(self._file.fileno()).st_size < size:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
            else:
                self._file.truncate(size)
        import mmap

        self._map = mmap.mmap(self._file.fileno(), 0)  # views of the one before keep that


class _Elsewhere:
    """A session in a process of its own: values cross in shared memory, and words in its pipes.

    The process ends with its stdin, so that none outlives the one that started it.
    """

    def __init__(self, path: str, settings: Mapping[str, Any]) -> None:
        # Here, for nobody else needs them: each would cost every session's start.
        import shutil
        import subprocess
        import tempfile

        roomy = os.path.isdir(_SHARED) and os.access(_SHARED, os.W_OK)  # noqa: PTH112 (see `open_session`)
        folder = tempfile.mkdtemp(prefix="edgeport-stage-", dir=_SHARED if roomy else None)
        try:
            areas = [os.path.join(folder, name) for name in ("given", "found")]  # noqa: PTH118 (see `open_session`)
            self._given, self._found = (_Area(area) for area in areas)
            self._process: Any = subprocess.Popen(
                [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            found = [os.path.abspath(one) for one in sys.path]  # noqa: PTH100 (see `open_session`)
            words = {"path": found, "module": __name__, "file": __file__, "areas": areas}
            try:
                about = self._ask({**words, "entry": os.fspath(path), "settings": dict(settings)})
            except BaseException:
                self.close()
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # both have opened what is in it
        self._inputs = [_Port(*one) for one in about["inputs"]]
        self._outputs = [_Port(*one) for one in about["outputs"]]

    @property
    def pid(self) -> int:
        """Of the process."""
        return int(self._process.pid)

    def get_inputs(self) -> Sequence[Any]:
        """As the runtime's session tells them."""
        return self._inputs

    def get_outputs(self) -> Sequence[Any]:
        """As the runtime's session tells them."""
        return self._outputs

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """As the runtime's session runs; the results are copies."""
        found = self._found.take(self._ask({"outputs": list(outputs), "given": self._given.put(feeds)})["found"])
        return [np.array(found[name]) for name in outputs]

    def close(self) -> None:
        """Ends the process."""
        import subprocess

        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDED_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for file in (self._process.stdout, self._given, self._found):
            file.close()

    def _ask(self, words: Mapping[str, Any]) -> dict[str, Any]:
        line = b""
        with contextlib.suppress(OSError):  # it is gone, and the empty answer says so
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"its process ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


class _Port:
    """An input or an output, as the runtime tells of one."""

    def __init__(self, name: str, kind: str, shape: Sequence[Any]) -> None:
        self.name, self.type, self.shape = name, kind, shape


def serve_stage(words: Mapping[str, Any]) -> None:
    """Opens a stage, and runs it for the process that asks at stdin; see `_Elsewhere`."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints prints there

    def tell(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    def told(ports: Sequence[Any]) -> list[list[Any]]:
        return [[port.name, port.type, list(port.shape)] for port in ports]

    given, found = (_Area(area) for area in words["areas"])
    try:
        session = _session_of(words["entry"], words["settings"])
    except BaseException as error:  # noqa: BLE001 (raised by the process that asked)
        tell({"error": f"{type(error).__name__}: {error}"})
        return
    tell({"inputs": told(session.get_inputs()), "outputs": told(session.get_outputs())})
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        try:
            results = session.run(asked["outputs"], given.take(asked["given"]))
            tell({"found": found.put(dict(zip(asked["outputs"], results)))})  # noqa: B905 (newer than 3.8)
        except Exception as error:  # noqa: BLE001 (raised by the process that asked)
            tell({"error": f"{type(error).__name__}: {error}"})


class _StagedCall:
    """One bound call of a pipeline; several run at once in as many threads."""

    def __init__(self, pipeline: Pipeline, arrays: dict[str, Any]) -> None:
        self.arrays = arrays
        self._pipeline = pipeline
        self._found: dict[str, Any] | None = None

    def run(self) -> None:
        """One inference, through all stages."""
        self._found = self._pipeline.leave(self._pipeline.enter(self.arrays))

    def outputs(self) -> dict[str, Any]:
        """Copies of the last run's outputs, by name.

        Raises:
            RuntimeError: Nothing was run yet.

        """
        if self._found is None:
            raise RuntimeError("asked for outputs; found that nothing was run; call run() first")
        return {name: np.array(array) for name, array in self._found.items()}


def _shares(count: int) -> list[list[int]]:
    """The processors of each of so many stages; none where there are too few, or the system does not tell."""
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(mine) < count:
        return [[] for _ in range(count)]
    return [mine[index * len(mine) // count : (index + 1) * len(mine) // count] for index in range(count)]


def check_feeds(inputs: Sequence[Any], feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The feeds as contiguous arrays of its own memory, by input name; text as Python's objects.

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
        is_text = dtype == "object"
        if is_text and array.dtype.kind in "UT":
            array = array.astype(object)
        if dtype is None or array.dtype != np.dtype(dtype):
            takes = node.type if dtype is None or is_text else dtype
            raise ValueError(f"asked to feed {name!r} as {array.dtype}; found that it takes {takes}")
        if not _fits(array.shape, node.shape, sizes):
            raise ValueError(
                f"asked to feed {name!r} in shape {list(array.shape)}; found that it takes {list(node.shape)}"
            )
        arrays[name] = np.array(array, order="C", copy=True)
    return arrays


def plain_text(array: Any) -> Any:
    """The array; text, which the runtime gives as Python's objects, as numpy's own, which files can hold."""
    return array.astype(np.str_) if array.dtype.hasobject else array


def _fits(shape: Sequence[int], wanted: Sequence[Any], sizes: dict[str, int]) -> bool:
    """Sizes equal the fixed ones, and a named axis has one size everywhere."""
    if len(shape) != len(wanted):
        return False
    for size, want in zip(shape, wanted):  # noqa: B905 (newer than 3.8)
        expected = sizes.setdefault(want, size) if isinstance(want, str) else want
        if expected is not None and size != expected:
            return False
    return True
