"""Who quantizes: Edgeport by the commands that a user types; others with their defaults and the best settings known."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import Ended, watched

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


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One quantizer with its settings.

    Attributes:
        name: In tables.
        program: Of `peer_program.py`: "onnxruntime", "nncf-onnx" or "nncf-openvino".
        runtime: That its file is for.
        method: Ours that does the same: the two are compared in time and memory.
        settings: Handed to the program; JSON values.
        twin: Name of the peer that writes the same graph with other numbers in it, so its latency is that one's.
        of: Name of the peer whose file this is, run in another float precision beside its integers.
        hint: That precision, as OpenVINO calls it.

    """

    name: str
    program: str
    runtime: str
    method: str = "minmax"
    settings: Mapping[str, object] = field(default_factory=dict)
    twin: str = ""
    of: str = ""
    hint: str = "f32"


_BEST: Mapping[str, object] = {"best": True}

PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(name="ORT defaults", program="onnxruntime", runtime="onnxruntime"),
        Peer(name="ORT best", program="onnxruntime", runtime="onnxruntime", settings=_BEST),
        Peer(
            name="ORT best, percentile",
            program="onnxruntime",
            runtime="onnxruntime",
            method="percentile",
            settings={**_BEST, "calibrate": "Percentile"},
            twin="ORT best",
        ),
        Peer(
            name="ORT best, entropy",
            program="onnxruntime",
            runtime="onnxruntime",
            method="entropy",
            settings={**_BEST, "calibrate": "Entropy"},
            twin="ORT best",
        ),
        Peer(name="NNCF ONNX", program="nncf-onnx", runtime="onnxruntime"),
        Peer(name="NNCF ONNX best", program="nncf-onnx", runtime="onnxruntime", settings=_BEST),
        Peer(name="NNCF OpenVINO", program="nncf-openvino", runtime="openvino"),
        Peer(name="NNCF OpenVINO best", program="nncf-openvino", runtime="openvino", settings=_BEST),
        Peer(
            name="NNCF OpenVINO, rest bf16",
            program="nncf-openvino",
            runtime="openvino",
            of="NNCF OpenVINO",
            hint="bf16",
        ),
        Peer(
            name="NNCF OpenVINO best, rest bf16",
            program="nncf-openvino",
            runtime="openvino",
            settings=_BEST,
            of="NNCF OpenVINO best",
            hint="bf16",
        ),
    )
}
"""ONNX Runtime's best on a processor with VNNI, as its own guide has it: preprocessed, activations uint8, weights int8
per channel. NNCF's best: the preset "mixed", the exact bias correction, and the model's type where it is a transformer.
OpenVINO computes what is not integer in bf16 where nobody says otherwise and the processor has it: both are looked at.
"""


def run_peer(
    peer: Peer, model: Path, samples: Path, count: int, scratch: Path, transformer: bool
) -> tuple[Path, Ended]:
    """Its file, and how it ended, in a process of its own with the limits that ours has."""
    output = scratch / ("model.xml" if peer.program == "nncf-openvino" else "model.onnx")
    request = {
        "program": peer.program,
        "settings": dict(peer.settings),
        "transformer": transformer,
        "model": shutil.copy(model, scratch / "float.onnx"),  # some write beside the model
        "samples": samples,
        "count": count,
        "output": output,
    }
    path = scratch / "request.json"
    path.write_text(json.dumps(request, default=str), encoding="utf-8")
    return output, watched([sys.executable, "-m", "benchmarks.quantization.peer_program", str(path)])
