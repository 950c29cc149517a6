"""What a backend can do here, asked in a child: a runtime that crashes when it is loaded is an answer, too."""

from __future__ import annotations

import json
from dataclasses import replace

from edgeport.contracts import Accelerator, Capabilities, Limits, Processor, load_json, to_jsonable
from edgeport.errors import ContractError, EdgeportError, UsageError
from edgeport.isolation import run_isolated
from edgeport.pipeline.engine.context import RunContext

__all__ = ["probe", "probed", "probed_with_accelerators"]


def probed(backend: str, limits: Limits, processor: Processor | None = None) -> Capabilities:
    """What it says of itself; where it says nothing sensible, that it is not usable, and why.

    Args:
        backend: Its name.
        limits: Of the child.
        processor: That it is asked for; None for this machine's.

    Raises:
        UsageError: No backend of that name.

    """
    return probed_with_accelerators(backend, limits, processor)[0]


def probed_with_accelerators(
    backend: str, limits: Limits, processor: Processor | None = None
) -> tuple[Capabilities, tuple[Accelerator, ...]]:
    """As `probed`, and the accelerators that it knows, whether or not they are here."""
    payload = {"backend": backend, "processor": to_jsonable(processor)}
    try:
        found = run_isolated(
            "edgeport.pipeline.compilation.worker:probe", payload, limits=limits, asked=f"ask {backend} what it can do"
        )
        told = load_json(Capabilities, json.dumps(found["capabilities"]))
        accelerators = tuple(load_json(Accelerator, json.dumps(one)) for one in found["accelerators"])
    except UsageError:
        raise
    except ContractError as error:
        return Capabilities(backend=backend, reason=f"what it says of itself is no Capabilities ({error.found})"), ()
    except EdgeportError as error:
        return Capabilities(backend=backend, reason=error.reason), ()
    return replace(told, processor=processor), accelerators


def probe(backend: str, context: RunContext, processor: Processor | None = None) -> Capabilities:
    """As `probed`; a backend that there is not is not usable.

    Args:
        backend: Its name.
        context: Of the run.
        processor: That it is asked for; None for this machine's.

    """
    try:
        return probed(backend, context.limits, processor)
    except UsageError as error:
        return Capabilities(backend=backend, reason=error.reason)
