"""The model as verified ONNX, the outputs that candidates are compared with, and the calibration."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeport.contracts import (
    ModelSource,
    OnnxModel,
    Outcome,
    Precision,
    Verification,
    digest_file,
    load_json,
    to_jsonable,
)
from edgeport.errors import VerificationError
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.context import RunContext, tool_versions
from edgeport.pipeline.samples import PreparedSamples, source_digest
from edgeport.pipeline.validating import Reference

__all__ = ["PreparedModel", "calibrate_model", "prepare_model"]

TOLERANCE = 1e-3
"""Of the largest output; float32 sums in another order differ by less."""

_OBSERVERS = {"minmax": ("extremes",), "percentile": ("extremes", "histogram")}


@dataclass(frozen=True, kw_only=True)
class PreparedModel:
    """What all candidates are made from.

    Attributes:
        model: The ONNX file, in the store.
        reference: The float model's outputs over the evaluation set.
        verification: Against PyTorch; None for a model that came as ONNX.
        notes: What a reader must know about the export, one sentence each.

    """

    model: OnnxModel
    reference: Reference
    verification: Verification | None
    notes: tuple[str, ...]


def prepare_model(context: RunContext, samples: PreparedSamples) -> PreparedModel:
    """Exports and verifies the recipe's model; one that is ONNX already is opened and run.

    Raises:
        ExportError, SourceError, ModelError: It can't be loaded or exported.
        VerificationError: The export computes something else.

    """
    source = context.recipe.source
    if source.location.endswith(".onnx"):
        return _given_onnx(context, samples, Path(source.location))
    return _from_pytorch(context, samples)


def _from_pytorch(context: RunContext, samples: PreparedSamples) -> PreparedModel:
    context.clock.step("export")
    recipe = context.recipe
    key = {
        "source": to_jsonable(recipe.source) | {"weights": "", "search_path": "", **_source_files(recipe.source)},
        "options": _export_options(context),
        "samples": samples.fingerprint,
        "versions": tool_versions(),
    }

    def build(folder: Path) -> None:
        payload = {
            "source": to_jsonable(recipe.source),
            "example": str(samples.example),
            "output": str(folder / "model.onnx"),
            "options": _export_options(context),
            "feeds": str(samples.feeds),
            "reference": str(folder / "reference.npz"),
        }
        inside = context.clock.inside("export")
        found = run_isolated(
            "edgeport.exporter.child:export_in_child", payload, limits=context.limits, on_progress=inside
        )
        (folder / "notes.json").write_text(json.dumps(found["notes"]), encoding="utf-8")

    folder = context.store.get_or_build("export", key, build)
    model = open_onnx(folder / "model.onnx")
    reference = Reference(outputs=folder / "reference.npz", name="PyTorch float32")
    notes = tuple(json.loads((folder / "notes.json").read_text(encoding="utf-8")))
    verification = _verified(context, model, samples, reference)
    return PreparedModel(model=model, reference=reference, verification=verification, notes=notes)


def _export_options(context: RunContext) -> object:
    from edgeport.exporter.options import ExportOptions

    # Axis 0 is the batch; the other named axes of the declared inputs are left free too.
    axes = {
        spec.name: {index: name for index, name in spec.dynamic_axes.items() if index > 0}
        for spec in context.recipe.inputs
    }
    named = {name: free for name, free in axes.items() if free}
    return to_jsonable(ExportOptions(**asdict(context.recipe.export), dynamic_axes=named))


def _source_files(source: ModelSource) -> dict[str, str]:
    """Digests of the weights and of the code that builds the model: what changes them makes another export."""
    digests: dict[str, str] = {}
    if source.weights is not None:
        digests["weights_digest"] = digest_file(source.weights)
    if source.location.endswith(".pt2"):
        digests["file_digest"] = digest_file(Path(source.location))
    elif not source.location.startswith(("torchvision:", "timm:", "hf:")):
        origin = _origin(source.location.partition(":")[0], source.search_path)
        if origin is not None:
            # The factory's own module, and what lies beside it and may be imported by it.
            files = sorted(origin.parent.glob("*.py")) if source.search_path is not None else [origin]
            digests |= {f"code/{file.name}": digest_file(file) for file in files}
    return digests


def _origin(module: str, search_path: Path | None) -> Path | None:
    before = list(sys.path)
    if search_path is not None:
        sys.path.insert(0, str(search_path))
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    finally:
        sys.path[:] = before
    return Path(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else None


def _verified(context: RunContext, model: OnnxModel, samples: PreparedSamples, reference: Reference) -> Verification:
    context.clock.step("verify", "PyTorch against ONNX Runtime")
    batches = [2, 1] if model.inputs[0].dynamic_axes else [1]
    if model.inputs[0].shape and isinstance(model.inputs[0].shape[0], int):
        batches = [model.inputs[0].shape[0]]

    def build(folder: Path) -> None:
        payload = {
            "model": to_jsonable(model),
            "feeds": str(samples.feeds),
            "reference": str(reference.outputs),
            "target": str(samples.target) if samples.target is not None else None,
            "metric": context.recipe.data.metric,
            "output": context.recipe.data.output,
            "search_path": str(context.recipe.source.search_path) if context.recipe.source.search_path else None,
            "tolerance": TOLERANCE,
            "batch_sizes": batches,
        }
        found = run_isolated("edgeport.pipeline.children:verify", payload, limits=context.limits)
        (folder / "verification.json").write_text(json.dumps(found["verification"]), encoding="utf-8")

    key = {
        "model": model.digest,
        "samples": samples.fingerprint,
        "data": to_jsonable(context.recipe.data),
        "versions": tool_versions(),
    }
    folder = context.store.get_or_build("verify", key, build)
    verification = load_json(Verification, (folder / "verification.json").read_bytes())
    if verification.outcome is not Outcome.PASS:
        worst = max(verification.outputs, key=lambda output: output.max_abs)
        raise VerificationError(
            asked=f"verify the export of {context.recipe.name} on {verification.samples} samples",
            found=f"output {worst.name} off by up to {worst.max_abs:.3g} (SQNR {worst.sqnr_db:.1f} dB)",
            fix="look for operators that behave otherwise in evaluation mode, or export to another opset",
            details={"verification": to_jsonable(verification)},
        )
    return verification


def _given_onnx(context: RunContext, samples: PreparedSamples, path: Path) -> PreparedModel:
    context.clock.step("export", "opening the ONNX file")
    given = open_onnx(path)

    def build(folder: Path) -> None:
        payload = {"model": str(path), "feeds": str(samples.feeds), "folder": str(folder)}
        run_isolated("edgeport.pipeline.children:adopt", payload, limits=context.limits)

    key = {"model": given.digest, "samples": samples.fingerprint, "versions": tool_versions()}
    folder = context.store.get_or_build("adopt", key, build)
    reference = Reference(outputs=folder / "reference.npz", name="ONNX Runtime float32")
    note = "The model came as ONNX: candidates are compared with ONNX Runtime's own float outputs."
    return PreparedModel(model=open_onnx(folder / "model.onnx"), reference=reference, verification=None, notes=(note,))


def calibrate_model(context: RunContext, model: OnnxModel) -> tuple[Path | None, str, tuple[str, ...]]:
    """Statistics of the activations, where a candidate needs them.

    Returns:
        The file, its digest, and what is odd about the samples; None and empty where no candidate is static int8.

    """
    recipe = context.recipe
    wanted = any(Precision.INT8 in target.precisions for target in recipe.targets)
    if not wanted or recipe.data.calibration is None:
        return None, "", ()
    context.clock.step("calibrate")
    observers = _OBSERVERS[recipe.search.calibration_method.partition(":")[0]]
    key = {
        "model": model.digest,
        "samples": source_digest(recipe.data.calibration),
        "observers": list(observers),
        "versions": tool_versions(),
    }

    def build(folder: Path) -> None:
        payload = {
            "model": to_jsonable(model),
            "samples": to_jsonable(recipe.data.calibration),
            "target": recipe.data.target,
            "observers": list(observers),
            "output": str(folder / "calibration.safetensors"),
        }
        inside = context.clock.inside("calibrate")
        found = run_isolated("edgeport.pipeline.children:calibrate", payload, limits=context.limits, on_progress=inside)
        (folder / "facts.json").write_text(json.dumps(found), encoding="utf-8")

    folder = context.store.get_or_build("calibrate", key, build)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return folder / "calibration.safetensors", facts["digest"], tuple(facts["warnings"])
