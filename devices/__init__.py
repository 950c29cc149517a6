"""Target devices: the agent that runs there, the order of measuring, and what the traces say.

The packages below are light; `edgeport.devices.latency` needs numpy, and scipy where it computes.
"""

from __future__ import annotations

from importlib import import_module

__all__ = [
    "LocalDevice",
    "RemoteDevice",
    "Round",
    "build_agent",
    "open_device",
    "order_of_round",
    "run_rounds",
    "to_measurements",
]

_HOMES = {
    "LocalDevice": "local",
    "RemoteDevice": "remote",
    "Round": "experiment",
    "build_agent": "agent_archive",
    "open_device": "opening",
    "order_of_round": "experiment",
    "run_rounds": "experiment",
    "to_measurements": "experiment",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"edgeport.devices.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
