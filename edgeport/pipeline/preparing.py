"""The model as verified ONNX, the outputs that candidates are compared with, and the calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeport.calibration.ranges import method_named, observers_of
from edgeport.contracts import (
    Capabilities,
    ModelSource,
    OnnxModel,
    Outcome,
    Verification,
    digest_file,
    load_json,
    to_jsonable,
)
from edgeport.contracts.recipe import SamplesFile, SamplesLocation, SamplesMade
from edgeport.errors import EdgeportError, VerificationError
from edgeport.exporter.loaders.hugging_face import find_checkpoint
from edgeport.isolation import run_isolated
from edgeport.module_files import module_file
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.batches import require_a_batch
from edgeport.pipeline.context import RunContext, tool_versions
from edgeport.pipeline.dependencies import run_recorded, states_of
from edgeport.pipeline.linking import linked, states_of_model
from edgeport.pipeline.opsets import LEAST_OPSET, wants_integers
from edgeport.pipeline.preparation import Preparation
from edgeport.pipeline.range_choice import measures, methods_from
from edgeport.pipeline.refining import samples_payload
from edgeport.pipeline.samples import PreparedSamples, require_fit, require_output
from edgeport.pipeline.validating import Reference, require_judgeable
from edgeport.recipe.locations import COLLECTIONS

__all__ = [
    "Calibrated",
    "PreparedModel",
    "calibrate_model",
    "export_options",
    "origin",
    "prepare_model",
    "source_files",
]

_MADE = {
    "range": "drawn from the declared range of the inputs",
    "synthetic": "made from BatchNorm statistics",
    "generator": "made by a generator that learned from the model",
    "vae": "drawn from a model of the data (VAE)",
}
"""How samples were made up, in a note; by what their file says."""

TOLERANCE = 1e-3
"""Of the largest output; float32 sums in another order differ by less."""


@dataclass(frozen=True, kw_only=True)
class PreparedModel:
    """What all candidates are made from.

    Attributes:
        model: The ONNX file, in the store.
        reference: The float model's outputs over the evaluation set.
        verification: Against PyTorch; None for a model that came as ONNX.
        notes: What a reader must know about the export, one sentence each.
        quantized: It came as ONNX and is quantized already.

    """

    model: OnnxModel
    reference: Reference
    verification: Verification | None
    notes: tuple[str, ...]
    quantized: bool = False


def prepare_model(context: RunContext, samples: PreparedSamples) -> PreparedModel:
    """Exports and verifies the recipe's model; one that is ONNX already is opened and run.

    Raises:
        ExportError, SourceError, ModelError: It can't be loaded or exported.
        VerificationError: The export computes something else.
        SamplesError, SourceError, WrongOutput: Outputs can't be judged by the recipe's metric and these labels.

    """
    source = context.recipe.source
    if source.location.endswith(".onnx"):
        return _given_onnx(context, samples, Path(source.location))
    return _from_pytorch(context, samples)


def _from_pytorch(context: RunContext, samples: PreparedSamples) -> PreparedModel:
    context.clock.step("export")
    recipe = context.recipe
    key = {
        "source": to_jsonable(recipe.source) | {"weights": "", **source_files(recipe.source)},
        "options": export_options(context),
        "initial": dict(recipe.initial),
        "samples": samples.fingerprint,
        "example": digest_file(samples.example),
        "versions": tool_versions(),
    }

    def build(folder: Path) -> dict[str, str]:
        payload = {
            "source": to_jsonable(recipe.source),
            "example": str(samples.example),
            "output": str(folder / "model.onnx"),
            "options": export_options(context),
            "feeds": str(samples.unfolded),
            "reference": str(folder / "reference.npz"),
            "strict": not recipe.fed,
            "starts": list(samples.starts),
            "sizes": str(folder / "sizes"),
        }
        inside = context.clock.inside("export")
        function, asked = "edgeport.exporter.worker:export_in_child", f"export {recipe.source.location}"
        found, rests_on = run_recorded(context, function, payload, asked=asked, on_progress=inside)
        (folder / "notes.json").write_text(json.dumps(found["notes"]), encoding="utf-8")
        (folder / "sizes.json").write_text(json.dumps(found["sizes"]), encoding="utf-8")
        return rests_on

    folder = context.store.get_or_build_watched("export", key, build, states_of)
    model = linked(_as_fed(context, open_onnx(folder / "model.onnx")), recipe)
    require_output(model, recipe)
    require_fit(model, samples)
    reference = Reference(outputs=folder / "reference.npz", name="PyTorch float32")
    notes = tuple(json.loads((folder / "notes.json").read_text(encoding="utf-8")))
    verification = _verified(context, model, samples, reference, folder)
    require_judgeable(context, samples, reference)
    also = [f"{axis} {' and '.join(map(str, sizes))}" for axis, sizes in verification.sizes.items() if sizes]
    notes += (f"The export was verified with {', '.join(also)} too.",) if also else ()
    return PreparedModel(model=model, reference=reference, verification=verification, notes=notes)


def export_options(context: RunContext) -> object:
    """An `ExportOptions` as JSON values."""
    from edgeport.exporter.options import ExportOptions

    # Axis 0 of what samples feed is the batch; the other named axes of the declared inputs are left free too.
    recipe = context.recipe
    batch = {spec.shape[0] for spec in recipe.fed if spec.shape}
    axes: dict[str, dict[int, str]] = {}
    for spec in recipe.inputs:
        fed = spec.name not in recipe.state.values()
        free = {index: "batch" if label in batch else label for index, label in spec.dynamic_axes.items()}
        axes[spec.name] = {index: label for index, label in free.items() if index > 0 or not fed}
    return to_jsonable(
        ExportOptions(
            **asdict(recipe.export),
            dynamic_axes={name: free for name, free in axes.items() if free},
            axis_ranges={name: (span.minimum, span.maximum) for name, span in recipe.axes.items()},
            state=recipe.state,
            constants=recipe.constants,
        )
    )


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


def _verified(
    context: RunContext, model: OnnxModel, samples: PreparedSamples, reference: Reference, exported: Path | None = None
) -> Verification:
    """Against what the float model gave; at other sizes of free axes too, where the export recorded what it gives."""
    context.clock.step("verify", "PyTorch against ONNX Runtime")
    require_a_batch(model, samples.count, "verify")
    batches = [2, 1] if model.fixed_batch is None else [model.fixed_batch]

    data, function = context.recipe.data, "edgeport.pipeline.children:verify"
    asked = f"run the export of {context.recipe.name} on the evaluation samples"
    judged = {"metric": data.metric, "output": data.output, "decode": data.decode, "target": data.target}
    payload = {
        **judged,
        "model": to_jsonable(model),
        "feeds": str(samples.feeds),
        "reference": str(reference.outputs),
        "target": str(samples.target) if samples.target is not None else None,
        "search_path": str(context.recipe.search_path) if context.recipe.search_path else None,
        "tolerance": TOLERANCE,
        "batch_sizes": batches,
        "starts": list(samples.starts),
        "sizes": str(exported / "sizes.json") if exported is not None else None,
        "of_sizes": str(exported / "model.onnx") if exported is not None else None,
    }

    def keep(folder: Path, found: dict[str, Any]) -> None:
        (folder / "verification.json").write_text(json.dumps(found["verification"]), encoding="utf-8")

    def build(folder: Path) -> None:
        keep(folder, run_isolated(function, payload, limits=context.limits, asked=asked))

    def build_watched(folder: Path) -> dict[str, str]:
        found, rests_on = run_recorded(context, function, payload, asked=asked)
        keep(folder, found)
        return rests_on

    key = {
        **judged,
        "model": model.digest,
        "samples": samples.fingerprint,
        "reference": digest_file(reference.outputs),
        "state": dict(model.state),
        "sizes": digest_file(exported / "sizes.json") if exported is not None else "",
        "versions": tool_versions(),
    }
    if ":" in data.metric or data.decode:
        watched = {**key, "search_path": payload["search_path"]}
        folder = context.store.get_or_build_watched("verify", watched, build_watched, states_of)
    else:
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
    given, recipe = open_onnx(path), context.recipe
    said = {"constants": dict(recipe.constants), "state": dict(recipe.state), "starts": list(samples.starts)}

    def build(folder: Path) -> None:
        payload = {"model": str(path), "feeds": str(samples.unfolded), "folder": str(folder), **said}
        asked = f"run {path.name} on the evaluation samples"
        found = run_isolated("edgeport.pipeline.children:adopt", payload, limits=context.limits, asked=asked)
        if raising and not found["quantized"]:
            found["raised"] = _raised(context, payload, given.opset)
        (folder / "adopted.json").write_text(json.dumps(found), encoding="utf-8")

    initial = dict(recipe.initial)
    raising = given.opset < LEAST_OPSET and wants_integers(recipe)
    # The fingerprint is of what devices feed; the same uint8 may become other floats.
    key = {
        "model": given.digest,
        "samples": samples.fingerprint,
        "folded": _folded(context),
        "initial": initial,
        "raising": raising,
        **said,
        "versions": tool_versions(),
    }
    folder = context.store.get_or_build("adopt", key, build)
    adopted = json.loads((folder / "adopted.json").read_text(encoding="utf-8"))
    evidence, raised = adopted["quantized"], adopted.get("raised", "")
    name = "the given model on ONNX Runtime" if evidence else "ONNX Runtime float32"
    reference = Reference(outputs=folder / "reference.npz", name=name)
    require_judgeable(context, samples, reference)
    model = linked(_as_fed(context, open_onnx(folder / "model.onnx")), recipe)
    folded = Preparation.of(recipe).folded
    written = [f"{name} = {value}" for name, value in recipe.constants.items()]
    return PreparedModel(
        model=model,
        reference=reference,
        verification=_verified(context, model, samples, reference) if folded else None,
        notes=(
            _given_note(evidence),
            *([raised] if raised else []),
            *([f"Written into the graph: {', '.join(written)}."] if written else []),
        ),
        quantized=bool(evidence),
    )


def _raised(context: RunContext, payload: dict[str, Any], opset: int) -> str:
    """Brings the adopted model to an opset that int8 can be written in; a sentence on how that went."""
    function, asked = "edgeport.pipeline.opsets:raise_opset", f"convert the model from opset {opset} to {LEAST_OPSET}"
    try:
        found = run_isolated(function, payload, limits=context.limits, asked=asked)
    except EdgeportError as error:
        return (
            f"The file is of opset {opset}, in which int8 per channel can't be written, and converting it failed "
            f"({error.found}): quantized candidates are refused. Export it again with opset 20."
        )
    return (
        f"The file is of opset {opset}; it was converted to {LEAST_OPSET}, which int8 needs, and gives the same on all "
        f"evaluation samples (largest difference {found['worst']:.2g})."
    )


def _given_note(evidence: list[str]) -> str:
    if not evidence:
        return "The model came as ONNX: candidates are compared with ONNX Runtime's own float outputs."
    others = f" and {len(evidence) - 1} more" if len(evidence) > 1 else ""
    return (
        f"The model is quantized already ({evidence[0]}{others}): it was not quantized again, but given to each "
        "runtime as it is, and compared with its own outputs on ONNX Runtime. Give the float "
        "model to have other precisions."
    )


def _folded(context: RunContext) -> dict[str, object]:
    return {name: to_jsonable(one) for name, one in Preparation.of(context.recipe).folded.items()}


def _as_fed(context: RunContext, model: OnnxModel) -> OnnxModel:
    """The model with the preprocessing that is folded into it, and with a description of the rest."""
    preparation = Preparation.of(context.recipe)
    if preparation.folded:

        def build(folder: Path) -> None:
            payload = {"model": str(model.path), "output": str(folder / "model.onnx"), **preparation.as_payload()}
            run_isolated("edgeport.pipeline.children:fold", payload, limits=context.limits)

        key = {"model": model.digest, "folded": _folded(context), "versions": tool_versions()}
        model = open_onnx(context.store.get_or_build("fold", key, build) / "model.onnx")
    return preparation.described(model)


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """The statistics that static int8 is planned from.

    Attributes:
        file: They lie here; None where no candidate is static int8.
        digest: Of the file.
        notes: What a reader must know of the samples and the ranges, a sentence each.
        methods: By dialect, the range method that was measured to be best; empty where the recipe names one.

    """

    file: Path | None = None
    digest: str = ""
    notes: tuple[str, ...] = ()
    methods: Mapping[str, str] = field(default_factory=dict)


def calibrate_model(
    context: RunContext,
    model: OnnxModel,
    samples: PreparedSamples,
    by_device: Mapping[str, Mapping[str, Capabilities]],
    *,
    transforms: Sequence[str] = (),
) -> Calibrated:
    """Statistics of the activations that the targets' plans read, where a candidate needs them.

    Args:
        context: Of the run.
        model: That static int8 is made from.
        samples: Of the recipe.
        by_device: Capabilities by device and backend.
        transforms: What was done to the float model to make `model`.

    Returns:
        What was found; nothing where no candidate is static int8.

    """
    recipe = context.recipe
    targets = [target for target in recipe.targets if target.needs_ranges]
    if not targets or recipe.data.calibration is None:
        return Calibrated()
    context.clock.step("calibrate")
    wanted = sorted({(target.backend, target.device) for target in targets})
    capable = {one: by_device.get(one[1], {}).get(one[0]) for one in wanted}
    known = [one.rules if one is not None else None for one in capable.values()]
    # What is folded depends on which nodes are chosen, so then every activation is watched.
    chosen = any(target.mix.nodes for target in targets)
    rules: list[Any] = []
    for one in known:
        if one is not None and not chosen and to_jsonable(one) not in rules:
            rules.append(to_jsonable(one))
    method = recipe.search.calibration_method
    observers = observers_of(method_named(method))
    measured: dict[str, dict[str, Any]] = {}
    for (backend, _), one in zip(wanted, known, strict=True):
        if one is not None and measures(method):
            measured.setdefault(one.dialect, {"backend": backend, "rules": to_jsonable(one)})
    key = {
        "model": model.digest,
        "samples": samples.calibration_fingerprint,
        "observers": list(observers),
        "state": dict(model.state),
        "initial": dict(recipe.initial),
        "rules": rules,
        "transforms": list(transforms),
        "measure": measured,
        "versions": tool_versions(),
    }

    def build(folder: Path) -> None:
        payload = {
            "model": to_jsonable(model),
            **samples_payload(recipe, samples),
            "initial": dict(recipe.initial),
            "states": [to_jsonable(spec) for spec in states_of_model(recipe, model.inputs)],
            "observers": list(observers),
            "rules": rules,
            "transforms": list(transforms),
            "measure": measured,
            "output": str(folder / "calibration.safetensors"),
        }
        inside = context.clock.inside("calibrate")
        asked = f"calibrate {recipe.name}"
        found = run_isolated(
            "edgeport.pipeline.calibrating_child:calibrate",
            payload,
            limits=context.limits,
            on_progress=inside,
            asked=asked,
        )
        (folder / "facts.json").write_text(json.dumps(found), encoding="utf-8")

    folder = context.store.get_or_build("calibrate", key, build)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    notes = (
        *(f"Calibration: {warning}" for warning in facts["warnings"]),
        origin(recipe.data.calibration, facts["sample_count"]),
    )
    methods = methods_from(facts)
    notes += tuple(f"Ranges for {name}: {one.said}." for name, one in methods.items() if one.said)
    return Calibrated(
        file=folder / "calibration.safetensors",
        digest=facts["digest"],
        notes=notes,
        methods={name: one.method for name, one in methods.items()},
    )


def origin(location: SamplesLocation | SamplesMade, count: int) -> str:
    """Where ranges come from, as a note."""
    made = location.made if isinstance(location, SamplesFile) else ""
    if not made:
        return f"Ranges come from {count} calibration samples."
    how = _MADE.get(made, f"made by {made}")
    return f"Ranges come from {count} synthetic samples, {how}, not from data: static int8 is calibrated without any."
