"""Compares an exported model with PyTorch's recorded outputs, in a child process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from edgeport.contracts import Array, Arrays, OnnxModel, Verification
from edgeport.contracts.request import ByContent, Scratch
from edgeport.npz import load_npz
from edgeport.pipeline.datasets.batching import feeds_of

if TYPE_CHECKING:
    from edgeport.exporter.dynamic_shape_check import AtSize
    from edgeport.exporter.verify import Judge

__all__ = ["VerifyRequest", "verify"]


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """An exported model, and what PyTorch gave.

    Attributes:
        model: The export.
        feeds, reference: `.npz` with arrays by name: the inputs, and PyTorch's outputs.
        target: `.npy` with the labels; None where there are none.
        metric, output, decode: As of `JudgeRequest`; empty where nothing is judged.
        search_path: Folder on the import path while the user's functions are imported.
        tolerance: Of the largest output.
        batch_sizes: That the model is called with.
        starts: Indices of samples at which a sequence begins.
        sizes: `sizes.json` of the export; None where no axis but the batch is free.
        of_sizes: The ONNX file that takes what the sizes feed, before any folding.

    """

    model: OnnxModel
    feeds: Annotated[Path, ByContent]
    reference: Annotated[Path, ByContent]
    target: Annotated[Path | None, ByContent] = None
    metric: str = ""
    output: str = ""
    decode: str = ""
    search_path: Path | None = None
    tolerance: float
    batch_sizes: tuple[int, ...]
    starts: tuple[int, ...] = (0,)
    sizes: Annotated[Path | None, ByContent] = None
    of_sizes: Annotated[Path | None, Scratch] = None


def verify(request: VerifyRequest, folder: Path) -> Verification:
    """Compares the exported model on ONNX Runtime with PyTorch's recorded outputs."""
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.exporter.verify import verify as compare

    del folder
    model = request.model
    return compare(
        load_npz(request.reference),
        feeds_of(model, request.feeds),
        model.path,
        open_reference,
        tolerance=request.tolerance,
        batch_sizes=request.batch_sizes,
        judge=_judge(request),
        state=model.state,
        starts=request.starts,
        sizes=_sizes(request.sizes),
        of_sizes=request.of_sizes,
    )


def _sizes(path: Path | None) -> list[AtSize]:
    from edgeport.exporter.dynamic_shape_check import AtSize

    if path is None:
        return []
    folder = path.parent / "sizes"
    return [
        AtSize(
            axis=one["axis"],
            size=one["size"],
            feeds=load_npz(folder / one["feeds"]),
            outputs=load_npz(folder / one["outputs"]),
        )
        for one in json.loads(path.read_text(encoding="utf-8"))
    ]


def _judge(request: VerifyRequest) -> Judge | None:
    """The recipe's metric, where there are labels for it; one against the float model says nothing of an export."""
    from edgeport.accuracy import Truth, evaluate
    from edgeport.exporter.verify import Judge
    from edgeport.pipeline.evaluation.worker import DECODED, decoder_from, metric_from, of_one_shape

    target = request.target
    if not request.metric or target is None:
        return None
    metric, decode = metric_from(request.metric, request.search_path), decoder_from(request.decode, request.search_path)
    if metric.truth is Truth.REFERENCE:
        return None

    def measure(outputs: Arrays, labels: Array) -> float:
        judged = outputs if decode is None else {DECODED: decode(outputs)}
        name = DECODED if decode is not None else request.output or next(iter(outputs))
        shaped = of_one_shape(metric, judged, name, target)
        return evaluate(shaped, judged, labels, output=name).value

    return Judge(name=metric.name, measure=measure, target=np.load(target, allow_pickle=False))
