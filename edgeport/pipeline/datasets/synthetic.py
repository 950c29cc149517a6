"""Calibration samples that are made up where the recipe has no data, as a file in the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeport.contracts import TensorSpec, digest_file, to_jsonable
from edgeport.contracts.recipe import Recipe, SamplesFile, SamplesMade
from edgeport.errors import SamplesError
from edgeport.module_files import module_file
from edgeport.npz import save_npz
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import tool_versions
from edgeport.pipeline.engine.input_tracking import run_recorded, states_of

__all__ = ["with_samples_made"]

_FILE = "samples.npz"


def with_samples_made(context: RunContext) -> RunContext:
    """The context as it is, or with a recipe that names the file of the samples that it asked to make.

    Raises:
        SamplesError: The inputs are not declared as this needs it.
        ExportError, SourceError: Samples from BatchNorm statistics, of a model that has none or can't be loaded.

    """
    wanted = context.recipe.data.calibration
    if not isinstance(wanted, SamplesMade):
        return context
    inputs = _inputs(context.recipe, wanted)
    folder = _drawn(context, wanted, inputs) if wanted.made == "range" else _synthesised(context, wanted, inputs)
    file = SamplesFile(path=folder / _FILE, made=wanted.made)
    return replace(context, recipe=replace(context.recipe, data=replace(context.recipe.data, calibration=file)))


def _inputs(recipe: Recipe, wanted: SamplesMade) -> tuple[TensorSpec, ...]:
    asked = f'calibrate with calibration = "{wanted.made}"'
    if not recipe.inputs:
        raise SamplesError(
            asked=asked,
            found="no declared inputs",
            fix='declare each: [inputs.image] with shape = ["batch", 3, 224, 224] and range = [0.0, 1.0]',
            details={"problem": "inputs"},
        )
    if recipe.state or recipe.data.sequence != "" or recipe.data.lengths:
        raise SamplesError(
            asked=asked,
            found="sequences or lengths, which made-up samples do not have",
            fix="give calibration samples, or ask for int8-dynamic",
            details={"problem": "sequence"},
        )
    prepared = [spec.name for spec in recipe.inputs if spec.preprocessing is not None]
    if prepared:
        raise SamplesError(
            asked=asked,
            found=f"preprocessing for input {prepared[0]!r}, which made-up samples do not go through",
            fix="leave the preprocessing out, and declare the range of what the model takes",
            details={"problem": "preprocessing"},
        )
    return recipe.inputs


def _drawn(context: RunContext, wanted: SamplesMade, inputs: tuple[TensorSpec, ...]) -> Path:
    from edgeport.calibration.data.random_samples import draw

    key = {"made": to_jsonable(wanted), "inputs": [to_jsonable(spec) for spec in inputs], "versions": tool_versions()}

    def build(folder: Path) -> None:
        save_npz(folder / _FILE, draw(inputs, wanted.count, wanted.seed))

    return context.store.get_or_build("made", key, build)


def _synthesised(context: RunContext, wanted: SamplesMade, inputs: tuple[TensorSpec, ...]) -> Path:
    source = context.recipe.source
    asked = 'calibrate with calibration = "synthetic"'
    if source.location.endswith(".onnx"):
        raise SamplesError(
            asked=asked,
            found="a model that came as ONNX, where BatchNorm is folded into the convolutions",
            fix='give the PyTorch model, or calibration = "range"',
            details={"problem": "source"},
        )
    payload = {
        "source": to_jsonable(source),
        "inputs": [to_jsonable(spec) for spec in inputs],
        "count": wanted.count,
        "seed": wanted.seed,
    }
    files = {
        "weights": digest_file(source.weights) if source.weights else "",
        "file": _file_of(source.location, context),
    }
    key = {**payload, **files, "versions": tool_versions()}

    def build(folder: Path) -> dict[str, str]:
        inside = context.clock.inside("samples")
        _, rests_on = run_recorded(
            context,
            "edgeport.exporter.worker:synthesize_in_child",
            {**payload, "output": str(folder / _FILE)},
            on_progress=inside,
            asked=asked,
        )
        return rests_on

    return context.store.get_or_build_watched("made", key, build, states_of)


def _file_of(location: str, context: RunContext) -> str:
    """The code that a factory is in; the rest is noted while it runs."""
    name, colon, _ = location.partition(":")
    if location.endswith(".pt2"):
        return digest_file(Path(location))
    if not colon or name in ("torchvision", "timm", "hf", "ultralytics"):
        return ""
    return str(module_file(name, context.recipe.source.search_path))
