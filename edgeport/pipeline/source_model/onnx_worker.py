"""Brings an ONNX file into canonical form, in a child process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import Array
from edgeport.errors import ModelError
from edgeport.npz import load_npz, save_npz
from edgeport.pipeline.datasets.batching import feeds_of
from edgeport.ragged import Rows, run_rows

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["LEAST_OPSET", "adopt", "raise_opset"]

LEAST_OPSET = 13
"""QuantizeLinear has an axis from here on (the ONNX operator's version 13)."""
_RELATIVE = 1e-4
"""Of the largest output: what another order of sums in float32 may change."""


def adopt(payload: dict[str, Any]) -> dict[str, Any]:
    """Brings an ONNX file into canonical form and runs it on the evaluation set.

    Args:
        payload: `model` (path), `feeds` (`.npz`), `folder`, which gets `model.onnx` and `reference.npz`, and where
            wanted `constants` (values of inputs that are not fed), `state` (output to input) and `starts`.

    Returns:
        `quantized`: the nodes that show that it is quantized already; empty for a float model.

    Raises:
        UnsupportedByBackend: It has operators that ONNX Runtime has not.

    """
    from edgeport.backends.onnxruntime.constants import OWN_DOMAINS
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.onnx_files import (
        quantization_evidence,
        read_ir,
        refuse_custom_operators,
        write_constants,
        write_ir,
    )
    from edgeport.pipeline.datasets.batching import require_a_batch, require_samples, run_in_batches

    path, folder = Path(payload["model"]), Path(payload["folder"])
    graph = read_ir(path)
    refuse_custom_operators(graph, asked=f"run {path.name}", runtime="ONNX Runtime", known=OWN_DOMAINS)
    quantized = quantization_evidence(graph)
    if payload.get("constants"):
        write_constants(graph, payload["constants"])
        _fold(graph)
    model = replace(write_ir(graph, folder / "model.onnx"), state=payload.get("state", {}))
    rows = Rows.of(feeds_of(model, payload["feeds"]), tuple(model.state.values()))
    require_samples(rows.values)
    require_a_batch(model, len(rows), "judge outputs")
    with open_reference(model.path) as run:
        if model.state or rows.shapes:
            starts = payload.get("starts", ())
            outputs = run_rows(run, rows, batch=model.fixed_batch or 1, state=model.state, starts=starts)
        else:
            outputs = run_in_batches(run, rows.values, model.fixed_batch or 1)
    save_npz(folder / "reference.npz", outputs)
    return {"quantized": quantized}


def _fold(graph: ir.Model) -> None:
    """Computes ahead what a value that is known decides: branches that are never taken go."""
    from edgeport.exporter.passes.constant_folding import fold_constants, simplify

    fold_constants(graph)
    simplify(graph)


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
    from edgeport.pipeline.datasets.batching import feeds_of, run_in_batches

    folder, scratch = Path(payload["folder"]), Path(payload["folder"]) / "raised"
    scratch.mkdir()
    try:
        converted = version_converter.convert_version(onnx.load(folder / "model.onnx"), LEAST_OPSET)
        onnx.save(converted, scratch / "converted.onnx")
    except Exception as error:
        raise _refused(f"{type(error).__name__}: {str(error).strip()}") from error
    state = payload.get("state", {})
    model = replace(write_ir(read_ir(scratch / "converted.onnx"), scratch / "model.onnx"), state=state)
    rows = Rows.of(feeds_of(model, payload["feeds"]), tuple(state.values()))
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
