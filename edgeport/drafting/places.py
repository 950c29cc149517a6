"""The model's location as a recipe has it, from what people write on a command line."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

from edgeport.contracts import ModelSource
from edgeport.drafting.draft import Asked
from edgeport.errors import UsageError
from edgeport.recipe.locations import COLLECTIONS, SCHEMES

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
        return _of_file(Path(scheme), name, folder)
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


def _of_file(file: Path, name: str, folder: Path) -> str:
    """`net.py:create` as `net:create`; a file alone names the one thing in it, or says what there is."""
    asked = f"look at the model {file}{':' if name else ''}{name}"
    if not file.is_file():
        raise UsageError(asked=asked, found="no such file", fix="give the path of a file that exists")
    absolute, folder = (Path(os.path.normpath(path.absolute())) for path in (file, folder))  # "../net.py" is outside
    if not absolute.is_relative_to(folder):
        raise UsageError(
            asked=asked,
            found=f"a file outside of the recipe's folder {folder}",
            fix=f"write the recipe beside it: -o {file.parent / 'edgeport.toml'}",
        )
    module = ".".join(absolute.relative_to(folder).with_suffix("").parts)
    if name:
        return f"{module}:{name}"
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise UsageError(asked=asked, found=f"no Python: {error}", fix="correct the file") from error
    names = [one.name for one in tree.body if isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name[0] != "_"]
    if len(names) == 1:
        return f"{module}:{names[0]}"
    raise UsageError(
        asked=asked,
        found=f"{', '.join(names) or 'no class and no function'} in it",
        fix=f"say which: edgeport init {file}:{names[-1]}" if names else "name a file with the model's class",
    )


def checked_source(asked: Asked, written: str) -> ModelSource:
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


def _budget(asked: Asked) -> dict[str, Any]:
    """What was asked for; whether a drop can be kept depends on the metric, and 0.5 is one that any metric takes."""
    drop = asked.accuracy_drop if asked.metric else None
    latency = {"latency": asked.latency} if asked.latency else {}
    return {"accuracy_drop": 0.5 if drop is None else drop, **latency}
