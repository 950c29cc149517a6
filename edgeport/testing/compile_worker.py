"""Compiles with a backend as a function of JSON values, for `edgeport.isolation.run_isolated` to do it in a child."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeport.backends.registry import backend
from edgeport.contracts import ExecutionConfig, OnnxModel, QuantizationPlan, load_json, to_jsonable
from edgeport.contracts.serialise import canonical


def compile_artifact(payload: dict[str, Any]) -> dict[str, Any]:
    """`{"backend", "model", "plan", "execution", "folder"}` to `Artifact`."""
    artifact = backend(payload["backend"]).compile(
        load_json(OnnxModel, canonical(payload["model"])),
        load_json(QuantizationPlan, canonical(payload["plan"])),
        load_json(ExecutionConfig, canonical(payload["execution"])),
        Path(payload["folder"]),
    )
    values: dict[str, Any] = to_jsonable(artifact)
    return values
