"""How near each candidate comes to the float model on samples that nothing was calibrated with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import evaluated, example, kept, slug, sqnr_db
from benchmarks.quantization.candidates import REFERENCE, Candidate, candidates
from benchmarks.quantization.rows import AccuracyRow
from benchmarks.quantization.subjects import Judged, Subject
from edgeport.accuracy import accuracy_result, metric_named
from edgeport.contracts import Array
from edgeport.errors import EdgeportError
from edgeport.pipeline.output.artifact_folder import load_artifact

ALLOWED = 0.005
"""Of a metric; what `edgeport.accuracy` makes of it is not read, only its interval."""


def accuracy_rows(subject: Subject, folder: Path, *, measure: bool, names: tuple[str, ...] = ()) -> list[AccuracyRow]:
    """A row per candidate; with `measure` off, those that lie there already."""
    rows = []
    for candidate in candidates(subject, folder, make=measure, names=names):
        path = folder / "accuracy" / f"{slug(candidate.name)}.json"
        if measure or path.exists():
            rows.append(kept(path, AccuracyRow, partial(_judged, subject, folder, candidate)))
            if measure:
                _say(rows[-1])
    return rows


def _say(row: AccuracyRow) -> None:
    judged = ", ".join(
        f"{name} {one['value']:.4f} (drop {one['drop']:+.4f}, {one['low']:+.4f}..{one['high']:+.4f})"
        for name, one in row.judged.items()
    )
    sqnr = "" if row.sqnr_db is None else f"{row.sqnr_db:6.2f} dB"
    print(f"{row.model:<20}{row.name:<40}{sqnr} {judged}{row.why} {row.told}", flush=True)


def _judged(subject: Subject, folder: Path, candidate: Candidate) -> AccuracyRow:
    row = AccuracyRow(
        model=subject.name,
        name=candidate.name,
        kind=candidate.kind,
        runtime=candidate.runtime,
        why=candidate.why,
        told=candidate.told,
    )
    if candidate.why:
        return row
    try:
        own = _outputs(subject, folder, candidate.folder)
    except EdgeportError as error:
        return replace(row, why=f"does not run: {error.code}", told=error.found[:300])
    reference = _outputs(subject, folder, folder / "candidates" / slug(REFERENCE) / "built")
    return replace(
        row,
        sqnr_db=sqnr_db(own, reference),
        judged={one.name: _judge(subject, folder, one, own, reference) for one in subject.judged},
        size_bytes=load_artifact(candidate.folder).size_bytes,
    )


def _starts(folder: Path) -> list[int]:
    starts: list[int] = json.loads((folder / "starts.json").read_text(encoding="utf-8"))
    return starts


def _outputs(subject: Subject, folder: Path, built: Path) -> Array:
    """The first output over the evaluation samples, float [N, ...]."""
    arrays = evaluated(
        load_artifact(built),
        folder / "evaluation.npz",
        built / "outputs.npz",
        folder / "device",
        state=subject.state,
        starts=tuple(_starts(folder)),
    )
    return next(iter(arrays.values()))


def _judge(subject: Subject, folder: Path, judged: Judged, own: Array, reference: Array) -> Mapping[str, float]:
    """The metric of both, and the paired drop with its interval; as `edgeport run` judges."""
    target: Any = None
    if judged.against == "labels":
        target = np.load(folder / "target.npy", allow_pickle=False)
    elif judged.against == "float > 0.5":
        target = (reference.reshape(len(reference)) > 0.5).astype(np.int64)
    if subject.decode:
        boxes = example("detector", "detector").boxes
        own, reference = (boxes({"output": one}) for one in (own, reference))
    found = accuracy_result(
        metric_named(judged.metric),
        {"output": own},
        {"output": reference},
        target,
        allowed_drop=ALLOWED,
        reference_name="float32",
        starts=_starts(folder),
    )
    drop = found.drop
    figures = {
        "value": found.value.estimate,
        "reference": found.value.estimate + drop.estimate,
        "drop": drop.estimate,
        "low": drop.low,
        "high": drop.high,
    }
    worst = 1.0  # of an output with NaN: JSON has no infinity
    return {name: value if math.isfinite(value) else worst for name, value in figures.items()}
