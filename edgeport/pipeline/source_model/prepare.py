"""The model as verified ONNX, from whatever the recipe names."""

from __future__ import annotations

from pathlib import Path

from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.source_model.export import export_pytorch
from edgeport.pipeline.source_model.onnx_import import import_onnx
from edgeport.pipeline.source_model.prepared_model import PreparedModel

__all__ = ["prepare_model"]


def prepare_model(context: RunContext, samples: PreparedSamples) -> PreparedModel:
    """Exports and verifies the recipe's model; one that is ONNX already is opened and run.

    Raises:
        ExportError, SourceError, ModelError: It can't be loaded or exported.
        VerificationError: The export computes something else.
        SamplesError, SourceError, WrongOutput: Outputs can't be judged by the recipe's metric and these labels.

    """
    source = context.recipe.source
    if source.location.endswith(".onnx"):
        return import_onnx(context, samples, Path(source.location))
    return export_pytorch(context, samples)
