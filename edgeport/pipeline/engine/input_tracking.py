"""What users' code rests on: found out while it runs, as a compiler notes the headers that it reads.

`run_recorded` runs work in a child that notes every file opened for reading, every folder listed, every path whose
existence was asked, every place where a module was looked for, and every package used there, with its state at that
moment. `states_of` tells their present state, by which the store knows whether an earlier result still holds
(`Store.get_or_build_watched`).

What lies in a folder of the import path, though nobody asks for it, is no input: Python lists such folders to find
modules and packages, and these listings are not noted; the places that it looked for are.

Not noted: Python's standard library, the files inside installed packages (their version is), Edgeport itself (its code
is in every key), and temporary files. Not seen: what native code opens by itself (safetensors apart), what other
processes do (but the files that those of a training read), environment variables, the network.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import platform
import re
import site
import stat
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeport.contracts import OnProgress, digest_file, silent
from edgeport.isolation import run_isolated
from edgeport.module_files import module_file
from edgeport.pipeline.engine.context import RunContext

__all__ = ["record", "run_recorded", "runs_foreign_code", "session_state", "states_of"]

ABSENT = "absent"
"""State of a file that was looked for and is not there."""

_MODULE_FORMS = (*importlib.machinery.all_suffixes(), "/__init__.py", "/")
"""What stands behind a module's name in a folder that has it: as a file, as a package, as one without `__init__`."""

_LISTS_IMPORT_PATH = ("importlib._bootstrap_external", "importlib.metadata", "importlib_metadata", "pkg_resources")
"""Modules that list the folders of the import path, for names of modules and packages."""

_MAKES = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1}
"""Audit events of paths that are made, and the place of those among their arguments."""

_WRITES = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATH_AT = {
    **_MAKES,
    "open": 0,
    "os.listdir": 0,
    "os.scandir": 0,
    "sqlite3.connect": 0,
    "ctypes.dlopen": 0,
    "import": 1,
}
"""Audit events (docs.python.org/3/library/audit_events.html) that name a path, and its place among their arguments."""


def run_recorded(
    context: RunContext, function: str, payload: Mapping[str, object], *, asked: str, on_progress: OnProgress = silent
) -> tuple[dict[str, Any], dict[str, str]]:
    """As `run_isolated`; returns also the state, by name, of everything that the child's work rested on."""
    request = {
        "function": function,
        "payload": payload,
        "apart": [str(context.store.root), str(context.scratch)],
    }
    found = run_isolated(
        "edgeport.pipeline.engine.input_tracking:record",
        request,
        limits=context.limits,
        on_progress=on_progress,
        asked=asked,
    )
    return found["value"], found["rests_on"]


def record(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Child's side of `run_recorded`. The hook stays until the process ends: call it in a child only."""
    recorder = _Recorder(payload["apart"])
    _show_safetensors(recorder)
    _show_looks(recorder)
    sys.meta_path.insert(0, _ImportWatcher(recorder))
    sys.addaudithook(recorder)
    module, _, name = payload["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    takes_progress = "on_progress" in inspect.signature(function).parameters
    value = function(payload["payload"], **({"on_progress": on_progress} if takes_progress else {}))
    return {"value": value, "rests_on": recorder.found()}


def states_of(names: Iterable[str]) -> dict[str, str]:
    """Present state of the things that a recording named."""
    return {name: _state(name) for name in names}


def runs_foreign_code(backend: str) -> bool:
    """The backend of that name is not one of Edgeport's own."""
    from edgeport.backends.registry import BUILT_IN

    return backend not in BUILT_IN


def session_state(session: str) -> dict[str, str]:
    """State of a session module and of the packages that it imports, for keys of what it answered or how fast.

    Our own sessions and their runtimes are in every key already, with Edgeport's code and the device's facts.
    """
    file = None if session.startswith("edgeport.") else module_file(session)
    if file is None:
        return {}
    import ast

    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return {"source": digest_file(file), **states_of(_packages(names))}


def _state(name: str) -> str:
    kind, _, what = name.partition(" ")
    if kind == "package":
        try:
            return metadata.version(what)
        except metadata.PackageNotFoundError:
            return ABSENT
    if kind == "python":
        return platform.python_version()
    if kind == "module":
        return ",".join(form for form in _MODULE_FORMS if os.path.exists(what + form)) or ABSENT  # noqa: PTH110 (text)
    try:
        return _path_state(kind, what)
    except OSError:
        return ABSENT


def _path_state(kind: str, path: str) -> str:
    if kind == "there":
        return "folder" if stat.S_ISDIR(os.stat(path).st_mode) else "file"  # noqa: PTH116 (as it was given)
    if kind == "folder":
        names = sorted(entry for entry in os.listdir(path) if entry != "__pycache__")  # noqa: PTH208 (as bytes-safe)
        return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    # Pipes and devices would wait or never end.
    return digest_file(Path(path)) if stat.S_ISREG(os.stat(path).st_mode) else ""  # noqa: PTH116 (as it was given)


class _Recorder:
    """An audit hook that keeps the state of what is read, as it is at that moment.

    Args:
        apart: Folders of ours, whose files are made by this run.

    """

    def __init__(self, apart: Iterable[str]) -> None:
        self._seen: dict[str, str] = {}
        self._written: set[str] = set()
        self._skipped = _skipped(apart)
        self._installed = frozenset(_distributions())
        self._folder = os.getcwd()  # noqa: PTH109 (compared as text)
        self._busy = threading.local()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Told by Python of everything; an error here would reach the user's code, so there is none."""
        place = _PATH_AT.get(event)
        if place is None:
            return
        path = "." if arguments[place] is None and event != "import" else arguments[place]
        if isinstance(path, str | bytes | os.PathLike):
            # Whoever did it stands below this frame.
            module = sys._getframe(1).f_globals.get("__name__")  # noqa: SLF001 (no other way)
            self._quietly(lambda: self._note(event, os.fsdecode(path), arguments, str(module)))

    def _quietly(self, work: Callable[[], None]) -> None:
        """Does our own work, of which nothing is noted, and which raises nothing."""
        if getattr(self._busy, "at_work", False):
            return
        self._busy.at_work = True
        try:
            work()
        except Exception:  # noqa: BLE001, S110 (whatever it is, the user's code must go on as without us)
            pass
        finally:
            self._busy.at_work = False

    def _note(self, event: str, path: str, arguments: tuple[Any, ...], module: str) -> None:
        if event in _MAKES or (event == "open" and (arguments[2] or 0) & _WRITES):
            self._made(path)
        elif event in ("os.listdir", "os.scandir"):
            if module not in _LISTS_IMPORT_PATH:
                self._keep("folder", path)
        elif event != "ctypes.dlopen" or os.sep in path:
            self.read(path)

    def _made(self, path: str) -> None:
        """What was not there before is a product of this work, whoever looks at it later."""
        new = not os.path.lexists(path)  # told before it is made
        for kind in ("file", "there", "folder") if new else ("file",):
            name = f"{kind} {self._name(path)}"
            if self._seen.get(name, ABSENT) == ABSENT:
                self._seen.pop(name, None)
                self._written.add(name)

    def read(self, path: str) -> None:
        """A file that is about to be read."""
        if path.endswith(".pyc") and "__pycache__" in path:
            path = importlib.util.source_from_cache(path)
        self._keep("file", path)

    def looked_at(self, path: str) -> None:
        """Somebody asks whether this is there."""
        self._quietly(lambda: self._keep("there", path))

    def looked_for(self, module: str, folders: Iterable[str] | None) -> None:
        """Python looks for a module in these folders, of the import path if None: there one may appear, or go."""
        first, _, last = module.rpartition(".")
        if not first and (module in sys.stdlib_module_names or module in self._installed):
            return

        def note() -> None:
            for folder in sys.path if folders is None else folders:
                self._keep("module", os.path.join(folder, last))  # noqa: PTH118 (text)

        self._quietly(note)

    def _keep(self, kind: str, path: str) -> None:
        name = f"{kind} {self._name(path)}"
        if name in self._seen or name in self._written:
            return
        whole = os.path.abspath(path)  # noqa: PTH100 (resolve() would follow links, which may be turned elsewhere)
        # Most paths are below a library: only of the others the links are followed, which takes longer than all else.
        if f"{whole}{os.sep}".startswith(self._skipped):
            return
        if f"{os.path.realpath(whole)}{os.sep}".startswith(self._skipped):
            return
        state = _state(name)
        if state:
            self._seen[name] = state

    def _name(self, path: str) -> str:
        """As it was given while that means the same to the next run, which may start in another folder."""
        return path if os.path.isabs(path) or os.getcwd() == self._folder else os.path.abspath(path)  # noqa: PTH100, PTH109, PTH117 (text)

    def found(self) -> dict[str, str]:
        """Name to state. What is gone by now was a temporary file, and no input."""
        self._busy.at_work = True
        kept = {
            name: state
            for name, state in self._seen.items()
            if state == ABSENT or name.startswith("module ") or os.path.exists(name.partition(" ")[2])  # noqa: PTH110 (as it was given)
        }
        loaded = {name.partition(".")[0] for name in list(sys.modules)}
        return kept | states_of([*_packages(loaded), "python "])


def _skipped(apart: Iterable[str]) -> tuple[str, ...]:
    """Beginnings of the paths that are not noted."""
    import edgeport

    package = Path(edgeport.__file__).parent
    ours = [package, *(link.resolve() for link in package.iterdir() if link.is_symlink())]
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [*apart, *map(str, ours), *libraries, *site.getsitepackages(), site.getusersitepackages()]
    # Of the standard library too, and looked for in vain by whoever lists installed packages.
    folders += [entry for entry in sys.path if re.fullmatch(r"python\d+\.zip", os.path.basename(entry))]  # noqa: PTH119 (text)
    devices = os.listdir("/dev") if os.path.isdir("/dev") else []  # noqa: PTH112, PTH208 (text)
    folders += ["/proc", "/sys", *(f"/dev/{name}" for name in devices if name != "shm")]  # that one is memory for files
    both = {form for folder in folders for form in (os.path.abspath(folder), os.path.realpath(folder))}  # noqa: PTH100 (both forms occur)
    # PyTorch makes a cache in the system's temporary folder, which is empty again after the next start.
    caches = os.path.join(os.path.realpath(tempfile.gettempdir()), "torchinductor_")  # noqa: PTH118 (text)
    return (*(f"{folder}{os.sep}" for folder in both), caches)


@lru_cache(maxsize=1)
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _packages(modules: Iterable[str]) -> list[str]:
    """Names of the installed packages that these top-level modules belong to, Edgeport's own left out."""
    known = _distributions()
    found = {distribution for module in modules for distribution in known.get(module, ())}
    return [f"package {name}" for name in sorted(found - {"edgeport"})]


def _show_safetensors(recorder: _Recorder) -> None:
    """Its files are opened by native code, of which Python is not told; and most weights are in such files."""
    try:
        import safetensors
    except ImportError:
        return
    native = safetensors.safe_open

    def safe_open(filename: str | os.PathLike[str], *arguments: Any, **options: Any) -> Any:
        recorder.read(os.fspath(filename))
        return native(filename, *arguments, **options)

    vars(safetensors)["safe_open"] = safe_open


def _show_looks(recorder: _Recorder) -> None:
    """Python tells of no `os.stat`, by which `os.path.exists` and pathlib ask whether something is there."""

    def shown(native: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(native)
        def look(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | bytes | os.PathLike) and options.get("dir_fd") is None:
                recorder.looked_at(os.fsdecode(path))
            return native(path, *arguments, **options)

        # Python asks these sets which of its functions take a descriptor.
        for known in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks, os.supports_effective_ids):
            if native in known:
                known.add(look)
        return look

    for name in ("stat", "lstat", "access"):
        vars(os)[name] = shown(getattr(os, name))


class _ImportWatcher:
    """First of Python's finders; finds nothing, but sees what is looked for and where."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder

    def find_spec(self, name: str, path: Iterable[str] | None = None, target: object = None) -> None:  # noqa: ARG002 (Python's signature)
        self._recorder.looked_for(name, path)
