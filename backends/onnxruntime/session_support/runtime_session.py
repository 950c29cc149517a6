"""The runtime's own session, opened as an artifact's settings say.

Ships to devices within `session.py`: Python 3.8 syntax, standard library, numpy and onnxruntime only.
"""

from __future__ import annotations

import os
import platform
from typing import Any, Callable, Mapping, Sequence  # noqa: UP035 (Python 3.8 can't subscript those of collections.abc)

import onnxruntime as ort

from edgeport.backends.onnxruntime.session_support.providers import devices_of
from edgeport.backends.session_support.affinity import keep_to, lower_priority
from edgeport.backends.session_support.huge_pages import HugePageMove

__all__ = ["inference_session", "open_runtime_session", "processor_here", "session_options"]

_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
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
_CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3


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
    lower_priority(settings.get("priority"))
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.graph_optimization_level = _LEVELS[level]
    threads, affinity = settings.get("threads"), settings.get("affinity") or ()
    if affinity:
        keep_to(affinity)
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
        options.add_provider_for_devices(devices_of(first)[:1], own)
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


def open_runtime_session(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> Any:
    """The session of these settings, whose memory moves into huge pages where they say so."""
    session = inference_session(path, session_options(settings), settings)
    return _MovingSession(session) if settings.get("huge_pages") else session


class _MovingSession:
    """The runtime's session, whose process moves its memory once; see `HugePageMove`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._move = HugePageMove()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, *given: Any) -> Any:
        """As the runtime's session runs."""
        return self._run(self._session.run, given)

    def run_with_iobinding(self, *given: Any) -> None:
        """As the runtime's session runs."""
        self._run(self._session.run_with_iobinding, given)

    def _run(self, run: Callable[..., Any], given: Sequence[Any]) -> Any:
        if self._move.is_over():
            # From now on nothing stands between a call and the runtime.
            vars(self).update(run=self._session.run, run_with_iobinding=self._session.run_with_iobinding)
        results = run(*given)
        self._move.ran = True
        return results


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
