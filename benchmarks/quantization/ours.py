"""Edgeport's own candidates, made by the commands that a user types."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

METHODS: Mapping[str, str] = {
    "minmax": "minmax",
    "average": "average",
    "percentile": "percentile:99.99",
    "entropy": "entropy",
    "mse": "mse",
    "auto": "auto",
    "measured": "measured",
}
"""By name: what `edgeport quantize --method` is told."""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """One candidate.

    Attributes:
        name: In tables.
        runtime: That it is for.
        method: Of `METHODS`.
        options: More of `edgeport quantize`.
        recover: Methods of recovery.
        checked: Claims are about it; the others are shown beside it.

    """

    name: str
    runtime: str
    method: str = "measured"
    options: tuple[str, ...] = ()
    recover: tuple[str, ...] = ()
    checked: bool = True

    @property
    def kind(self) -> str:
        """As in `AccuracyRow`."""
        return "ours" if self.checked else "beside"


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


def quantize_command(model: Path, samples: Path, output: Path, ours: Ours) -> list[str]:
    """`edgeport quantize` in int8, which calibrates on the way."""
    command = [*_EDGEPORT, "quantize", str(model), "--samples", str(samples), "--backend", ours.runtime]
    recover = [word for method in ours.recover for word in ("--recover", method)]
    return [*command, "--method", METHODS[ours.method], *ours.options, *recover, "-o", str(output), "--quiet"]


def float_command(model: Path, output: Path, *, runtime: str, precision: str) -> list[str]:
    """`edgeport quantize` in a float precision."""
    chosen: Sequence[str] = ("--backend", runtime, "--precision", precision)
    return [*_EDGEPORT, "quantize", str(model), *chosen, "-o", str(output), "--quiet"]
