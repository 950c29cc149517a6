"""Brings an ONNX file into canonical form, in a child process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from edgeport.contracts import Array, OnnxModel
from edgeport.contracts.request import ByContent
from edgeport.errors import ModelError
from edgeport.npz import load_npz, save_npz
from edgeport.pipeline.datasets.batching import feeds_of
from edgeport.ragged import RaggedBatch, run_rows

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["LEAST_OPSET", "AdoptRequest", "Adopted", "RaiseRequest", "Raised", "adopt", "raise_opset"]

LEAST_OPSET = 13
"""QuantizeLinear has an axis from here on (the ONNX operator's version 13)."""
_RELATIVE = 1e-4
"""Of the largest output: what another order of sums in float32 may change."""


@dataclass(frozen=True, kw_only=True)
class AdoptRequest:
    """An ONNX file, and the samples that it is run on.

    Attributes:
        model: The file.
        feeds: `.npz` with the evaluation set, as the model takes it before any folding.
        constants: Values of inputs that are not fed.
        state: Output name to the input that it feeds.
        starts: Indices of samples at which a sequence begins.

    """

    model: OnnxModel
    feeds: Annotated[Path, ByContent]
    constants: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    starts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What was seen of an ONNX file.

    Attributes:
        quantized: Nodes that show that it is quantized already; empty for a float model.

    """

    quantized: tuple[str, ...]


def adopt(request: AdoptRequest, folder: Path) -> Adopted:
    """Brings an ONNX file into canonical form and runs it on the evaluation set.

    The folder gets `model.onnx` and `reference.npz`.

    Raises:
        UnsupportedByBackend: It has operators that ONNX Runtime has not.

    """
    from edgeport.backends.onnxruntime.constants import OWN_DOMAINS
    from edgeport.onnx_files import (
        quantization_evidence,
        read_ir,
        refuse_custom_operators,
        write_constants,
        write_ir,
    )
    from edgeport.pipeline.datasets.batching import require_a_batch, require_samples

    path = request.model.path
    graph = read_ir(path)
    refuse_custom_operators(graph, asked=f"run {path.name}", runtime="ONNX Runtime", known=OWN_DOMAINS)
    quantized = quantization_evidence(graph)
    if request.constants:
        write_constants(graph, dict(request.constants))
        _fold(graph)
    model = replace(write_ir(graph, folder / "model.onnx"), state=request.state)
    rows = RaggedBatch.of(feeds_of(model, request.feeds), tuple(model.state.values()))
    require_samples(rows.values)
    require_a_batch(model, len(rows), "judge outputs")
    save_npz(folder / "reference.npz", _outputs(model, rows, request.starts))
    return Adopted(quantized=tuple(quantized))


def _outputs(model: OnnxModel, rows: RaggedBatch, starts: Sequence[int]) -> dict[str, Array]:
    """On ONNX Runtime, for every sample."""
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.pipeline.datasets.batching import run_in_batches

    batch = model.fixed_batch or 1
    with open_reference(model.path) as run:
        if model.state or rows.shapes:
            return run_rows(run, rows, batch=batch, state=model.state, starts=starts)
        return run_in_batches(run, rows.values, batch)


def _fold(graph: ir.Model) -> None:
    """Computes ahead what a value that is known decides: branches that are never taken go."""
    from edgeport.exporter.passes.constant_folding import fold_constants, simplify

    fold_constants(graph)
    simplify(graph)


@dataclass(frozen=True, kw_only=True)
class RaiseRequest:
    """An adopted model of an old opset.

    Attributes:
        model: Of `adopt`, with its state.
        feeds: As of `AdoptRequest`.
        reference: `.npz` with what it gives to these.
        starts: As of `AdoptRequest`.

    """

    model: OnnxModel
    feeds: Annotated[Path, ByContent]
    reference: Annotated[Path, ByContent]
    starts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Raised:
    """How near the converted model comes.

    Attributes:
        worst: The largest difference of an output, absolute.

    """

    worst: float


def raise_opset(request: RaiseRequest, folder: Path) -> Raised:
    """Converts an adopted model by ONNX's own version converter; the folder gets `model.onnx`.

    Raises:
        ModelError: It can't be converted, or computes something else then.

    """
    import onnx
    from onnx import version_converter

    from edgeport.onnx_files import read_ir, write_ir

    with tempfile.TemporaryDirectory(prefix="edgeport-raised-") as scratch:
        converted = Path(scratch) / "converted.onnx"
        try:
            onnx.save(version_converter.convert_version(onnx.load(request.model.path), LEAST_OPSET), converted)
        except Exception as error:
            raise _refused(f"{type(error).__name__}: {str(error).strip()}") from error
        model = replace(write_ir(read_ir(converted), folder / "model.onnx"), state=request.model.state)
    rows = RaggedBatch.of(feeds_of(model, request.feeds), tuple(model.state.values()))
    return Raised(worst=_worst(_outputs(model, rows, request.starts), load_npz(request.reference)))


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
