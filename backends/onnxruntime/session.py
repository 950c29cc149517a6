"""Runs an ONNX file with ONNX Runtime, in one stream or several, or several files as the stages of a pipeline.

Ships to devices as one file with what it imports of ours (see `../session_support/README.md`): standard library, numpy
and onnxruntime only, Python 3.8 syntax.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Mapping  # noqa: UP035 (Python 3.8 can't subscript that of collections.abc)

from edgeport.backends.onnxruntime.session_support.pipeline import Pipeline
from edgeport.backends.onnxruntime.session_support.runtime_session import (
    inference_session,
    open_runtime_session,
    session_options,
)
from edgeport.backends.onnxruntime.session_support.streams import Session, Streams

__all__ = ["OPTIMISED", "PROVIDERS", "describe_session", "open_session", "parts_of"]

OPTIMISED, PROVIDERS = "optimised.onnx", "providers.json"
_OF_RUNNING = ("streams", "cores", "priority", "huge_pages")
_WEIGHTS = "weights.bin"
_COMPILED = "contains compiled nodes"
"""What the runtime says where it can't write a graph in which a provider replaced nodes by what it compiled."""


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
    return Session(open_runtime_session(path, settings))


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
