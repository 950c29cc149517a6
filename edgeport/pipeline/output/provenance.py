"""Where a bundle's model comes from and what it was made with, for its manifest; no path of this machine in it."""

from __future__ import annotations

from pathlib import Path

from edgeport.accuracy.agreement import are_class_scores
from edgeport.contracts import DataSpec, ModelSource, OnnxModel, Provenance, digest_file
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import tool_versions

__all__ = ["class_output", "provenance_of"]

_OF_CLASSES = ("top1", "top5")
_OF_TWO = ("auc", "eer")


def provenance_of(context: RunContext, samples: PreparedSamples, compressed_by: tuple[str, ...] = ()) -> Provenance:
    """What the recipe states, the digests of all that the model was made from, and what was done to it."""
    recipe = context.recipe
    stated, source = recipe.statement, recipe.source
    file = _file_of(source)
    return Provenance(
        licence=stated.licence,
        author=stated.author,
        url=stated.url,
        version=stated.version,
        source=source.location if file is None else source.location.replace(str(file), file.name),
        source_file_digest=digest_file(file) if file is not None and file.is_file() else "",
        weights_digest=digest_file(source.weights) if source.weights is not None else "",
        recipe_digest=digest_file(recipe.path) if recipe.path is not None and recipe.path.is_file() else "",
        evaluation_fingerprint=samples.fingerprint,
        evaluation_samples=samples.count,
        calibration_fingerprint=samples.calibration_fingerprint,
        calibration_samples=samples.calibration_count,
        compressed_by=compressed_by,
        training_fingerprint=samples.learned_from[0] if compressed_by else "",
        training_samples=samples.learned_from[1] if compressed_by else 0,
        seed=recipe.search.seed,
        tools=tool_versions(),
    )


def _file_of(source: ModelSource) -> Path | None:
    """The file or folder that the location names, or None where it names a function or a model of a collection."""
    path = Path(
        source.location.partition(":")[2] if source.location.startswith(("hf:", "ultralytics:")) else source.location
    )
    return path if path.is_absolute() else None


def class_output(data: DataSpec, model: OnnxModel) -> str:
    """The output whose values [N, classes] are scores of classes; empty where nothing says that there is one.

    A shape alone says nothing: embeddings and regressions are floats [N, values] too. The metric does (top1 and top5;
    auc and eer of two values), and so do class names, one for each value.

    Args:
        data: How the recipe judges outputs.
        model: Whose outputs they are.

    """
    state = set(model.state)
    judged = next((spec for spec in model.outputs if spec.name not in state and data.output in ("", spec.name)), None)
    if judged is None or data.decode or not are_class_scores(judged.dtype, judged.shape):
        return ""
    classes = judged.shape[1]
    said = data.metric in _OF_CLASSES or (data.metric in _OF_TWO and classes == 2)
    return judged.name if said or classes == len(data.labels) else ""
