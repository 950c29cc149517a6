"""Calibration samples, opened in a child process from what its payload says of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgeport.pipeline.datasets.prepare_worker import not_repeatable
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.datasets.sources import BATCH, location_from_json, open_samples

if TYPE_CHECKING:
    from edgeport.contracts import OnnxModel, SampleSet

__all__ = ["calibration_samples"]

_READ_VALUES = 1 << 20
"""Read at once for a model that takes a fixed number of samples in a call, and would not see more of them together."""


def calibration_samples(payload: dict[str, Any], model: OnnxModel) -> SampleSet:
    """The samples as the model takes them.

    Args:
        payload: `samples` (a location), `target`, and where wanted `batch_size`, `arrangement`, `preparation`, and the
            `fingerprint` that samples of the user's own code must have.
        model: The ONNX model.

    Raises:
        SamplesError: They can't be read, or the user's code gave other samples before.

    """
    location, preparation = location_from_json(payload["samples"]), Preparation.from_payload(payload)
    raw = open_samples(
        location,
        payload["target"],
        inputs=[spec for spec in preparation.inputs or model.inputs if spec.name not in model.state.values()],
        raw=preparation.raw,
        batch_size=_read_at_once(model, payload.get("batch_size", BATCH)),
        arrangement=payload.get("arrangement"),
    )
    samples = preparation.prepared(raw)
    functions = "function" in payload["samples"] or preparation.runs_functions
    if payload.get("fingerprint") and functions and samples.fingerprint != payload["fingerprint"]:
        raise not_repeatable(location.location)
    return samples


def _read_at_once(model: OnnxModel, wanted: int) -> int:
    if model.fixed_batch is None:
        return wanted
    row = sum(math.prod(axis for axis in spec.shape[1:] if isinstance(axis, int)) for spec in model.fed)
    return max(1, min(wanted, _READ_VALUES // max(row, 1)))
