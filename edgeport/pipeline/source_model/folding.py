"""Declared preprocessing written into a float model's graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeport.contracts import OnnxModel, to_jsonable
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import tool_versions

__all__ = ["fold"]


def fold(payload: dict[str, Any]) -> dict[str, Any]:
    """Writes declared preprocessing into a float model's graph.

    Args:
        payload: `model` (path), `output` (path), `preparation`.

    Raises:
        ExportError: The model's inputs are not what was declared.

    """
    from edgeport.exporter.passes.preprocessing import fold_preprocessing
    from edgeport.onnx_files import read_ir, write_ir
    from edgeport.pipeline.datasets.preprocessing import Preparation

    graph = read_ir(Path(payload["model"]))
    fold_preprocessing(graph, Preparation.from_payload(payload).inputs)
    write_ir(graph, Path(payload["output"]))
    return {}


def folded_inputs(context: RunContext) -> dict[str, object]:
    return {name: to_jsonable(one) for name, one in Preparation.of(context.recipe).folded.items()}


def fold_preprocessing_of(context: RunContext, model: OnnxModel) -> OnnxModel:
    """The model with the preprocessing that is folded into it, and with a description of the rest."""
    preparation = Preparation.of(context.recipe)
    if preparation.folded:

        def build(folder: Path) -> None:
            payload = {"model": str(model.path), "output": str(folder / "model.onnx"), **preparation.as_payload()}
            run_isolated("edgeport.pipeline.source_model.folding:fold", payload, limits=context.limits)

        key = {"model": model.digest, "folded": folded_inputs(context), "versions": tool_versions()}
        model = open_onnx(context.store.get_or_build("fold", key, build) / "model.onnx")
    return preparation.described(model)
