"""Makes the model that is calibrated, by the methods that leave a float model's outputs as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeport.calibration.recovery.equalization import equalize
from edgeport.calibration.recovery.methods import Equalization, Recovery, Smoothing
from edgeport.calibration.recovery.recovered import Recovered
from edgeport.calibration.recovery.smoothing import smooth
from edgeport.contracts import OnnxModel, OpenModel, SampleSet

__all__ = ["transform"]


def _equalized(method: Equalization, model: OnnxModel, samples: SampleSet, run: OpenModel, to: Path) -> Recovered:
    del samples, run
    return equalize(model, to, replace_relu6=method.activation == "relu6")


def _smoothed(method: Smoothing, model: OnnxModel, samples: SampleSet, run: OpenModel, to: Path) -> Recovered:
    return smooth(model, samples, run, to, strength=method.strength)


_APPLIED: Mapping[type, Callable[[Any, OnnxModel, SampleSet, OpenModel, Path], Recovered]] = {
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
