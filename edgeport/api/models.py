"""From PyTorch to ONNX: export and verification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    Limits,
    ModelSource,
    OnnxModel,
    OnProgress,
    Verification,
    silent,
)
from edgeport.errors import UsageError
from edgeport.options.export import ExportSettings, VerifyOptions

__all__ = [
    "ExportReport",
    "export",
    "verify",
]


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """An exported model.

    Attributes:
        model: The ONNX file.
        notes: What a reader must know, one sentence each.

    """

    model: OnnxModel
    notes: tuple[str, ...] = ()


def export(
    source: ModelSource,
    *,
    example: Path | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    target: str = "",
    output: Path,
    options: ExportSettings = ExportSettings(),
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> ExportReport:
    """Exports a PyTorch model to ONNX, in a child process.

    Args:
        source: The model.
        example: `.npz` with samples of every input; the arrays' names are the inputs' names. Two of them are traced;
            without a free batch (`dynamic_batch=False` in `options`) all of them, and their number is the batch.
        input_shapes: Instead: shape of each float32 input, batch first; values are drawn at random.
        target: Key of the labels in the `.npz`, which are no input; empty where there are none.
        output: The `.onnx` file.
        options: Opset, batch, and what is done where torch.export fails.
        on_progress: Told of every step.
        limits: Of the child.

    Raises:
        ExportError: PyTorch could not export it; names the line of the model.
        SourceError: The model could not be loaded.
        UsageError: Neither an example nor shapes.

    """
    from edgeport.pipeline.source_model.export import export_source

    given = example if example is not None else input_shapes
    if not given:
        raise UsageError(
            asked="export a model",
            found="neither an example nor input shapes",
            fix="give --example samples.npz, or --input NAME=1,3,224,224",
        )
    model, notes = export_source(
        source, given, output, vars(options), target=target, on_progress=on_progress, limits=limits
    )
    return ExportReport(model=model, notes=notes)


def verify(
    source: ModelSource,
    model: Path,
    samples: Path,
    *,
    options: VerifyOptions = VerifyOptions(),
    limits: Limits = DEFAULT_LIMITS,
) -> Verification:
    """Compares an exported model on ONNX Runtime with PyTorch, on real samples.

    Args:
        source: The PyTorch model.
        model: The `.onnx` file.
        samples: `.npz` with one array [N, ...] per input, and the labels, if any. For a model with a fixed batch they
            are grouped into it.
        options: What is computed of both, and what passes.
        limits: Of each child.

    Raises:
        SamplesError: Samples that do not fit the model, or fewer than its fixed batch.
        VerificationError, WrongOutput: Other outputs than PyTorch's.

    """
    from edgeport.pipeline.source_model.verification import verify_export

    return verify_export(source, model, samples, **vars(options), limits=limits)
