"""The model's location as a recipe has it, from what people write on a command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgeport.contracts import ModelSource
from edgeport.errors import UsageError
from edgeport.recipe.locations import COLLECTIONS, SCHEMES, function_in
from edgeport.recipe_init.draft import InitRequest

__all__ = ["checked_source", "written_location"]


def written_location(model: str, folder: Path) -> str:
    """The location as a recipe in `folder` has it."""
    scheme, colon, name = model.partition(":")
    path = Path(name if colon and f"{scheme}:" in SCHEMES else model)
    if colon and f"{scheme}:" in COLLECTIONS:
        return model  # a name, whatever folder here is called so
    if colon and f"{scheme}:" in SCHEMES:
        return f"{scheme}:{_beside(path, folder)}" if path.exists() else model
    if scheme.endswith(".py"):
        return function_in(Path(scheme), name, folder, "edgeport init")
    if (path / "config.json").is_file():
        return f"hf:{_beside(path, folder)}"
    if path.is_file():
        return _beside(path, folder)
    if model.isidentifier():
        raise UsageError(
            asked=f"look at the model {model}",
            found="a name without a place",
            fix=f"did you mean torchvision:{model}, timm:{model}, or {model}.onnx? Write a function as module:function",
        )
    return model


def _beside(path: Path, folder: Path) -> str:
    absolute = path.absolute()
    if not absolute.is_relative_to(folder):
        return os.fspath(absolute)
    relative = absolute.relative_to(folder).as_posix()
    return f"./{relative}" if absolute.is_dir() else relative


def checked_source(asked: InitRequest, written: str) -> ModelSource:
    """Checked as a recipe's [model] is; metric and budget too, before anything long is done."""
    from edgeport.recipe.build import build
    from edgeport.recipe.mistakes import RecipeText
    from edgeport.recipe.sections import RecipeFile

    model: dict[str, Any] = {"source": written, "arguments": dict(asked.arguments)}
    if asked.weights is not None:
        model["weights"] = os.fspath(asked.weights.absolute())
    if asked.allow_pickle_sha256 is not None:
        model["allow_pickle_sha256"] = asked.allow_pickle_sha256
    values = {
        "model": model,
        "data": {
            "evaluation": f"{asked.samples_module}:evaluation",
            **({"metric": asked.metric} if asked.metric else {}),
        },
        "target": [{"backend": "onnxruntime", "precisions": ["fp32"]}],
        "budget": _budget(asked),
    }
    path = asked.recipe.absolute()
    return build(RecipeText(path=path, text="", values=values), RecipeFile.model_validate(values)).source


def _budget(asked: InitRequest) -> dict[str, Any]:
    """What was asked for; whether a drop can be kept depends on the metric, and 0.5 is one that any metric takes."""
    drop = asked.accuracy_drop if asked.metric else None
    latency = {"latency": asked.latency} if asked.latency else {}
    return {"accuracy_drop": 0.5 if drop is None else drop, **latency}
