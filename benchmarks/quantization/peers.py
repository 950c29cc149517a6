"""The other quantizers, each with its defaults and with the best settings known; `peer_program.py` runs them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import Ended, watched


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
