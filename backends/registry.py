"""A backend by its name."""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from edgeport.contracts import Backend, OnnxModel, PlanReducing, ProcessorPeak, QuantizationPlan
from edgeport.errors import DependencyError, EdgeportError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BUILT_IN", "available_backends", "backend", "effective_plan", "peak_backends"]

BUILT_IN = {
    "onnxruntime": "edgeport.backends.onnxruntime:create_backend",
    "openvino": "edgeport.backends.openvino:create_backend",
    "tensorrt": "edgeport.backends.tensorrt:create_backend",
}
GROUP = "edgeport.backends"
"""Entry points of this group are backends that others have written: name to `pkg.mod:factory`."""


def available_backends() -> tuple[str, ...]:
    """Names that `backend` knows: ours first, then those of installed packages, by name.

    Whether its runtime is installed is another question, which `capabilities` answers.
    """
    others = {point.name for point in entry_points(group=GROUP)} - BUILT_IN.keys()
    return (*BUILT_IN, *sorted(others))


def backend(name: str) -> Backend:
    """The backend of that name, or the one that `pkg.mod:factory` makes.

    A package can't take over one of our own names.

    Raises:
        UsageError: No backend of that name.
        DependencyError: Its module does not import, or has no such factory.

    """
    if name in BUILT_IN:
        return _made(name, BUILT_IN[name])
    for point in entry_points(group=GROUP):
        if point.name == name:
            return _made(name, point.value)
    if ":" in name:
        return _made(name, name)
    known = available_backends()
    close = difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        asked=f"use the backend {name!r}",
        found=f"backends {', '.join(known)}",
        fix=f"did you mean {close[0]!r}?" if close else "use one of them, or pkg.mod:factory",
    )


def effective_plan(name: str, model: OnnxModel, plan: QuantizationPlan) -> QuantizationPlan:
    """The plan as the backend of that name writes it; see `PlanReducing`."""
    made = backend(name)
    return made.effective_plan(model, plan) if isinstance(made, PlanReducing) else plan


def peak_backends() -> dict[str, ProcessorPeak]:
    """Those of ours whose best product is the processor's peak, the one first that stands in for all others.

    Not those of other packages: one that answers without computing would have an endless peak.
    """
    own = {name: backend(name) for name in BUILT_IN}
    return {name: made for name, made in own.items() if isinstance(made, ProcessorPeak)}


def _made(name: str, location: str) -> Backend:
    module_name, _, attribute = location.partition(":")
    try:
        factory: Callable[[], Backend] = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DependencyError(
            asked=f"use the backend {name!r} ({location})",
            found=f"{type(error).__name__}: {error}",
            fix="install the package it belongs to, name its folder in PYTHONPATH, or correct it (pkg.mod:factory)",
        ) from error
    try:
        return factory()
    except EdgeportError:
        raise
    except Exception as error:  # somebody else's code
        raise DependencyError(
            asked=f"use the backend {name!r} ({location})",
            found=f"that making it raised {type(error).__name__}: {error}",
            fix="see what its package needs here, or take another backend",
        ) from error
