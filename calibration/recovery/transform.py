"""Makes the model that is calibrated, by the methods that leave a float model's outputs as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.calibration.data.rebatch import rebatch
from edgeport.calibration.recovery.equalization import equalize
from edgeport.calibration.recovery.methods import Equalization, Recovery, Smoothing
from edgeport.calibration.recovery.model_edit import RecoveryResult
from edgeport.calibration.recovery.smoothing import smooth
from edgeport.contracts import OnnxModel, OpenModel, SampleSet
from edgeport.errors import CalibrationError

__all__ = ["transform"]

_COMPARED = 16
"""Samples that outputs are compared on."""
_LEAST_RATIO = 100.0
"""Of signal to noise, 20 dB: what is lost by less may be worth what the integers gain."""


def _equalized(method: Equalization, model: OnnxModel, samples: SampleSet, run: OpenModel, to: Path) -> RecoveryResult:
    if method.activation != "relu6":
        return equalize(model, to)
    done = equalize(model, to, replace_relu6=True)
    _require_near(model, done.model, samples, run)
    return done


def _require_near(model: OnnxModel, made: OnnxModel, samples: SampleSet, run: OpenModel) -> None:
    """The outputs of some samples are hardly changed, where a limit was given up.

    Raises:
        CalibrationError: They are, or the model has a state, so that samples can't be run one by one.

    """
    asked = f"equalize {model.path.name}, and take Clip for Relu"
    fix = 'ask for "equalization", which keeps the limits, or leave it out'
    if model.state:
        raise CalibrationError(asked=asked, found="a model with a state, which can't be compared here", fix=fix)
    fixed = model.fixed_batch
    feeds = next(iter(rebatch(samples, fixed or _COMPARED, fill_up=fixed is not None))).feeds
    with run(model.path) as before, run(made.path) as after:
        pairs = [(array, given) for array, given in zip(before(feeds).values(), after(feeds).values(), strict=True)]
    floats = [(array, given) for array, given in pairs if np.issubdtype(array.dtype, np.floating)]
    signal = sum(float(np.square(array, dtype=np.float64).sum()) for array, _ in floats)
    noise = sum(float(np.square(array - given, dtype=np.float64).sum()) for array, given in floats)
    if noise * _LEAST_RATIO > signal:
        found = f"outputs that differ from the float model's by {100 * (noise / max(signal, 1e-300)) ** 0.5:.0f} %"
        raise CalibrationError(asked=asked, found=f"{found}: values lie above the limits", fix=fix)


def _smoothed(method: Smoothing, model: OnnxModel, samples: SampleSet, run: OpenModel, to: Path) -> RecoveryResult:
    return smooth(model, samples, run, to, strength=method.strength)


_APPLIED: Mapping[type, Callable[[Any, OnnxModel, SampleSet, OpenModel, Path], RecoveryResult]] = {
    Equalization: _equalized,
    Smoothing: _smoothed,
}


def transform(
    model: OnnxModel, methods: Sequence[Recovery], samples: SampleSet, open_model: OpenModel, folder: Path
) -> tuple[OnnxModel, tuple[str, ...]]:
    """The model to calibrate and quantize, and what was done to it, as `Calibration.transforms` keeps it.

    Args:
        model: A float model.
        methods: In the order in which they are applied; see `methods.recoveries_named`.
        samples: Of the calibration.
        open_model: Opens an ONNX file with some runtime.
        folder: Gets one file per method.

    Raises:
        AlreadyQuantizedError: The model is not float.
        CalibrationError: A method finds nothing to do.

    """
    said: list[str] = []
    for index, method in enumerate(methods):
        done = _APPLIED[type(method)](method, model, samples, open_model, folder / f"transformed{index}.onnx")
        model = replace(model, path=done.model.path, digest=done.model.digest)
        said.append(done.said)
    return model, tuple(said)
