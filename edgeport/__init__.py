"""Edgeport: a trained PyTorch model goes in; a smaller, faster, verified and timed artifact comes out.

The functions of `edgeport.api` are here too: `edgeport.run("edgeport.toml")`. Nothing heavy is loaded before one is
called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeport.api import (
        BenchOptions,
        CalibrateOptions,
        CompareOptions,
        DistillOptions,
        ExportSettings,
        PruneOptions,
        QatOptions,
        QuantizeOptions,
        TuneOptions,
        VerifyOptions,
        bench,
        calibrate,
        compare,
        distill,
        export,
        prune,
        qat,
        quantize,
        quickstart,
        run,
        tune,
        verify,
        verify_bundle,
    )
    from edgeport.errors import EdgeportError

__version__ = "0.1.0"

__all__ = [
    "BenchOptions",
    "CalibrateOptions",
    "CompareOptions",
    "DistillOptions",
    "EdgeportError",
    "ExportSettings",
    "PruneOptions",
    "QatOptions",
    "QuantizeOptions",
    "TuneOptions",
    "VerifyOptions",
    "bench",
    "calibrate",
    "compare",
    "distill",
    "export",
    "prune",
    "qat",
    "quantize",
    "quickstart",
    "run",
    "tune",
    "verify",
    "verify_bundle",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        import importlib

        module = "edgeport.errors" if name == "EdgeportError" else "edgeport.api"
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
