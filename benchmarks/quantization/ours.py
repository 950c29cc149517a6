"""Edgeport's own candidates, made by the commands that a user types."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["METHODS", "OURS", "Ours", "calibrate_command", "float_command", "quantize_command"]

METHODS: Mapping[str, tuple[str, str]] = {
    "minmax": ("minmax", "extremes"),
    "average": ("average", "extremes,averages"),
    "percentile": ("percentile:99.99", "extremes,histogram"),
    "entropy": ("entropy", "extremes,histogram"),
    "mse": ("mse", "extremes,histogram"),
    "auto": ("auto", "extremes,histogram,averages"),
    "measured": ("measured", "extremes,histogram,averages"),
}
"""By name: what `edgeport quantize --method` and `edgeport calibrate --observers` are told."""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """One candidate.

    Attributes:
        name: In tables.
        runtime: That it is for.
        method: Of `METHODS`.
        options: More of `edgeport quantize`.
        recover: Methods of recovery, which need the samples.
        checked: Claims are about it; the others are shown beside it.

    """

    name: str
    runtime: str
    method: str = "measured"
    options: tuple[str, ...] = ()
    recover: tuple[str, ...] = ()
    checked: bool = True


OURS: Mapping[str, Ours] = {
    each.name: each
    for each in (
        Ours(name="Edgeport ONNX Runtime", runtime="onnxruntime"),
        Ours(name="Edgeport OpenVINO", runtime="openvino"),
        Ours(name="Edgeport OpenVINO, rest bf16", runtime="openvino", options=("--rest", "bf16"), checked=False),
        Ours(
            name="Edgeport ONNX Runtime, bias corrected",
            runtime="onnxruntime",
            recover=("bias-correction",),
            checked=False,
        ),
        Ours(name="Edgeport OpenVINO, bias corrected", runtime="openvino", recover=("bias-correction",), checked=False),
    )
}
"""Default settings; what has others is not judged."""

_EDGEPORT = (sys.executable, "-m", "edgeport")


def calibrate_command(model: Path, samples: Path, output: Path, *, method: str) -> list[str]:
    """`edgeport calibrate`, watching what the method needs."""
    observers = METHODS[method][1]
    return [*_EDGEPORT, "calibrate", str(model), str(samples), "-o", str(output), "--observers", observers, "--quiet"]


def quantize_command(model: Path, calibration: Path, samples: Path, output: Path, ours: Ours) -> list[str]:
    """`edgeport quantize` in int8."""
    command = [*_EDGEPORT, "quantize", str(model), "--calibration", str(calibration), "--backend", ours.runtime]
    command += ["--method", METHODS[ours.method][0], *ours.options]
    for method in ours.recover:
        command += ["--recover", method]
    command += ["--samples", str(samples)] if ours.recover or ours.method == "measured" else []
    return [*command, "-o", str(output), "--quiet"]


def float_command(model: Path, output: Path, *, runtime: str, precision: str) -> list[str]:
    """`edgeport quantize` in a float precision."""
    chosen: Sequence[str] = ("--backend", runtime, "--precision", precision)
    return [*_EDGEPORT, "quantize", str(model), *chosen, "-o", str(output), "--quiet"]
