"""The exported model against PyTorch, on samples."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgeport.contracts import (
    Limits,
    ModelSource,
    OnnxModel,
    Outcome,
    Verification,
    to_jsonable,
)
from edgeport.errors import IsolationError, SamplesError, UsageError, VerificationError, require_known
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.datasets.batching import require_a_batch
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.datasets.raw_files import checked_samples, preparation_for, prepared_file
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.step import Step
from edgeport.pipeline.evaluation.evaluate import Reference
from edgeport.pipeline.source_model.verification_worker import VerifyRequest, verify

__all__ = ["TOLERANCE", "verify_export"]

_VERIFY = Step(name="verify", worker=verify)
TOLERANCE = 1e-3
"""Of the largest output; float32 sums in another order differ by less."""


def verify_prepared(
    context: RunContext, model: OnnxModel, samples: PreparedSamples, reference: Reference, exported: Path | None = None
) -> Verification:
    """Against what the float model gave; at other sizes of free axes too, where the export recorded what it gives."""
    context.clock.step("verify", "PyTorch against ONNX Runtime")
    require_a_batch(model, samples.count, "verify")
    data = context.recipe.data
    request = VerifyRequest(
        model=model,
        feeds=samples.feeds,
        reference=reference.outputs,
        target=samples.target,
        metric=data.metric,
        output=data.output,
        decode=data.decode,
        search_path=context.recipe.search_path,
        tolerance=TOLERANCE,
        batch_sizes=(2, 1) if model.fixed_batch is None else (model.fixed_batch,),
        starts=samples.starts,
        sizes=exported / "sizes.json" if exported is not None else None,
        of_sizes=exported / "model.onnx" if exported is not None else None,
    )
    asked = f"run the export of {context.recipe.name} on the evaluation samples"
    _, verification = _VERIFY.run(context, request, asked=asked, traced=":" in data.metric or bool(data.decode))
    if verification.outcome is not Outcome.PASS:
        worst = max(verification.outputs, key=lambda output: output.max_abs)
        raise VerificationError(
            asked=f"verify the export of {context.recipe.name} on {verification.samples} samples",
            found=f"output {worst.name} off by up to {worst.max_abs:.3g} (SQNR {worst.sqnr_db:.1f} dB)",
            fix="look for operators that behave otherwise in evaluation mode, or export to another opset",
            details={"verification": to_jsonable(verification)},
        )
    return verification


def verify_export(  # noqa: PLR0913 (those of the API)
    source: ModelSource,
    model: Path,
    samples: Path,
    *,
    metric: str,
    target: str,
    tolerance: float,
    preprocess: Path | None,
    limits: Limits,
) -> Verification:
    """See `edgeport.api.verify`."""
    import numpy as np

    from edgeport.npz import save_npz
    from edgeport.pipeline.datasets.batching import require_a_batch

    _check_metric(metric, target)
    opened = open_onnx(model)
    preparation = preparation_for(preprocess, opened.inputs)
    with tempfile.TemporaryDirectory(prefix="edgeport-verify-") as scratch:
        folder = Path(scratch)
        samples = prepared_file(samples, preparation, folder, limits, target=target)
        sample = checked_samples(samples, opened, target)
        require_a_batch(opened, len(sample), f"verify {model.name}")
        save_npz(folder / "feeds.npz", sample.feeds)
        labels = folder / "target.npy" if sample.target is not None else None
        if labels is not None and sample.target is not None:
            np.save(labels, sample.target, allow_pickle=False)
        payload = {
            "feeds": str(folder / ("unfolded.npz" if preparation.folded else "feeds.npz")),
            "reference": str(folder / "reference.npz"),
            "source": to_jsonable(source),
            **({"batch": opened.fixed_batch} if opened.fixed_batch is not None else {}),
        }
        _run_pytorch(source, payload, limits)
        batch = opened.fixed_batch
        request = VerifyRequest(
            model=opened,
            feeds=folder / "feeds.npz",
            reference=folder / "reference.npz",
            target=labels,
            metric=metric,
            search_path=source.search_path,
            tolerance=tolerance,
            batch_sizes=tuple(sorted({1, min(2, len(sample))})) if batch is None else (batch,),
        )
        return _VERIFY.call(request, folder, limits=limits, asked=f"run {model.name} on the samples")


def _run_pytorch(source: ModelSource, payload: dict[str, object], limits: Limits) -> None:
    """PyTorch's own outputs; what the model raises is about the samples, since it could be loaded."""
    try:
        run_isolated(
            "edgeport.exporter.worker:reference_in_child",
            payload,
            limits=limits,
            asked=f"run {source.location} on the samples",
        )
    except IsolationError as error:
        if "raised" not in error.details:
            raise
        raise SamplesError(
            asked=f"run {source.location} in PyTorch on the samples",
            found=str(error.details["raised"]),
            fix="check that samples, weights and the exported file are of this very model",
            details=error.details,
        ) from error


def _check_metric(metric: str, target: str) -> None:
    from edgeport.accuracy import METRICS

    if metric and not target:
        raise UsageError(
            asked=f"compute {metric} of both models",
            found="no name of the labels' array",
            fix='give target (--target), as in --target label for numpy.savez("samples.npz", image=..., label=...)',
        )
    if metric and ":" not in metric:
        require_known("judge by metric", metric, METRICS)
