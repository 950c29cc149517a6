"""Declared preprocessing written into a float model's graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edgeport.contracts import OnnxModel, TensorSpec
from edgeport.contracts.request import Scratch
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.step import Step

__all__ = ["FoldRequest", "fold", "fold_preprocessing_of"]


@dataclass(frozen=True, kw_only=True)
class FoldRequest:
    """A float model, and what its inputs declare.

    Attributes:
        model: Digest of the file.
        path: Where it lies.
        inputs: As declared.

    """

    model: str
    path: Annotated[Path, Scratch]
    inputs: tuple[TensorSpec, ...]


def fold(request: FoldRequest, folder: Path) -> OnnxModel:
    """Writes declared preprocessing into a float model's graph; in a child.

    Raises:
        ExportError: The model's inputs are not what was declared.

    """
    from edgeport.exporter.passes.preprocessing import fold_preprocessing
    from edgeport.onnx_files import read_ir, write_ir

    graph = read_ir(request.path)
    fold_preprocessing(graph, request.inputs)
    return write_ir(graph, folder / "model.onnx")


_FOLD = Step(name="fold", worker=fold)


def fold_preprocessing_of(context: RunContext, model: OnnxModel) -> OnnxModel:
    """The model with the preprocessing that is folded into it, and with a description of the rest."""
    preparation = Preparation.of(context.recipe)
    if preparation.folded:
        request = FoldRequest(model=model.digest, path=model.path, inputs=preparation.inputs)
        folder, _ = _FOLD.run(context, request, asked=f"fold preprocessing into {model.path.name}")
        model = open_onnx(folder / "model.onnx")
    return preparation.described(model)
