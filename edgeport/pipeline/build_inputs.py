"""What all candidates of a recipe start from: samples, verified model, reference, statistics."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgeport.contracts import Capabilities, OnnxModel
from edgeport.errors import DependencyError, SamplesError, UsageError
from edgeport.module_files import module_file
from edgeport.pipeline.compilation.candidates import list_candidates
from edgeport.pipeline.compilation.probe import probe
from edgeport.pipeline.datasets.batching import calls_note, write_first_batch
from edgeport.pipeline.datasets.prepare import PreparedSamples, prepare_samples
from edgeport.pipeline.datasets.synthetic import with_samples_made
from edgeport.pipeline.engine.concurrency import side_by_side
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.estimates import guess_stages
from edgeport.pipeline.quantization.calibration import calibrate_model
from edgeport.pipeline.quantization.recovery import transformed_model
from edgeport.pipeline.source_model.onnx_import import as_given
from edgeport.pipeline.source_model.prepare import prepare_model
from edgeport.pipeline.source_model.prepared_model import PreparedModel
from edgeport.recipe.statistical_power import thin_by_target

__all__ = ["Shared", "share"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all targets start from.

    Attributes:
        capabilities: By backend, for one device (`on`).
        by_device: The same for every device of the recipe's targets.
        samples: Of the recipe.
        prepared: The model.
        transformed: What static int8 is made from; the same model where nothing was done to it.
        calibration, calibration_digest: The statistics; None and empty where no candidate needs any.
        methods: By dialect, the range method where one was measured.
        notes: What a reader must know of all this, one sentence each.
        thin: By name of the targets, why the samples can't prove their budget; empty where they can.
        counts: Candidates of each name of targets, in the recipe's order.

    """

    capabilities: dict[str, Capabilities]
    samples: PreparedSamples
    prepared: PreparedModel
    transformed: OnnxModel
    calibration: Path | None
    calibration_digest: str
    methods: Mapping[str, str]
    notes: tuple[str, ...]
    thin: Mapping[str, str]
    counts: tuple[int, ...]
    by_device: Mapping[str, dict[str, Capabilities]]

    def on(self, device: str) -> Shared:
        """What the targets on this device start from."""
        return replace(self, capabilities=self.by_device[device])


def share(context: RunContext) -> tuple[RunContext, Shared]:
    """Asks the backends, checks the samples, exports and verifies the model, and calibrates it.

    Returns:
        The context, whose recipe names the file of samples that were made up, and has one candidate per target where
        the model came quantized; and what was made.

    Raises:
        EdgeportError: The model, the data or the recipe can't be used.

    """
    context.clock.expect(probe=3)
    guess_stages(context, sum(len(target.precisions) for target in context.recipe.targets))
    context.clock.step("probe", "asking the backends")
    by_device = _probe_all(context)
    groups = context.recipe.groups
    counts = [len(list_candidates(group.targets, by_device[group.device])) for group in groups]
    guess_stages(context, sum(counts))
    context.clock.step("samples", "reading and checking")
    context = with_samples_made(context)
    samples = prepare_samples(context)
    thin = thin_by_target(context.recipe, len(samples.starts) or samples.count)
    from_onnx = context.recipe.source.location.endswith(".onnx")
    if not from_onnx:  # an export may take long: what is known before it is said before it
        _warn(thin)
    prepared = prepare_model(context, samples)
    if from_onnx:
        thin = thin_by_target(context.recipe, len(samples.starts) or samples.count, quantized=prepared.quantized)
        _warn(thin)
    if prepared.quantized:
        context = as_given(context)
        groups = context.recipe.groups
        counts = [len(group.targets) for group in groups]
    samples = _with_batch_of(prepared.model, samples, context)
    transformed = transformed_model(context, prepared.model, samples)
    calibrated = calibrate_model(context, transformed.model, samples, by_device, transforms=transformed.said)
    shared = Shared(
        capabilities=by_device[groups[0].device],
        by_device=by_device,
        samples=samples,
        prepared=prepared,
        transformed=transformed.model,
        calibration=calibrated.file,
        calibration_digest=calibrated.digest,
        methods=calibrated.methods,
        notes=_notes(prepared, samples, calibrated.notes, by_device),
        thin=thin,
        counts=tuple(counts),
    )
    return context, shared


def _warn(thin: Mapping[str, str]) -> None:
    for sentence in filter(None, thin.values()):
        _LOG.warning(sentence)


def _probe_all(context: RunContext) -> dict[str, dict[str, Capabilities]]:
    """By device and backend; devices with the same kind of processor are asked for once."""
    targets = context.recipe.targets
    names = list(dict.fromkeys(target.backend for target in targets))
    for name in names:
        _require_module(name)
    wanted = list(dict.fromkeys((target.backend, context.on(target.device).processor) for target in targets))
    found = side_by_side(lambda one: probe(one[0], context, one[1]), wanted, lambda _: None)
    known = dict(zip(wanted, found, strict=True))
    if not any(one.installed for one in found):
        reasons = "; ".join(dict.fromkeys(one.reason for one in found))
        raise DependencyError(
            asked=f"run on {', '.join(names)}",
            found=f"that none of them is installed ({reasons})",
            fix="install one, or name another target; `edgeport doctor` shows what is there",
        )
    by_device: dict[str, dict[str, Capabilities]] = {}
    for target in targets:
        one = known[target.backend, context.on(target.device).processor]
        by_device.setdefault(target.device, {})[target.backend] = one
    return by_device


def _require_module(backend: str) -> None:
    """A `module:factory` that is nowhere is a slip of the pen, not a candidate that failed."""
    module, colon, _ = backend.partition(":")
    if colon and module_file(module) is None and importlib.util.find_spec(module.partition(".")[0]) is None:
        raise UsageError(
            asked=f"use the backend {backend!r}",
            found=f"no module {module!r} on Python's path",
            fix="install the package it belongs to, name its folder in PYTHONPATH, or correct the name",
        )


def _with_batch_of(model: OnnxModel, samples: PreparedSamples, context: RunContext) -> PreparedSamples:
    """What one timed call takes is as many samples as the model's fixed batch.

    Raises:
        SamplesError: Samples of several shapes, or the steps of sequences, for a batch of several.

    """
    if model.fixed_batch in (None, 1):
        return samples
    if samples.is_ragged or model.state:
        raise SamplesError(
            asked=f"run {context.recipe.name} in batches of {model.fixed_batch}, which the model fixes",
            found="samples of several shapes" if samples.is_ragged else "the steps of sequences, one after the other",
            fix="export the model with a free batch, or a batch of 1",
        )
    single = write_first_batch(samples.feeds, model.fixed_batch or 1, context.scratch / "single.npz")
    return replace(samples, single=single)


def _notes(
    prepared: PreparedModel,
    samples: PreparedSamples,
    warnings: tuple[str, ...],
    by_device: Mapping[str, Mapping[str, Capabilities]],
) -> tuple[str, ...]:
    about_calls = calls_note(prepared.model, samples.count)
    notes = [*prepared.notes, *([about_calls] if about_calls else []), *samples.warnings, *warnings]
    for name, one in (pair for capabilities in by_device.values() for pair in capabilities.items()):
        if one.reason:
            state = "built, not run" if one.installed and not one.can_run else "not used"
            notes.append(f"{name}: {state}, because of: {one.reason}." if one.installed else f"{name}: {one.reason}")
    return tuple(dict.fromkeys(notes))
