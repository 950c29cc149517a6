"""How large each channel of a tensor becomes over some samples."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.data.rebatch import rebatch
from edgeport.calibration.intermediate_outputs import open_observed
from edgeport.contracts import OnnxModel, OpenModel, SampleSet
from edgeport.errors import CalibrationError

__all__ = ["channel_maxima"]

_BATCH = 8
"""Samples in a call: what is fetched is all tensors at once."""


def channel_maxima(
    model: OnnxModel, names: Sequence[str], samples: SampleSet, open_model: OpenModel
) -> Mapping[str, NDArray[np.float64]]:
    """Largest absolute value of each channel, the last axis, [channels] by tensor; NaN and Inf do not count.

    Args:
        model: Float.
        names: Of the tensors.
        samples: Walked once.
        open_model: Opens an ONNX file with some runtime.

    Raises:
        CalibrationError: No samples, or a model with a state.

    """
    if model.state or not len(samples):
        raise CalibrationError(
            asked=f"look at the channels of {model.path.name}",
            found="a model with a state" if model.state else "an empty sample set",
            fix="leave smoothing out for this model" if model.state else "give at least one sample",
        )
    found: dict[str, NDArray[np.float64]] = {}
    fixed = model.fixed_batch
    with (
        tempfile.TemporaryDirectory(prefix="edgeport-smoothing-") as folder,
        open_observed(model, names, open_model, Path(folder)) as run,
    ):
        for sample in rebatch(samples, fixed or _BATCH, fill_up=fixed is not None):
            arrays = {**sample.feeds, **run(sample.feeds)}
            for name in names:
                rows = np.abs(arrays[name].reshape(-1, arrays[name].shape[-1])).astype(np.float64)
                largest = np.where(np.isfinite(rows), rows, 0.0).max(axis=0, initial=0.0)
                found[name] = np.maximum(found.get(name, largest), largest)
    return found
