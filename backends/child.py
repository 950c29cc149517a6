"""What a backend does, as functions of JSON values, so that it can be done in a child process.

A model from outside may crash a runtime, or never end; `edgeport.isolation.run_isolated` runs these by their names:
`edgeport.backends.child:compile_in_child` and so on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from edgeport.backends.registry import backend
from edgeport.contracts import (
    Artifact,
    ExecutionConfig,
    OnnxModel,
    QuantizationPlan,
    load_json,
    to_jsonable,
)
from edgeport.contracts.serialise import canonical

__all__ = ["capabilities_in_child", "compile_in_child", "placement_in_child"]

T = TypeVar("T")


def capabilities_in_child(payload: dict[str, Any]) -> dict[str, Any]:
    """`{"backend"}` to `Capabilities`."""
    return _plain(backend(payload["backend"]).capabilities())


def compile_in_child(payload: dict[str, Any]) -> dict[str, Any]:
    """`{"backend", "model", "plan", "execution", "folder"}` to `Artifact`."""
    artifact = backend(payload["backend"]).compile(
        _contract(OnnxModel, payload["model"]),
        _contract(QuantizationPlan, payload["plan"]),
        _contract(ExecutionConfig, payload["execution"]),
        Path(payload["folder"]),
    )
    return _plain(artifact)


def placement_in_child(payload: dict[str, Any]) -> dict[str, Any]:
    """`{"artifact"}` to `Placement`; the artifact names its backend."""
    artifact = _contract(Artifact, payload["artifact"])
    return _plain(backend(payload.get("backend", artifact.backend)).placement(artifact))


def _contract(cls: type[T], values: Any) -> T:
    """Checked as if it had come from a file."""
    return load_json(cls, canonical(values))


def _plain(contract: object) -> dict[str, Any]:
    values: dict[str, Any] = to_jsonable(contract)
    return values
