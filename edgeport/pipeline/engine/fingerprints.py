"""What makes two pieces of work the same: versions of tools, and the files that a source names."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeport.contracts import ModelSource, PruneStep, digest_file, digest_json, to_jsonable
from edgeport.exporter.loaders.hugging_face import find_checkpoint
from edgeport.module_files import module_file
from edgeport.recipe.locations import COLLECTIONS

__all__ = ["digest_of_function", "source_files", "tool_versions", "training_digest"]

_TOOLS = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "ultralytics",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
)


@lru_cache(maxsize=1)
def tool_versions() -> dict[str, str]:
    """Versions of the packages that exporting, verifying and calibrating rest on; part of those steps' keys."""
    found: dict[str, str] = {}
    for name in _TOOLS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def source_files(source: ModelSource) -> dict[str, str]:
    """Digests of the files that the recipe names, and where the factory lies; the rest is noted while it runs."""
    digests: dict[str, str] = {}
    if source.weights is not None:
        digests["weights_digest"] = digest_file(source.weights)
    if source.location.endswith(".pt2"):
        digests["file_digest"] = digest_file(Path(source.location))
    elif source.location.startswith("hf:"):
        # Read by safetensors and tokenizers, which Python does not see.
        revision = str(source.arguments.get("revision", "main"))
        for file in find_checkpoint(source.location.removeprefix("hf:"), revision).files:
            digests[f"file {file.name}"] = digest_file(file)
    elif source.location.startswith("ultralytics:"):
        path = Path(source.location.removeprefix("ultralytics:"))
        digests["file_digest"] = digest_file(path) if path.is_file() else ""
    elif not source.location.startswith(COLLECTIONS):
        digests["file"] = str(module_file(source.location.partition(":")[0], source.search_path))
    return digests


def digest_of_function(spelled: str, folder: Path | None) -> str:
    """Of the file that a `pkg.mod:fn` lies in, for keys; empty where it is none."""
    file = module_file(spelled.partition(":")[0], folder) if ":" in spelled else None
    return digest_file(file) if file is not None and file.is_file() else ""


def training_digest(
    source: ModelSource, samples: Path, target: str, step: PruneStep, options: Mapping[str, Any]
) -> str:
    """Of all that makes the trainings those of this very pruning.

    Args:
        source: The model.
        samples: `.npz`.
        target: Key of the labels in it.
        step: What is asked.
        options: What else decides what is trained.

    """
    from edgeport.code_version import code_version
    from edgeport.pipeline.engine.fingerprints import digest_of_function, source_files, tool_versions

    functions = (source.location, *step.functions)
    key = {
        "pruned": to_jsonable(source) | {"weights": "", **source_files(source)},
        "functions": [digest_of_function(one, source.search_path) for one in functions],
        "samples": [digest_file(samples), target],
        "step": to_jsonable(step),
        "options": options,
        "versions": tool_versions(),
    }
    return digest_json([key, code_version()])
