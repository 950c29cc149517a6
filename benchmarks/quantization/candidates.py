"""Every candidate of a model as an artifact that the measuring program opens: floats, ours, and the peers'."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness import Ended, kept, slug, watched
from benchmarks.quantization.quantizers import OURS, PEERS, Ours, Peer, float_command, quantize_command, run_peer
from benchmarks.quantization.subjects import Subject
from edgeport.backends.artifacts import make_artifact
from edgeport.calibration.data import NpzSamples
from edgeport.contracts import ExecutionConfig, Precision, to_jsonable
from edgeport.errors import EdgeportError
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.benchmarking.artifact import BenchSettings, open_artifact
from edgeport.pipeline.output.artifact_folder import write_artifact_record

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
    ways: list[tuple[str, str, str, Callable[[Path, Path], Ended]]] = [
        *((name, "float", of[0], partial(_float, folder, *of)) for name, of in FLOATS.items()),
        *((one.name, one.kind, one.runtime, partial(_ours, folder, one)) for one in OURS.values()),
        *((one.name, "peer", one.runtime, partial(_peer, subject, folder, one)) for one in PEERS.values()),
    ]
    found = []
    for name, kind, runtime, build in ways:
        place = folder / "candidates" / slug(name)
        if (not names or name in names) and (make or (place / "ended.json").exists()):
            ended = kept(place / "ended.json", dict, partial(_built, place, build))
            found.append(Candidate(name=name, kind=kind, runtime=runtime, folder=place / "built", **ended))
    return found


def _built(place: Path, build: Callable[[Path, Path], Ended]) -> dict[str, str]:
    """Makes it; what became of it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        try:
            ended = build(place / "built", Path(scratch))
        except EdgeportError as error:
            return {"why": f"does not run: {error.code}", "told": error.found[:300]}
    return {"why": ended.why, "told": ended.told if ended.why else ""}


def _float(folder: Path, runtime: str, precision: str, built: Path, _scratch: Path) -> Ended:
    return watched(float_command(folder / "model.onnx", built, runtime=runtime, precision=precision))


def _ours(folder: Path, ours: Ours, built: Path, _scratch: Path) -> Ended:
    return watched(quantize_command(folder / "model.onnx", folder / "calibration.npz", built, ours))


def _peer(subject: Subject, folder: Path, peer: Peer, built: Path, scratch: Path) -> Ended:
    """The peer's file, described as an artifact; it is opened once, so that one that does not run is found."""
    model, samples = folder / "model.onnx", folder / "calibration.npz"
    if peer.of:
        file, ended = folder / "candidates" / slug(peer.of) / "built" / "artifact" / "model.xml", Ended()
        if not file.exists():
            return Ended(why="not built", told=f"{peer.of} was not")
    else:
        file, ended = run_peer(peer, model, samples, len(NpzSamples(samples)), scratch, subject.transformer)
    if not ended.why and peer.runtime == "openvino":
        _describe_ir(file, model, built, peer.hint)
    elif not ended.why:
        _describe_onnx(file, built, scratch)
    return ended


def _describe_onnx(file: Path, built: Path, scratch: Path) -> None:
    """As `edgeport bench` takes an ONNX file: whatever it holds runs as it stands."""
    artifact = open_artifact(file, BenchSettings(backend="onnxruntime"), scratch / "opened").artifact
    built.mkdir()
    shutil.copytree(artifact.folder, built / "artifact")
    write_artifact_record(built, to_jsonable(artifact), to_jsonable(open_onnx(file)))


def _describe_ir(file: Path, float_model: Path, built: Path, hint: str) -> None:
    (built / "artifact").mkdir(parents=True)
    for part in (file, file.with_suffix(".bin")):
        shutil.copy(part, built / "artifact" / part.name)
    model = open_onnx(float_model)
    names = {"inputs": [spec.name for spec in model.inputs], "outputs": [spec.name for spec in model.outputs]}
    artifact = make_artifact(
        backend="openvino",
        folder=built / "artifact",
        entry=file.name,
        session="edgeport.backends.openvino.session",
        settings={"device": "CPU", "precision": hint, "batch": 1, **names},
        precision=Precision.INT8,
        execution=ExecutionConfig(),
    )
    write_artifact_record(built, to_jsonable(artifact), to_jsonable(model))
