"""The sample sets of a recipe, opened; the evaluation set also as the file that devices are fed from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeport.contracts import SampleSet, TensorSpec, digest_file, load_json, to_jsonable
from edgeport.contracts.recipe import SamplesFile, SamplesFunction, SamplesLocation
from edgeport.isolation import run_isolated
from edgeport.pipeline.context import RunContext

__all__ = ["PreparedSamples", "open_samples", "prepare_samples", "write_samples"]

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class PreparedSamples:
    """What the steps after this one read.

    Attributes:
        feeds: `.npz`, one array [N, ...] per input.
        target: `.npy` with the labels [N, ...], or None.
        example: `.npz` with the first two samples, for the export.
        single: `.npz` with the first sample, for timing.
        count: Number of evaluation samples.
        fingerprint: Of the evaluation set.
        calibration_fingerprint: Of the calibration set; empty where there is none.
        calibration_count: Its number of samples.
        warnings: What is odd about the sets.

    """

    feeds: Path
    target: Path | None
    example: Path
    single: Path
    count: int
    fingerprint: str
    calibration_fingerprint: str
    calibration_count: int
    warnings: tuple[str, ...]


def open_samples(location: SamplesLocation, target: str, *, batch_size: int = _BATCH) -> SampleSet:
    """Opens a sample set; a `.npz` without the target key is a set without labels."""
    from edgeport.calibration import data

    if isinstance(location, SamplesFunction):
        return data.FunctionSamples(location.function, search_path=location.search_path)
    import numpy as np

    key: str | None = None
    if target:
        with np.load(location.path, allow_pickle=False) as file:
            key = target if target in file.files else None
    return data.NpzSamples(location.path, key, batch_size)


def location_from_json(values: dict[str, Any]) -> SamplesLocation:
    """The location that `to_jsonable` wrote."""
    if "function" in values:
        search_path = values["search_path"]
        return SamplesFunction(function=values["function"], search_path=Path(search_path) if search_path else None)
    return SamplesFile(path=Path(values["path"]))


def source_digest(location: SamplesLocation) -> str:
    """Names what the samples come from, so that a finished step is found again without reading them all.

    A function's own samples can't be known without calling it, so its file stands for them.
    """
    if isinstance(location, SamplesFile):
        return digest_file(location.path)
    import importlib.util
    import sys

    folder = [str(location.search_path)] if location.search_path else []
    before = list(sys.path)
    sys.path[:0] = folder
    try:
        spec = importlib.util.find_spec(location.function.partition(":")[0])
    except (ImportError, ValueError):
        spec = None
    finally:
        sys.path[:] = before
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    return f"{location.function} {digest_file(origin) if origin is not None and origin.is_file() else ''}"


def prepare_samples(context: RunContext) -> PreparedSamples:
    """Checks the recipe's sample sets and writes the files that later steps read.

    Raises:
        SamplesError: Damaged, empty, of unequal lengths, or calibration and evaluation overlap.

    """
    data = context.recipe.data
    key = {
        "evaluation": source_digest(data.evaluation),
        "calibration": source_digest(data.calibration) if data.calibration else "",
        "target": data.target,
        "inputs": [to_jsonable(spec) for spec in context.recipe.inputs],
    }

    def build(folder: Path) -> None:
        payload = {
            "evaluation": to_jsonable(data.evaluation),
            "calibration": to_jsonable(data.calibration) if data.calibration else None,
            "target": data.target,
            "inputs": [to_jsonable(spec) for spec in context.recipe.inputs],
            "folder": str(folder),
        }
        run_isolated("edgeport.pipeline.samples:write_samples", payload, limits=context.limits)

    folder = context.store.get_or_build("samples", key, build)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    target = folder / "target.npy"
    return PreparedSamples(
        feeds=folder / "feeds.npz",
        target=target if target.exists() else None,
        example=folder / "example.npz",
        single=folder / "single.npz",
        count=facts["count"],
        fingerprint=facts["fingerprint"],
        calibration_fingerprint=facts["calibration_fingerprint"],
        calibration_count=facts["calibration_count"],
        warnings=tuple(facts["warnings"]),
    )


def write_samples(payload: dict[str, Any]) -> dict[str, Any]:
    """Child's side of `prepare_samples`: opens both sets, checks that they are disjoint, writes the files."""
    import numpy as np

    from edgeport.calibration.data import check_disjoint, check_samples

    folder = Path(payload["folder"])
    evaluation = open_samples(location_from_json(payload["evaluation"]), payload["target"])
    facts: dict[str, Any] = {"calibration_fingerprint": "", "calibration_count": 0, "warnings": []}
    if payload["calibration"] is not None:
        calibration = open_samples(location_from_json(payload["calibration"]), payload["target"])
        check_disjoint(calibration, evaluation)
        facts |= {"calibration_fingerprint": calibration.fingerprint, "calibration_count": len(calibration)}
    specs = tuple(load_json(TensorSpec, json.dumps(values)) for values in payload["inputs"])
    if specs:
        facts["warnings"] += [f"Evaluation: {lint.message}" for lint in check_samples(evaluation, specs)]
    batches = list(evaluation)
    feeds = {name: np.concatenate([batch.feeds[name] for batch in batches]) for name in batches[0].feeds}
    targets = [batch.target for batch in batches if batch.target is not None]
    np.savez(folder / "feeds.npz", **feeds)  # type: ignore[arg-type]  # names of inputs, not of parameters
    np.savez(folder / "example.npz", **{name: array[:2] for name, array in feeds.items()})  # type: ignore[arg-type]
    np.savez(folder / "single.npz", **{name: array[:1] for name, array in feeds.items()})  # type: ignore[arg-type]
    if targets:
        np.save(folder / "target.npy", np.concatenate(targets), allow_pickle=False)
    facts |= {"count": len(evaluation), "fingerprint": evaluation.fingerprint}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return {}
