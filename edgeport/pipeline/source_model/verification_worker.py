"""Compares an exported model with PyTorch's recorded outputs, in a child process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import Array, Arrays, OnnxModel, load_json
from edgeport.contracts import to_jsonable as plain
from edgeport.npz import load_npz
from edgeport.pipeline.datasets.batching import feeds_of

if TYPE_CHECKING:
    from edgeport.exporter.dynamic_shape_check import AtSize
    from edgeport.exporter.verify import Judge

__all__ = ["verify"]


def verify(payload: dict[str, Any]) -> dict[str, Any]:
    """Compares the exported model on ONNX Runtime with PyTorch's recorded outputs.

    Args:
        payload: `model` (OnnxModel), `feeds` and `reference` (`.npz` with arrays by name), `target` (`.npy` or
            None), `metric` and `output` (names), `search_path`, `tolerance`, `batch_sizes`, and where wanted `starts`,
            `sizes` (a file) and `of_sizes` (the ONNX file that takes what the sizes feed, before any folding).

    Returns:
        The `verification`.

    """
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.exporter.verify import verify as compare

    model = load_json(OnnxModel, json.dumps(payload["model"]))
    found = compare(
        load_npz(payload["reference"]),
        feeds_of(model, payload["feeds"]),
        model.path,
        open_reference,
        tolerance=payload["tolerance"],
        batch_sizes=tuple(payload["batch_sizes"]),
        judge=_judge(payload),
        state=model.state,
        starts=payload.get("starts", (0,)),
        sizes=_sizes(payload.get("sizes")),
        of_sizes=Path(payload["of_sizes"]) if payload.get("of_sizes") else None,
    )
    return {"verification": plain(found)}


def _sizes(path: str | None) -> list[AtSize]:
    from edgeport.exporter.dynamic_shape_check import AtSize

    if path is None:
        return []
    folder = Path(path).parent / "sizes"
    return [
        AtSize(
            axis=one["axis"],
            size=one["size"],
            feeds=load_npz(folder / one["feeds"]),
            outputs=load_npz(folder / one["outputs"]),
        )
        for one in json.loads(Path(path).read_text(encoding="utf-8"))
    ]


def _judge(payload: dict[str, Any]) -> Judge | None:
    """The recipe's metric, where there are labels for it; one against the float model says nothing of an export."""
    from edgeport.accuracy import Truth, evaluate
    from edgeport.exporter.verify import Judge
    from edgeport.pipeline.evaluation.worker import DECODED, decoder_from, metric_from, of_one_shape

    if not payload.get("metric") or not payload.get("target"):
        return None
    metric, decode = metric_from(payload), decoder_from(payload)
    if metric.truth is Truth.REFERENCE:
        return None

    def measure(outputs: Arrays, labels: Array) -> float:
        judged = outputs if decode is None else {DECODED: decode(outputs)}
        name = DECODED if decode is not None else payload.get("output") or next(iter(outputs))
        shaped = of_one_shape(metric, judged, name, Path(payload["target"]))
        return evaluate(shaped, judged, labels, output=name).value

    return Judge(name=metric.name, measure=measure, target=np.load(payload["target"], allow_pickle=False))
