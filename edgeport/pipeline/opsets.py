"""A file of an opset that quantized tensors per channel can't be written in, in a newer one; in a child."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.contracts import Array
from edgeport.contracts.recipe import Recipe
from edgeport.errors import ModelError
from edgeport.npz import load_npz
from edgeport.ragged import RaggedBatch, run_rows

__all__ = ["LEAST_OPSET", "raise_opset", "wants_integers"]

LEAST_OPSET = 13
"""QuantizeLinear has an axis from here on (the ONNX operator's version 13)."""

_RELATIVE = 1e-4
"""Of the largest output: what another order of sums in float32 may change."""


def wants_integers(recipe: Recipe) -> bool:
    """Some candidate is to be quantized."""
    return any(not one.is_float for target in recipe.targets for one in target.precisions)


def raise_opset(payload: dict[str, Any]) -> dict[str, Any]:
    """Converts an adopted model by ONNX's own version converter, and keeps that where it computes the same.

    Args:
        payload: `folder` with `model.onnx` (replaced) and `reference.npz` (what it gives to the samples), `feeds`
            (`.npz`), and `state` and `starts` as of `adopt`.

    Returns:
        `worst`: the largest difference, absolute.

    Raises:
        ModelError: It can't be converted, or computes something else then.

    """
    import onnx
    from onnx import version_converter

    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.onnx_files import read_ir, write_ir
    from edgeport.pipeline.batches import run_in_batches
    from edgeport.pipeline.children import feeds_of

    folder, scratch = Path(payload["folder"]), Path(payload["folder"]) / "raised"
    scratch.mkdir()
    try:
        converted = version_converter.convert_version(onnx.load(folder / "model.onnx"), LEAST_OPSET)
        onnx.save(converted, scratch / "converted.onnx")
    except Exception as error:
        raise _refused(f"{type(error).__name__}: {str(error).strip()}") from error
    state = payload.get("state", {})
    model = replace(write_ir(read_ir(scratch / "converted.onnx"), scratch / "model.onnx"), state=state)
    rows = RaggedBatch.of(feeds_of(model, payload["feeds"]), tuple(state.values()))
    with open_reference(model.path) as run:
        if state or rows.shapes:
            starts = payload.get("starts", ())
            outputs = run_rows(run, rows, batch=model.fixed_batch or 1, state=state, starts=starts)
        else:
            outputs = run_in_batches(run, rows.values, model.fixed_batch or 1)
    worst = _worst(outputs, load_npz(folder / "reference.npz"))
    for path in [path for path in scratch.iterdir() if path.name != "converted.onnx"]:
        path.replace(folder / path.name)
    for path in scratch.iterdir():
        path.unlink()
    scratch.rmdir()
    return {"worst": worst}


def _worst(found: dict[str, Array], wanted: dict[str, Array]) -> float:
    worst = 0.0
    for name, array in wanted.items():
        other = found.get(name)
        if other is None or other.shape != array.shape or other.dtype != array.dtype:
            raise _refused(f"another output {name!r} than before")
        if array.dtype.kind != "f":
            if not np.array_equal(other, array):
                raise _refused(f"other values of {name!r}")
            continue
        apart = np.abs(other.astype(np.float64) - array.astype(np.float64))
        largest = float(np.nanmax(np.abs(array), initial=0.0))
        if not (np.isnan(array) == np.isnan(other)).all() or np.nanmax(apart, initial=0.0) > _RELATIVE * largest:
            raise _refused(f"that {name!r} is off by up to {np.nanmax(apart, initial=0.0):.3g}")
        worst = max(worst, float(np.nanmax(apart, initial=0.0)))
    return worst


def _refused(found: str) -> ModelError:
    return ModelError(
        asked=f"convert the model to opset {LEAST_OPSET}, which int8 needs",
        found=found,
        fix="export it again with opset 20, or leave int8 out",
    )
