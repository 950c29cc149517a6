"""Every candidate of a model as an artifact that the measuring program opens: floats, ours, and the peers'."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.quantization.kept import slug
from benchmarks.quantization.ours import OURS, Ours, float_command, quantize_command
from benchmarks.quantization.peers import PEERS, Peer, peer_request, run_peer
from benchmarks.quantization.subjects import Subject
from benchmarks.quantization.watched import Ended, watched

if TYPE_CHECKING:
    from edgeport.contracts import OnnxModel

__all__ = ["FLOATS", "REFERENCE", "Candidate", "candidates"]

REFERENCE = "float ONNX Runtime"
FLOATS: Mapping[str, tuple[str, str]] = {
    REFERENCE: ("onnxruntime", "fp32"),
    "float OpenVINO": ("openvino", "fp32"),
    "bf16 OpenVINO": ("openvino", "bf16"),
}
"""By name: the runtime and the precision."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One that was built, or was not.

    Attributes:
        name, kind, runtime, why, told: As in `AccuracyRow`.
        folder: With `artifact.json`, `model.json` and `artifact/`; nothing where it was not built.

    """

    name: str
    kind: str
    runtime: str
    folder: Path
    why: str = ""
    told: str = ""


def candidates(subject: Subject, folder: Path, *, make: bool, names: tuple[str, ...] = ()) -> list[Candidate]:
    """All of them, or those of these names; with `make` off, those that were made before."""
    makers: dict[str, tuple[str, str, Callable[[Path, Path], Ended | None]]] = {}
    for name, (runtime, precision) in FLOATS.items():
        makers[name] = ("float", runtime, _float(folder, runtime, precision))
    for ours in OURS.values():
        makers[ours.name] = ("ours" if ours.checked else "beside", ours.runtime, _ours(folder, ours))
    for peer in PEERS.values():
        makers[peer.name] = ("peer", peer.runtime, _peer(subject, folder, peer))
    found = []
    for name, (kind, runtime, maker) in makers.items():
        if names and name not in names:
            continue
        place = folder / "candidates" / slug(name)
        if make and not (place / "ended.json").exists():
            _build(place, maker)
        if (place / "ended.json").exists():
            ended = json.loads((place / "ended.json").read_text(encoding="utf-8"))
            found.append(Candidate(name=name, kind=kind, runtime=runtime, folder=place / "built", **ended))
    return found


def _build(place: Path, maker: Callable[[Path, Path], Ended | None]) -> None:
    """Makes it, and keeps what became of it."""
    from edgeport.errors import EdgeportError

    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        try:
            ended = maker(place / "built", Path(scratch))
        except EdgeportError as error:
            record = {"why": f"does not run: {error.code}", "told": error.found[:300]}
        else:
            record = {"why": ended.why if ended else "", "told": ended.told if ended and ended.why else ""}
    (place / "ended.json").write_text(json.dumps(record), encoding="utf-8")


def _float(folder: Path, runtime: str, precision: str) -> Callable[[Path, Path], Ended | None]:
    def make(built: Path, scratch: Path) -> Ended:
        del scratch
        return watched(float_command(folder / "model.onnx", built, runtime=runtime, precision=precision))

    return make


def _ours(folder: Path, ours: Ours) -> Callable[[Path, Path], Ended | None]:
    def make(built: Path, scratch: Path) -> Ended:
        del scratch
        return watched(quantize_command(folder / "model.onnx", folder / "calibration.npz", built, ours))

    return make


def _peer(subject: Subject, folder: Path, peer: Peer) -> Callable[[Path, Path], Ended | None]:
    """The peer's file, described as an artifact; it is opened once, so that one that does not run is found."""

    def make(built: Path, scratch: Path) -> Ended | None:
        float_model = Path(shutil.copy(folder / "model.onnx", scratch / "float.onnx"))
        if peer.of:
            made = folder / "candidates" / slug(peer.of) / "built" / "artifact" / "model.xml"
            if not made.exists():
                return Ended(why="not built", seconds=0.0, peak_bytes=0, printed="", told=f"{peer.of} was not")
            _describe_ir(made, float_model, built, peer.hint)
            return None
        samples = folder / "calibration.npz"
        count = _count(samples)
        output = scratch / ("model.xml" if peer.program == "nncf-openvino" else "model.onnx")
        ended = run_peer(peer_request(subject, peer, float_model, samples, count, output), scratch)
        if not ended.why and peer.program == "nncf-openvino":
            _describe_ir(output, float_model, built, peer.hint)
        elif not ended.why:
            _describe_onnx(output, built, scratch)
        return ended

    return make


def _count(samples: Path) -> int:
    from edgeport.calibration.data import NpzSamples

    return len(NpzSamples(samples))


def _describe_onnx(file: Path, built: Path, scratch: Path) -> None:
    """As `edgeport bench` takes an ONNX file: whatever it holds runs as it stands."""
    from edgeport.contracts import to_jsonable
    from edgeport.onnx_files import open_onnx
    from edgeport.pipeline.benchmarking.artifact import BenchSettings, open_artifact
    from edgeport.pipeline.output.artifact_folder import write_artifact_record

    opened = open_artifact(file, BenchSettings(backend="onnxruntime"), scratch / "opened")
    built.mkdir()
    shutil.copytree(opened.artifact.folder, built / "artifact")
    write_artifact_record(built, _described(opened.artifact), to_jsonable(open_onnx(file)))


def _describe_ir(file: Path, float_model: Path, built: Path, hint: str) -> None:
    from edgeport.backends.artifacts import make_artifact
    from edgeport.contracts import ExecutionConfig, Precision, to_jsonable
    from edgeport.onnx_files import open_onnx
    from edgeport.pipeline.output.artifact_folder import write_artifact_record

    (built / "artifact").mkdir(parents=True)
    for part in (file, file.with_suffix(".bin")):
        shutil.copy(part, built / "artifact" / part.name)
    model = open_onnx(float_model)
    artifact = make_artifact(
        backend="openvino",
        folder=built / "artifact",
        entry=file.name,
        session="edgeport.backends.openvino.session",
        settings=_ir_settings(model, hint),
        precision=Precision.INT8,
        execution=ExecutionConfig(),
    )
    write_artifact_record(built, _described(artifact), to_jsonable(model))


def _ir_settings(model: OnnxModel, hint: str) -> dict[str, object]:
    names = {"inputs": [spec.name for spec in model.inputs], "outputs": [spec.name for spec in model.outputs]}
    return {"device": "CPU", "precision": hint, "batch": 1, **names}


def _described(artifact: Any) -> dict[str, object]:
    from edgeport.contracts import to_jsonable

    described: dict[str, object] = to_jsonable(artifact)
    return described
